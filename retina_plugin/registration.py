"""Registers the plugin's parts in Detectron2: at once if that is imported already, else as soon as it is.

Detectron2 and torch take seconds to import, which a command that lists or explains something need not spend.
"""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec

__all__ = ["register_with_detectron2"]

REQUIRED = ("torch", "torchvision", "detectron2")


def register_with_detectron2() -> None:
    """See that no code meets a Detectron2 without the plugin's parts. Calling it again changes nothing.

    Raises:
        ImportError: a package that the plugin needs is not installed, or torch and torchvision do not fit together.
    """
    if "detectron2" in sys.modules:
        _register()
        return
    for package in REQUIRED:
        if not _is_installed(package):
            raise ImportError(
                f"retina_plugin needs {package}, which is not installed. "
                "`make setup` in the plugin's folder installs all."
            )
    if not any(isinstance(finder, _Detectron2Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Detectron2Finder())


def _register() -> None:
    # compat first: it prepares the import of Detectron2's modules. A part that is half imported registers at its end.
    for module in (".compat", ".modeling", ".data.sample.catalog"):
        importlib.import_module(module, __package__)


def _is_installed(package: str) -> bool:
    try:
        return package in sys.modules or importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


class _Detectron2Finder:
    """Finds Detectron2 where the other finders do, and has ``_register`` run right after its top module."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        if name != "detectron2":
            return None
        specs = (f.find_spec(name, path, target) for f in sys.meta_path if f is not self and hasattr(f, "find_spec"))
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None or spec.loader is None:  # a folder of that name, without code
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module) -> None:
            execute(module)
            _register()

        spec.loader.exec_module = execute_and_register
        return spec
