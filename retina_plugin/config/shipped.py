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
    """Return ``name`` itself if that is a file, else the path of the shipped config if it begins with "configs/".

    Another name comes back unchanged; opening it fails with a sentence.
    """
    if name.startswith(_PREFIX) and not os.path.exists(name):
        shipped = CONFIGS / name.removeprefix(_PREFIX)
        if shipped.is_file():
            return str(shipped)
    return name


def find_base(path: str) -> str:
    """Return the file behind a ``_BASE_``: ``path`` if it exists, else the shipped one of its name in "configs/"."""
    _, mark, name = f"/{path}".rpartition(f"/{_PREFIX}")
    shipped = CONFIGS / name
    return str(shipped) if mark and not os.path.exists(path) and shipped.is_file() else path


def list_configs() -> list[str]:
    """List the shipped configs to train with, by the names that ``find_config`` takes, without the rows of studies."""
    paths = [*CONFIGS.glob("*.yaml"), *CONFIGS.glob("examples/*.yaml")]
    if not paths:
        raise SetupError(f"{_PACKAGE} was installed without its configs: install the plugin again.")
    return [_PREFIX + path.relative_to(CONFIGS).as_posix() for path in sorted(paths)]
