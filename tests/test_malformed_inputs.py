"""Malformed inputs through the real entry points: each ends in its exact message, none in a traceback.

The inputs are in ``malformed/``; folders go through ``retina convert``, what Detectron2 has a say in through
``train_net.py``.
"""

import os
from pathlib import Path

import pytest
from malformed.csv_cases import CSV_CASES
from malformed.image_cases import IMAGE_CASES
from malformed.json_cases import COCO_CASES, LABELME_CASES
from malformed.voc_cases import VOC_CASES
from malformed.yolo_cases import YOLO_CASES
from own_folders import WRITERS

from retina_plugin.__main__ import main

CASES = [*VOC_CASES, *YOLO_CASES, *LABELME_CASES, *COCO_CASES, *CSV_CASES, *IMAGE_CASES]


def test_corpus_is_as_large_as_it_should_be():
    assert len({case.name for case in CASES}) == len(CASES) >= 40


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
