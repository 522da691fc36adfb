"""The YAML files that come with the plugin, found from any folder: in the repository, or installed with the package."""

import os
from pathlib import Path

from ..errors import SetupError

__all__ = ["CONFIGS", "find_base", "find_config", "list_configs"]

_PACKAGE = Path(__file__).resolve().parents[1]
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


def find_base(path: str) -> str:
    """The file behind a ``_BASE_``: ``path`` where it is there, else the shipped one of its name in "configs/"."""
    _, mark, name = f"/{path}".rpartition(f"/{_PREFIX}")
    shipped = CONFIGS / name
    return str(shipped) if mark and not os.path.exists(path) and shipped.is_file() else path


def list_configs() -> list[str]:
    """The shipped configs to train with, by the names that ``find_config`` takes; the studies' rows are left out."""
    paths = [*CONFIGS.glob("*.yaml"), *CONFIGS.glob("examples/*.yaml")]
    if not paths:
        raise SetupError(f"{_PACKAGE} was installed without its configs: install the plugin again.")
    return [_PREFIX + path.relative_to(CONFIGS).as_posix() for path in sorted(paths)]
