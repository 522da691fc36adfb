"""The YAML files that come with the plugin, found from any folder: in the repository, or installed with the package."""

import os
from pathlib import Path

from .errors import SetupError

__all__ = ["CONFIGS", "find_config", "list_configs"]

_PACKAGE = Path(__file__).resolve().parent
# setup.py installs the repository's configs/ into the package.
CONFIGS = next((path for path in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if path.is_dir()), _PACKAGE)
_PREFIX = "configs/"


def find_config(name: str) -> str:
    """The path of a config: ``name`` itself where that is a file, else the shipped one if it begins with "configs/".

    Another name comes back as it is, for whoever opens it to refuse.
    """
    if name.startswith(_PREFIX) and not os.path.exists(name):
        shipped = CONFIGS / name.removeprefix(_PREFIX)
        if shipped.is_file():
            return str(shipped)
    return name


def list_configs() -> list[str]:
    """The shipped configs to train with, by the names that ``find_config`` takes; the studies' rows are left out."""
    paths = [*CONFIGS.glob("*.yaml"), *CONFIGS.glob("examples/*.yaml")]
    if not paths:
        raise SetupError(f"{_PACKAGE} was installed without its configs: install the plugin again.")
    return [_PREFIX + path.relative_to(CONFIGS).as_posix() for path in sorted(paths)]
