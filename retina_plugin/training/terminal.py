"""What a run says on the terminal: its essentials. Detectron2's long dumps go to ``log.txt`` alone."""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from detectron2.config import CfgNode

__all__ = ["describe_training", "terminal_essentials"]

# Logger -> beginnings of what it logs for the file: the config twice, environment, model and parameters as text, counts
# that the plugin has said in a line before.
DUMPS = {
    "detectron2": (
        "Rank of current process", "Environment info:", "Command line arguments:", "Contents of args.config_file=",
        "Running with full config:", "Full config saved to",
    ),
    "detectron2.engine.defaults": ("Model:\n",),
    "detectron2.data.build": ("Distribution of instances",),
    "detectron2.data.common": ("Serializ",),
    "detectron2.data.datasets.coco": ("Loaded ", "Loading "),
    "detectron2.checkpoint.c2_model_loading": ("Following weights matched",),
}  # fmt: skip
WRITER_PERIOD = 20  # of Detectron2's DefaultTrainer.build_hooks: iterations between two lines of losses


@contextmanager
def terminal_essentials(*, verbose: bool) -> Iterator[None]:
    """Around Detectron2's ``default_setup``: keep DUMPS from the terminal, from then on, unless ``verbose``.

    Warnings and errors always pass. The file has everything.
    """
    root = logging.getLogger("detectron2")

    # default_setup makes the handler and logs the first dump in one go: the logger's own filter comes between.
    def attend(record: logging.LogRecord) -> bool:
        for handler in root.handlers:
            if getattr(handler, "stream", None) is sys.stdout:
                (handler.removeFilter if verbose else handler.addFilter)(_is_essential)
        return True

    root.addFilter(attend)
    try:
        yield
    finally:
        root.removeFilter(attend)


def _is_essential(record: logging.LogRecord) -> bool:
    name = record.name.replace("d2.", "detectron2.", 1) if record.name.startswith("d2.") else record.name
    return record.levelno >= logging.WARNING or not record.getMessage().startswith(DUMPS.get(name, ()))


def describe_training(cfg: CfgNode, data: Mapping) -> str:
    """Length, sizes and what comes next, in a line.

    Args:
        cfg: of the run; data: a ``DataSummary`` as a dict.
    """
    solver, size = cfg.SOLVER, cfg.INPUT
    kept = "images_with_annotations" if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS else "images"
    images = sum(data["sets"][name][kept] for name in cfg.DATASETS.TRAIN)
    epochs = solver.MAX_ITER * solver.IMS_PER_BATCH / max(images, 1)
    return (
        f"training: {solver.MAX_ITER} iterations of {solver.IMS_PER_BATCH} images ({epochs:.3g} epochs); shorter side "
        f"{_sides(size.MIN_SIZE_TRAIN)} (longer: at most {size.MAX_SIZE_TRAIN} px), in tests "
        f"{_sides([size.MIN_SIZE_TEST])}; losses and the time left every {WRITER_PERIOD} iterations"
    )


def _sides(sides: list[int]) -> str:
    low, high = min(sides), max(sides)
    if low == 0:
        return "as it is" if high == 0 else f"as it is to {high} px"
    return f"{low} px" if low == high else f"{low} to {high} px"
