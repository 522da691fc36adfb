"""Malformed inputs through the real entry points: each ends in its exact message, none in a traceback.

The inputs are in ``malformed/``; folders go through ``retina convert``, what Detectron2 has a say in through
``train_net.py``.
"""

import logging
import os
from pathlib import Path

import pytest
from detectron2.utils.logger import setup_logger
from malformed.csv_cases import CSV_CASES
from malformed.image_cases import IMAGE_CASES
from malformed.json_cases import COCO_CASES, LABELME_CASES
from malformed.run_cases import RUN_CASES
from malformed.voc_cases import VOC_CASES
from malformed.yolo_cases import YOLO_CASES
from own_folders import WRITERS, write_coco

from retina_cli.main import main

pytest_plugins = ("tiny_sets",)

CASES = [*VOC_CASES, *YOLO_CASES, *LABELME_CASES, *COCO_CASES, *CSV_CASES, *IMAGE_CASES]


def test_corpus_is_as_large_as_it_should_be():
    assert len({case.name for case in CASES}) == len(CASES) >= 40
    assert len({case.name for case in RUN_CASES}) == len(RUN_CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_convert_ends_in_the_message(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = WRITERS[case.kind](Path("set"))
    command = ["convert", "set", "--format", case.kind, "--output", "out.json"]
    assert main(command) == 0  # the folder is good before
    os.remove("out.json")
    capsys.readouterr()
    case.spoil(root)
    assert main(command) == 2
    assert capsys.readouterr().err == f"error: {case.message}\n"
    assert not os.path.exists("out.json")


# A detector that is built in a second; the words of a case go behind, or take the place of the file.
TINY = [
    "MODEL.DEVICE", "cpu", "MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64",
    "MODEL.RETINANET.NUM_CLASSES", "0", "DATALOADER.NUM_WORKERS", "0", "SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH",
    "1", "OUTPUT_DIR", "run",
]  # fmt: skip
CONFIG = Path(__file__).parents[2] / "configs" / "retina_R18_FPN_scratch.yaml"


@pytest.fixture
def fresh(clean_catalog):
    """Detectron2 keeps a logger's first output stream, which pytest closes after each test."""
    yield
    setup_logger.cache_clear()
    for name in ("detectron2", "fvcore", "retina_plugin"):
        logging.getLogger(name).handlers.clear()


@pytest.mark.parametrize("case", RUN_CASES, ids=lambda case: case.name)
def test_training_ends_in_the_message(case, tmp_path, monkeypatch, capsys, fresh):
    monkeypatch.chdir(tmp_path)
    case.make(write_coco(Path("set")))
    has_file = case.words[0] == "--config-file"
    words = (
        [*case.words[:2], *TINY, *case.words[2:]] if has_file else ["--config-file", str(CONFIG), *TINY, *case.words]
    )
    assert main(["train", *words]) == 2
    said = f"\n{capsys.readouterr().err}".rpartition("\nerror: ")[2]
    start, star, end = case.message.partition("*")
    if star:
        assert said.startswith(start) and said.endswith(f"{end}\n")
    else:
        assert said == f"{case.message}\n"
