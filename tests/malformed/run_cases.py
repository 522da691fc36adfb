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
    """``make`` changes the good COCO folder ``set`` or adds files; ``*`` in the message stands for PyTorch's words,
    or for a path of the test."""

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


MY = ("--config-file", "my.yaml")
WEIGHTS = (*IN_PARTS, "MODEL.WEIGHTS", "w.pth")

RUN_CASES = [
    RunCase(
        "config_misspelt_key",
        nothing,
        ("DATASETS.TRIAN_PATH", "set"),
        "There is no config key DATASETS.TRIAN_PATH; did you mean DATASETS.TRAIN_PATH? (command line)",
    ),
    RunCase(
        "config_word_for_number",
        nothing,
        (*IN_PARTS, "SOLVER.BASE_LR", "fast"),
        "SOLVER.BASE_LR takes a float, got 'fast' (command line)",
    ),
    RunCase(
        "config_key_without_value",
        nothing,
        (*IN_PARTS, "SOLVER.BASE_LR"),
        "Overrides must be KEY VALUE pairs, got 21 words: * SOLVER.BASE_LR.",
    ),
    RunCase(
        "config_equals_sign",
        nothing,
        ("DATASETS.TRAIN_PATH=set", "SEED", "1"),
        "Overrides are KEY VALUE with a space, got 'DATASETS.TRAIN_PATH=set': write DATASETS.TRAIN_PATH set.",
    ),
    RunCase(
        "config_missing_file",
        nothing,
        ("--config-file", "no.yaml"),
        "Config file no.yaml does not exist. . has no YAML file.",
    ),
    RunCase(
        "config_broken_yaml",
        file("my.yaml", "MODEL:\n  RETINANET: {NUM_CLASSES: 3\n"),
        MY,
        "Config file my.yaml, line 3, column 1 is not valid YAML: expected ',' or '}', but got '<stream end>'.",
    ),
    RunCase(
        "config_tab",
        file("my.yaml", "MODEL:\n\tDEVICE: cpu\n"),
        MY,
        "Config file my.yaml, line 2, column 1 is not valid YAML: found character '\\t' that cannot start any token.",
    ),
    RunCase(
        "config_list", file("my.yaml", "- MODEL\n"), MY, "Config file my.yaml must hold KEY: VALUE pairs, got a list."
    ),
    RunCase(
        "config_group_as_number",
        file("my.yaml", "VERSION: 2\nMODEL: 3\n"),
        MY,
        "MODEL is a group of keys, such as MODEL.LOAD_PROPOSALS, got 3 (my.yaml, line 2)",
    ),
    RunCase(
        "config_key_twice",
        file("my.yaml", "SEED: 1\nSEED: 2\n"),
        MY,
        "Config file my.yaml has SEED twice, in lines 1 and 2: merge the two, the first would be lost.",
    ),
    RunCase(
        "config_sampler",
        nothing,
        (*IN_PARTS, "DATALOADER.SAMPLER_TRAIN", "Balanced"),
        "DATALOADER.SAMPLER_TRAIN must be one of 'TrainingSampler', 'RepeatFactorTrainingSampler', "
        "'RandomSubsetTrainingSampler', 'WeightedTrainingSampler', 'WeightedCategoryTrainingSampler', got 'Balanced'.",
    ),
    RunCase(
        "config_sampler_without_threshold",
        nothing,
        (*IN_PARTS, "DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"),
        "DATALOADER.REPEAT_THRESHOLD is 0, so SAMPLER_TRAIN RepeatFactorTrainingSampler repeats nothing: set it to "
        "the part of the images below which a class is rare, such as 0.1.",
    ),
    RunCase(
        "config_fraction",
        nothing,
        ("DATASETS.TRAIN_PATH", "set", "DATASETS.VAL_FRACTION", "20"),
        "DATASETS.VAL_FRACTION must be in [0, 1), got 20: 0.2 is a fifth.",
    ),
    RunCase(
        "config_path_missing",
        nothing,
        ("DATASETS.TRAIN_PATH", "sett"),
        "DATASETS.TRAIN_PATH is sett, which does not exist: give the folder or file of the boxes.",
    ),
    RunCase(
        "config_own",
        file("my.yaml", "DATASETS:\n  OWN:\n    - {name: a, path: set}\n"),
        MY,
        "DATASETS.OWN was removed: list the paths in DATASETS.TRAIN_PATH and VAL_PATH, which take several, or register "
        "each set in Python with retina_plugin.register_boxes(name, path) (my.yaml, line 2)",
    ),
    RunCase(
        "folder_with_a_bad_box",
        change("annotations", 2, "bbox", [1, 2, 3]),
        IN_PARTS,
        "set: annotation 3 in set/boxes.json must have bbox [x, y, width, height], got [1, 2, 3] (annotation id 3). "
        "Correct or delete the records.",
    ),
    RunCase(
        "json_without_its_folder",
        nothing,
        BY_JSON[:2],
        "DATASETS.TRAIN_JSON is 'set/boxes.json', but DATASETS.TRAIN_IMAGES is empty: set it to the folder of its "
        "images.",
    ),
    RunCase(
        "json_missing_folder",
        nothing,
        (*BY_JSON[:3], "set/photos"),
        "custom_train: the image folder set/photos (*/set/photos) does not exist. Set DETECTRON2_DATASETS to the "
        "folder of Detectron2's sets, or DATASETS.TRAIN_IMAGES / VAL_IMAGES to your folder.",
    ),
    RunCase(
        "json_missing",
        nothing,
        ("DATASETS.TRAIN_JSON", "/no.json", *BY_JSON[2:]),
        "custom_train: the annotation file /no.json does not exist. Set DETECTRON2_DATASETS to the folder of "
        "Detectron2's sets, or DATASETS.TRAIN_JSON / VAL_JSON to your file.",
    ),
    RunCase(
        "json_normalised",
        normalise,
        BY_JSON,
        "custom_train: 6 of 6 boxes (the first: [0.0625, 0.09375, 0.375, 0.375], annotation id 1, image id 0, "
        "set/images/a.png) lie within 0..1, so they seem normalised. Multiply by the size of the image.",
    ),
    RunCase(
        "json_bbox_of_three",
        change("annotations", 2, "bbox", [1, 2, 3]),
        BY_JSON,
        "custom_train: annotation 3 in set/boxes.json must have bbox [x, y, width, height], got [1, 2, 3] (annotation "
        "id 3). Correct or delete the records.",
    ),
    RunCase(
        "json_no_annotation",
        change("annotations", []),
        BY_JSON,
        "custom_train: no image has an annotation (5 images, crowds not counted): there is nothing to learn from. "
        "Look at set/boxes.json.",
    ),
    RunCase(
        "json_other_size",
        change("images", 0, "height", 64),
        BY_JSON,
        "custom_train: 1 of 5 images cannot be used: set/images/a.png is 64x48, but on record 64x64. "
        "Replace the files or correct the records.",
    ),
    RunCase(
        "json_image_cut_off",
        cut_image,
        BY_JSON,
        "custom_train: 1 of 5 images cannot be used: set/images/b.png cannot be read (OSError: image file is "
        "truncated). Replace the files or correct the records.",
    ),
    RunCase(
        "weights_missing",
        nothing,
        WEIGHTS,
        "MODEL.WEIGHTS w.pth is not a file. Give the path of a .pth or .pkl checkpoint.",
    ),
    RunCase(
        "weights_are_a_folder",
        nothing,
        (*IN_PARTS, "MODEL.WEIGHTS", "set"),
        "MODEL.WEIGHTS set is not a file. Give the path of a .pth or .pkl checkpoint.",
    ),
    RunCase("weights_empty", file("w.pth", b""), WEIGHTS, "MODEL.WEIGHTS w.pth is empty. Copy or download it again."),
    RunCase(
        "weights_are_html",
        file("w.pth", "<html>sign in</html>"),
        WEIGHTS,
        "w.pth cannot be read as a checkpoint (*). Give a .pth, .pkl or .safetensors file of Detectron2 or of this "
        "plugin.",
    ),
    RunCase(
        "weights_cut_off",
        file("w.pth", b"PK\x03\x04 cut off"),
        WEIGHTS,
        "w.pth cannot be read as a checkpoint: it is cut short or overwritten in part. Copy or download it again.",
    ),
    RunCase(
        "weights_are_a_list",
        save_list,
        WEIGHTS,
        "w.pth cannot be read as a checkpoint (it holds list, not a state dict). Give a .pth, .pkl or .safetensors "
        "file of Detectron2 or of this plugin.",
    ),
]
