"""The one place that knows how Detectron2 v0.6 and main, and today's Pillow and torch, differ.

Imported before any module of Detectron2. docs/compatibility.md has the table of tested versions.
"""

import warnings

__all__ = []

try:
    import PIL.Image

    # Detectron2 v0.6 names it at import; Pillow dropped it in version 10.
    if not hasattr(PIL.Image, "LINEAR"):
        PIL.Image.LINEAR = PIL.Image.BILINEAR
    # Detectron2's anchors on both versions call meshgrid without it.
    warnings.filterwarnings("ignore", message=r"torch\.meshgrid: in an upcoming release", category=UserWarning)
    import detectron2
    import torchvision.ops  # noqa: F401

    # fvcore and Detectron2 script functions at import; nothing a user of them can change. A user's own are not hushed.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script.*deprecated")
        from detectron2.modeling.meta_arch import retinanet

    if detectron2.__version__ == "0.6":  # main calls itself so too, and takes no harm
        # Its head makes the norm layer of one channel, only to see its type; torch refuses GN's 32 groups of one.
        _get_norm = retinanet.get_norm
        retinanet.get_norm = lambda norm, channels: _get_norm(norm, max(channels, 32))
except ModuleNotFoundError as error:
    raise ImportError(
        f"retina_plugin needs {error.name}, which is not installed. `make setup` in the plugin's folder installs all."
    ) from error
except RuntimeError as error:  # "operator torchvision::nms does not exist"
    from importlib.metadata import version

    raise ImportError(
        f"torch {version('torch')} and torchvision {version('torchvision')} are not built for each other ({error}). "
        "Install the torchvision release that names this torch release as its requirement."
    ) from error
