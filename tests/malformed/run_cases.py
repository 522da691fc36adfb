"""Configs, weights and COCO JSON for ``train_net.py``."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from .json_cases import change

IN_PARTS = ("DATASETS.TRAIN_PATH", "set", "DATASETS.VAL_FRACTION", "0.4")
BY_JSON = ("DATASETS.TRAIN_JSON", "set/boxes.json", "DATASETS.TRAIN_IMAGES", "set/images")


class RunCase(NamedTuple):
    """``make`` changes the good COCO folder ``set`` or adds files; ``*`` in the message stands for PyTorch's words."""

    name: str
    make: Callable[[Path], object]
    words: tuple[str, ...]
    message: str


def nothing(root: Path) -> None:
    """The words alone are wrong."""


def file(name: str, content: str | bytes) -> Callable[[Path], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda root: (root.parent / name).write_bytes(data)


def normalise(root: Path) -> None:
    content = json.loads((root / "boxes.json").read_text())
    for annotation in content["annotations"]:
        annotation["bbox"] = [value / 64 for value in annotation["bbox"]]
    (root / "boxes.json").write_text(json.dumps(content))


def cut_image(root: Path) -> None:
    Image.effect_noise((64, 48), 90).save(root / "images/b.png")
    data = (root / "images/b.png").read_bytes()
    (root / "images/b.png").write_bytes(data[: len(data) // 2])


def save_list(root: Path) -> None:
    import torch

    torch.save([1, 2], root.parent / "w.pth")


def own(text: str) -> Callable[[Path], object]:
    return file("my.yaml", f"DATASETS:\n  OWN:\n    - {text}\n")


MY = ("--config-file", "my.yaml")
WEIGHTS = (*IN_PARTS, "MODEL.WEIGHTS", "w.pth")

RUN_CASES = [
    RunCase("config_misspelt_key", nothing, ("DATASETS.TRIAN_PATH", "set"), ""),
    RunCase("config_word_for_number", nothing, (*IN_PARTS, "SOLVER.BASE_LR", "fast"), ""),
    RunCase("config_key_without_value", nothing, (*IN_PARTS, "SOLVER.BASE_LR"), ""),
    RunCase("config_equals_sign", nothing, ("DATASETS.TRAIN_PATH=set", "SEED", "1"), ""),
    RunCase("config_missing_file", nothing, ("--config-file", "no.yaml"), ""),
    RunCase("config_broken_yaml", file("my.yaml", "MODEL:\n  RETINANET: {NUM_CLASSES: 3\n"), MY, ""),
    RunCase("config_tab", file("my.yaml", "MODEL:\n\tDEVICE: cpu\n"), MY, ""),
    RunCase("config_list", file("my.yaml", "- MODEL\n"), MY, ""),
    RunCase("config_group_as_number", file("my.yaml", "VERSION: 2\nMODEL: 3\n"), MY, ""),
    RunCase("config_key_twice", file("my.yaml", "SEED: 1\nSEED: 2\n"), MY, ""),
    RunCase("config_sampler", nothing, (*IN_PARTS, "DATALOADER.SAMPLER_TRAIN", "Balanced"), ""),
    RunCase("config_sampler_without_threshold", nothing,
            (*IN_PARTS, "DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"), ""),
    RunCase("config_fraction", nothing, ("DATASETS.TRAIN_PATH", "set", "DATASETS.VAL_FRACTION", "20"), ""),
    RunCase("config_path_missing", nothing, ("DATASETS.TRAIN_PATH", "sett"), ""),
    RunCase("config_own_misspelt", own("{name: a, paht: set}"), MY, ""),
    RunCase("config_own_as_text", own("set"), MY, ""),
    RunCase("config_own_split_as_number", own("{name: a, path: set, split: 0.2}"), MY, ""),
    RunCase("config_own_no_format", own("{name: a, path: set, format: coco_json}"), MY, ""),
    RunCase("folder_with_a_bad_box", change("annotations", 2, "bbox", [1, 2, 3]), IN_PARTS, ""),
    RunCase("json_without_its_folder", nothing, BY_JSON[:2], ""),
    RunCase("json_missing_folder", nothing, (*BY_JSON[:3], "set/photos"), ""),
    RunCase("json_missing", nothing, ("DATASETS.TRAIN_JSON", "/no.json", *BY_JSON[2:]), ""),
    RunCase("json_normalised", normalise, BY_JSON, ""),
    RunCase("json_bbox_of_three", change("annotations", 2, "bbox", [1, 2, 3]), BY_JSON, ""),
    RunCase("json_no_annotation", change("annotations", []), BY_JSON, ""),
    RunCase("json_other_size", change("images", 0, "height", 64), BY_JSON, ""),
    RunCase("json_image_cut_off", cut_image, BY_JSON, ""),
    RunCase("weights_missing", nothing, WEIGHTS, ""),
    RunCase("weights_are_a_folder", nothing, (*IN_PARTS, "MODEL.WEIGHTS", "set"), ""),
    RunCase("weights_empty", file("w.pth", b""), WEIGHTS, ""),
    RunCase("weights_are_html", file("w.pth", "<html>sign in</html>"), WEIGHTS, ""),
    RunCase("weights_cut_off", file("w.pth", b"PK\x03\x04 cut off"), WEIGHTS, ""),
    RunCase("weights_are_a_list", save_list, WEIGHTS, ""),
]  # fmt: skip
