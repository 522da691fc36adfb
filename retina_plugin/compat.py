"""Everything that the plugin changes in Detectron2, torch and Pillow: one function per change, called by ``apply``.

docs/compatibility.md has the table of tested versions.
"""

import functools
import logging
import warnings
from importlib.metadata import version

from .errors import SetupError

__all__ = ["apply"]


@functools.cache
def apply() -> None:
    """Prepare Detectron2 v0.6 or main for the plugin. To be called before Detectron2 is imported; once is enough.

    Raises:
        ImportError: a package is missing, or torch and torchvision are not built for each other.
    """
    try:
        name_bilinear_linear()
        ignore_meshgrid_warning()
        import_without_scripting_warnings()
        accept_group_norm()
        wrap_models_on_the_cpu()
        log_no_traceback_of_a_setup_error()
    except ModuleNotFoundError as error:
        raise ImportError(
            f"retina_plugin needs {error.name}, which is not installed. "
            "`make setup` in the plugin's folder installs all."
        ) from error
    except RuntimeError as error:  # "operator torchvision::nms does not exist"
        raise ImportError(
            f"torch {version('torch')} and torchvision {version('torchvision')} are not built for each other "
            f"({error}). Install the torchvision release that names this torch release as its requirement."
        ) from error


def name_bilinear_linear() -> None:
    """Detectron2 v0.6 uses PIL.Image.LINEAR when it is imported; Pillow 10 dropped that name of BILINEAR."""
    import PIL.Image

    if not hasattr(PIL.Image, "LINEAR"):
        PIL.Image.LINEAR = PIL.Image.BILINEAR


def ignore_meshgrid_warning() -> None:
    """Detectron2 v0.6 and main call torch.meshgrid without ``indexing`` for their anchors; torch warns since 1.10."""
    warnings.filterwarnings("ignore", message=r"torch\.meshgrid: in an upcoming release", category=UserWarning)


def import_without_scripting_warnings() -> None:
    """fvcore and Detectron2 v0.6 and main script functions when they are imported, which torch 2.14 calls deprecated.

    A user's own scripting still warns.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script.*deprecated")
        import detectron2.engine
        import detectron2.evaluation
        import detectron2.modeling  # noqa: F401
        import torchvision.ops  # noqa: F401


def accept_group_norm() -> None:
    """Detectron2 v0.6 makes the head's norm of one channel, to see its type; torch refuses 32 groups of one channel."""
    import detectron2
    from detectron2.modeling.meta_arch import retinanet

    if detectron2.__version__ == "0.6":  # main has the same number, and this does it no harm
        get_norm = retinanet.get_norm
        retinanet.get_norm = lambda norm, channels: get_norm(norm, max(channels, 32))


def wrap_models_on_the_cpu() -> None:
    """Detectron2 v0.6 and main name a GPU for every model under DistributedDataParallel; torch refuses one on a CPU."""
    from detectron2.engine import defaults

    original = defaults.create_ddp_model

    @functools.wraps(original)
    def create_ddp_model(model, **options):
        if next(model.parameters()).device.type == "cpu":
            options.setdefault("device_ids", None)
        return original(model, **options)

    defaults.create_ddp_model = create_ddp_model  # where DefaultTrainer looks it up


def log_no_traceback_of_a_setup_error() -> None:
    """Keep the traceback of a ``SetupError`` out of the log: its message says what to do."""
    logging.getLogger("detectron2.engine.train_loop").addFilter(
        lambda record: not (record.exc_info and isinstance(record.exc_info[1], SetupError))
    )
