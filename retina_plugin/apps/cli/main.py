"""``retina``: the command-line programs of the plugin under one name."""

import importlib
import sys
from collections.abc import Sequence

__all__ = ["main"]

# Subcommand -> its group, the module with main(argv) -> exit status, and what it does. Imported when it is asked for.
COMMANDS = {
    "sample": ("data", "retina_plugin.data.sample.files", "write the built-in sample set: digits on photographs"),
    "convert": ("data", "retina_plugin.apps.cli.convert", "write boxes in VOC, YOLO, LabelMe or CSV form as COCO JSON"),
    "doctor": ("data", "retina_plugin.apps.cli.doctor", "find what would spoil a training, before it starts"),
    "configs": ("training", "retina_plugin.apps.cli.configs", "list and copy the configs that come with it"),
    "train": ("training", "retina_plugin.apps.cli.train", "train a detector, or score a checkpoint"),
    "study": ("training", "retina_plugin.apps.cli.study", "run the paper's ablations on a data set and report them"),
    "analyze": ("looking", "retina_plugin.apps.cli.analyze", "look at losses, imbalance, anchors and assignment"),
    "convert-weights": (
        "training",
        "retina_plugin.apps.cli.convert_weights",
        "torchvision's RetinaNet weights for Detectron2",
    ),
    "evaluate": (
        "looking",
        "retina_plugin.apps.cli.evaluate",
        "judge a detector: AP, errors, confusion, calibration",
    ),
    "compare": ("looking", "retina_plugin.apps.cli.compare", "compare two detectors on the same images"),
    "predict": ("looking", "retina_plugin.apps.cli.predict", "find objects in images, folders, videos or a camera"),
    "benchmark": ("looking", "benchmarks.cli", "time the plugin beside its peers"),
    "export": ("shipping", "retina_plugin.apps.cli.export", "write a detector as ONNX, TorchScript or torch.export"),
}
GROUPS = ("data", "training", "looking", "shipping")  # in the order of the work; a group without commands is left out

EXAMPLES = """
Examples:
  train on a folder of Pascal VOC, YOLO, LabelMe, CSV or COCO boxes
    retina train --config-file configs/retina_R18_FPN_scratch.yaml OUTPUT_DIR output/mine \\
        DATASETS.TRAIN_PATH my_folder DATASETS.VAL_FRACTION 0.2 MODEL.RETINANET.NUM_CLASSES 0
  find objects with what was trained
    retina predict output/mine/model_final.pth photos --output found
  see whether the anchors fit the boxes
    retina analyze anchors --config-file my.yaml --output output/anchors
  the paper's comparison of alphas, small: what it would take
    retina study run alpha --config-file configs/study/small.yaml --dry-run
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the arguments to a subcommand; the return value is the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage(), end="")
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from ... import __version__

        print(f"retina_plugin {__version__}")
        return 0
    if arguments[0] not in COMMANDS:
        from ...config.yaml_source import find_nearest

        near = find_nearest(arguments[0], list(COMMANDS))
        hint = f"did you mean {near}?" if near else f"it must be one of {', '.join(COMMANDS)}."
        print(f"error: there is no command {arguments[0]!r}: {hint}", file=sys.stderr)
        return 2
    return importlib.import_module(COMMANDS[arguments[0]][1]).main(arguments[1:])


def _usage() -> str:
    groups = {group: [name for name in COMMANDS if COMMANDS[name][0] == group] for group in GROUPS}
    width = max(map(len, COMMANDS)) + 2
    parts = [
        f"\n{group}\n" + "".join(f"  {name:{width}}{COMMANDS[name][2]}\n" for name in names)
        for group, names in groups.items()
        if names
    ]
    return f"usage: retina COMMAND ...\n{EXAMPLES}{''.join(parts)}\nretina COMMAND --help has the examples of each.\n"


if __name__ == "__main__":
    sys.exit(main())
