"""Log lines of a run: its essentials on the terminal, Detectron2's long dumps in ``log.txt`` alone; both escaped."""

import logging
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from detectron2.config import CfgNode
from detectron2.utils.logger import _cached_log_stream, setup_logger

from ..errors import name_some, printable
from ..evaluation.coco_evaluator import SUMMARY

__all__ = [
    "describe_scores", "describe_training", "escape_control_characters", "figures_later", "filtered",
    "hide_cuda_home", "log_handlers", "remove_former_handlers", "terminal_essentials",
]  # fmt: skip

# Logger -> first words of its messages that go to the file only: two copies of the config, environment, model, matched
# parameters, and what the plugin says in one line: counts before, and scores after an evaluation.
DUMPS = {
    "detectron2": (
        "Rank of current process", "Environment info:", "Command line arguments:", "Contents of args.config_file=",
        "Running with full config:", "Full config saved to",
    ),
    "detectron2.engine.defaults": ("Model:\n", "Evaluation results for"),
    "detectron2.engine.hooks": ("Loading scheduler",),
    "detectron2.data.build": (
        "Distribution of instances", "Removed 0 images", "Using training sampler", "Making batched data loader",
    ),
    "detectron2.data.common": ("Serializ",),
    "detectron2.data.dataset_mapper": ("[DatasetMapper]",),
    "detectron2.evaluation.coco_evaluation": ("",),
    "detectron2.evaluation.evaluator": ("Inference done", "Total inference"),
    "detectron2.evaluation.fast_eval_api": ("",),
    "detectron2.evaluation.testing": ("copypaste",),
    "retina_plugin.evaluation.coco_evaluator": (SUMMARY,),
    "detectron2.data.datasets.coco": ("Loaded ", "Loading "),
    "detectron2.checkpoint.c2_model_loading": ("Following weights matched",),
}  # fmt: skip
# Logger -> first words of warnings that are expected: the category ids of a file need not count from 1.
EXPECTED = {"detectron2.data.datasets.coco": ("Category ids in annotations are not in [1, #categories]!",)}
LOGGERS = ("detectron2", "fvcore", "retina_plugin")
WRITER_PERIOD = 20  # iterations between two lines of losses: Detectron2's DefaultTrainer.build_hooks
_PROGRESS = re.compile(r"Inference done (\d+)/(\d+)")
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")  # Detectron2 colours its own lines with it
_PLAIN = logging.Formatter()


def remove_former_handlers() -> None:
    """Take away the handlers that an earlier run of this process, or a notebook, has set up by ``setup_logger``.

    They would write the lines of this run into the log of that one, and print each line twice.
    """
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            if type(handler) is logging.StreamHandler and handler.stream is not sys.stderr:
                logger.removeHandler(handler)
    setup_logger.cache_clear()  # it adds nothing for arguments that it has seen
    _cached_log_stream.cache_clear()


@contextmanager
def terminal_essentials(*, verbose: bool) -> Iterator[None]:
    """Hide DUMPS on the terminal, unless ``verbose``; wrap Detectron2's ``default_setup`` in it.

    Errors are always shown, and warnings except for EXPECTED. The file has everything.
    """
    root = logging.getLogger("detectron2")

    # default_setup creates the handler and logs the first dump before it returns, so a filter of the logger adds the
    # handler's filter in between.
    def filter_handlers(record: logging.LogRecord) -> bool:
        for handler in root.handlers:
            if getattr(handler, "stream", None) is sys.stdout:
                (handler.removeFilter if verbose else handler.addFilter)(_is_essential)
        return True

    root.addFilter(filter_handlers)
    try:
        yield
    finally:
        root.removeFilter(filter_handlers)


