"""Detectron2's loading of a YAML file and its ``_BASE_``, without the tags that it would run."""

import io
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

from .safe_yaml import MAX_CHARACTERS, without_tags
from .shipped import find_base

__all__ = ["load_yaml"]


class _SafeCfgNode(CfgNode):
    """Opens every file so, those behind ``_BASE_`` and remote ones too."""

    @classmethod
    def _open_cfg(cls, filename: str) -> io.StringIO:
        with PathManager.open(find_base(filename), "r") as file:
            return io.StringIO(without_tags(file.read(MAX_CHARACTERS + 1), filename))


def load_yaml(config_file: str) -> dict[str, Any]:
    """The content of ``config_file`` over that of its ``_BASE_``, as Detectron2 loads it.

    Raises:
        SetupError: a tag asks for code.
        Exception: what PyYAML and fvcore raise on other mistakes.
    """
    return _SafeCfgNode.load_yaml_with_base(config_file, allow_unsafe=False)