def hide_cuda_home() -> None:
    """Silence torch's warning of a CUDA_HOME without CUDA, which asking for the environment raises."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def describe_scores(results: Mapping) -> list[str]:
    """Describe the results of one data set, as ``RetinaTrainer.test`` returns them, in two lines a task at most."""
    lines = []
    for task, scores in results.items():
        scores = {name: value for name, value in scores.items() if math.isfinite(value)}
        main = ", ".join(f"{name} {value:.1f}" for name, value in scores.items() if "-" not in name)
        lines.append(f"{task} {main or 'nothing was found'}")
        by_class = sorted((value, name[3:]) for name, value in scores.items() if name.startswith("AP-"))
        if by_class:
            lines.append(f"{task} AP by class, worst first: {name_some([f'{n} {v:.1f}' for v, n in by_class], 10)}")
    return lines


def _is_essential(record: logging.LogRecord) -> bool:
    name = record.name.replace("d2.", "detectron2.", 1) if record.name.startswith("d2.") else record.name
    hidden = (EXPECTED if record.levelno >= logging.WARNING else DUMPS).get(name, ())
    return not record.getMessage().lstrip().startswith(hidden)  # a filter that escapes may have indented it


@contextmanager
def figures_later() -> Iterator[None]:
    """Hide an evaluation on the terminal, of whose figures the caller shows its own: all but warnings and progress.

    Progress is a line for each tenth of the images, at most. The file has everything.
    """
    last_tenth = -1

    def is_shown(record: logging.LogRecord) -> bool:
        nonlocal last_tenth
        if record.levelno >= logging.WARNING:
            return _is_essential(record)
        if not (progress := _PROGRESS.match(record.getMessage())):
            return False
        done, total = map(int, progress.groups())
        last_tenth, before = max(last_tenth, 10 * done // total), last_tenth
        return last_tenth > before

    with filtered((each for each in log_handlers() if getattr(each, "stream", None) is sys.stdout), is_shown):
        yield


def log_handlers() -> set[logging.Handler]:
    """Return the handlers of Detectron2's loggers and ours."""
    return {handler for name in LOGGERS for handler in logging.getLogger(name).handlers}


@contextmanager
def filtered(handlers: Iterable[logging.Handler], is_shown: Callable[[logging.LogRecord], bool]) -> Iterator[None]:
    """Within the block let handlers write only the records for which ``is_shown`` is true."""
    handlers = list(handlers)
    for handler in handlers:
        handler.addFilter(is_shown)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(is_shown)


def describe_training(cfg: CfgNode, data: Mapping) -> str:
    """Describe the length and image sizes of a training in one line.

    Args:
        cfg: config of the run.
        data: a ``DataSummary`` as a dict.
    """
    solver, size = cfg.SOLVER, cfg.INPUT
    kept = "images_with_annotations" if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS else "images"
    images = sum(data["sets"][name][kept] for name in cfg.DATASETS.TRAIN)

    def sides(lengths: list[int]) -> str:
        low, high = min(lengths), max(lengths)
        if low == 0:
            return "as it is" if high == 0 else f"as it is to {high} px"
        return f"{low} px" if low == high else f"{low} to {high} px"

    epochs = solver.MAX_ITER * solver.IMS_PER_BATCH / max(images, 1)
    return (
        f"training: {solver.MAX_ITER} iterations of {solver.IMS_PER_BATCH} images ({epochs:.3g} epochs); shorter side "
        f"{sides(size.MIN_SIZE_TRAIN)} (longer: at most {size.MAX_SIZE_TRAIN} px), in tests "
        f"{sides([size.MIN_SIZE_TEST])}; losses and the time left every {WRITER_PERIOD} iterations"
    )


class _Escape(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "is_escaped"):  # by another handler
            record.is_escaped = True
            record.msg, record.args = self._escaped(record.getMessage()), None
            if record.exc_info and not record.exc_text:  # every formatter appends it as it is, on lines of its own
                record.exc_text = "  " + self._escaped(_PLAIN.formatException(record.exc_info))
        return True

    def _escaped(self, text: str) -> str:
        """Indent further lines too, so that a name cannot begin a line of the log."""
        parts = (part if _COLOUR.fullmatch(part) else printable(part) for part in _COLOUR.split(text))
        return "".join(parts).replace("\n", "\n  ")


_ESCAPE = _Escape()


def escape_control_characters(*logger_names: str) -> None:
    """Escape control characters, except for colours, in the output of these loggers; repeated calls change nothing."""
    for name in logger_names:
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_ESCAPE)
