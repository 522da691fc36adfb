"""Read a YAML config and the files that it inherits from, and find the line of a key.

The message for a mistake names file and line; Detectron2 names neither. No tag runs code: ``safe_yaml.py``.
"""

import difflib
import os
from typing import Any

import yaml
from detectron2.utils.file_io import PathManager

from ..errors import SetupError
from ..reading import read_bytes
from .safe_yaml import MAX_CHARACTERS, parse_yaml
from .shipped import CONFIGS, find_base

__all__ = ["base_files", "find_line", "load_yaml"]

_REMOTE = "://"  # http(s) and Detectron2's own schemes, which its PathManager reads
MAX_FILES = 100  # guard: files that inherit twice multiply their reads; Detectron2's chains have 2
_MERGE_TAG = "tag:yaml.org,2002:merge"  # "<<" is not a key of the config and may be repeated


def load_yaml(config_file: str) -> dict[str, Any]:
    """Read ``config_file`` over the files in its ``_BASE_``, a later one over an earlier.

    Raises:
        SetupError: a file is missing, empty or no YAML mapping, repeats a key, asks for code, or inherits from itself
            or from too many files.
    """
    return _load(config_file, parents=(), read=[])


def base_files(config_file: str) -> list[str]:
    """Return the files in ``_BASE_`` of ``config_file``, by Detectron2's rule or shipped ("configs/..."); [] without.

    Raises:
        SetupError: for the reasons of load_yaml, in this one file.
    """
    return _base_files(*_read(config_file), config_file)


def find_line(config_file: str, key: str) -> str:
    """Return "file, line n" of the dotted ``key``; where an inherited file sets it, that file."""
    if _REMOTE in config_file:
        return config_file
    root, values = _read(config_file)
    node, line = root, 0
    for part in key.split("."):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = next(((k, v) for k, v in pairs if k.value == part), None)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    else:
        return f"{config_file}, line {line}"
    # The last of several bases wins, so search it first.
    inherited = (find_line(base, key) for base in reversed(_base_files(root, values, config_file)))
    return next((place for place in inherited if ", line " in place), config_file)


def _load(config_file: str, parents: tuple[str, ...], read: list[str]) -> dict[str, Any]:
    """Load one file of the chain; ``parents`` inherit from it, and ``read`` lists the files read so far."""
    read.append(config_file)
    if len(read) > MAX_FILES:
        raise SetupError(f"{read[0]} inherits from more than {MAX_FILES} files through _BASE_: name each of them once.")
    real = os.path.realpath(config_file)
    if real in parents:
        raise SetupError(f"{config_file} inherits from itself through _BASE_: remove it from that chain.")
    node, values = _read(config_file)
    _check_repeated(node, config_file)
    merged: dict[str, Any] = {}
    for base in _base_files(node, values, config_file):
        if _REMOTE not in base and not os.path.isfile(base):
            place = find_line(config_file, "_BASE_")
            raise SetupError(
                f"_BASE_ names a file that does not exist: {base} ({place}). {_describe_folder(base)}"
                "\nA relative path starts at the folder of the file that holds _BASE_."
            )
        merged = _overlay(merged, _load(base, (*parents, real), read), config_file)
    return _overlay(merged, {key: value for key, value in values.items() if key != "_BASE_"}, config_file)


def _overlay(below: dict, above: dict, config_file: str, prefix: str = "") -> dict:
    """Lay the tree ``above`` over ``below``: groups are merged, values replaced."""
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and key in below:
            if not isinstance(below[key], dict):
                name = f"{prefix}{key}"
                raise SetupError(
                    f"{name} is a group of keys in one file and the value {below[key]!r} in another, which it inherits "
                    f"through _BASE_ ({find_line(config_file, name)})."
                )
            value = _overlay(below[key], value, config_file, f"{prefix}{key}.")
        merged[key] = value
    return merged


def _read(config_file: str) -> tuple[yaml.MappingNode, dict[str, Any]]:
    """Read one file; return its nodes, which have line numbers, and its content."""
    if not config_file:
        raise SetupError("No config file given: name one with --config-file, such as configs/retina_R50_FPN.yaml.")
    if _REMOTE not in config_file and not os.path.exists(config_file):
        raise SetupError(f"Config file {config_file} does not exist. {_describe_folder(config_file)}")
    if os.path.isdir(config_file):
        raise SetupError(f"Config file {config_file} is a folder. {_describe_folder(os.path.join(config_file, '_'))}")
    try:
        if _REMOTE in config_file:
            with PathManager.open(config_file, "r") as file:
                text = file.read(MAX_CHARACTERS + 1)
        else:
            text = read_bytes(config_file, 4 * MAX_CHARACTERS, "is it a config?").decode("utf-8-sig")
    except SetupError as error:
        raise SetupError(f"Config file {error}") from None
    except UnicodeDecodeError:
        raise SetupError(f"Config file {config_file} is not text: give a YAML file.") from None
    except OSError as error:
        raise SetupError(f"Config file {config_file} cannot be read: {error.strerror or error}.") from error
    node, values = parse_yaml(text, f"Config file {config_file}")
    if node is None:
        raise SetupError(f"Config file {config_file} is empty: give at least one key, such as _BASE_.")
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else type(values).__name__
        kind = kind if isinstance(node, yaml.CollectionNode) else "a single value"
        raise SetupError(f"Config file {config_file} must hold KEY: VALUE pairs, got {kind}.")
    return node, values


def _check_repeated(node: yaml.MappingNode, config_file: str) -> None:
    """Refuse a repeated key in a mapping: YAML would silently drop the first."""
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        name = str(key.value)
        if name in seen and key.tag != _MERGE_TAG:
            raise SetupError(
                f"Config file {config_file} has {name} twice, in lines {seen[name]} and {line}: "
                "merge the two, the first would be lost."
            )
        seen[name] = line
        if isinstance(value, yaml.MappingNode):
            _check_repeated(value, config_file)


def _base_files(node: yaml.MappingNode, values: dict[str, Any], config_file: str) -> list[str]:
    names = values.get("_BASE_", [])
    paths = []
    for name in names if isinstance(names, list) else [names]:
        if not isinstance(name, str) or not name:
            line = next((key.start_mark.line + 1 for key, _ in node.value if key.value == "_BASE_"), 1)
            raise SetupError(f"_BASE_ takes a file name or a list of them ({config_file}, line {line}).")
        name = os.path.expanduser(name)
        paths.append(name if _REMOTE in name else find_base(os.path.join(os.path.dirname(config_file), name)))
    return paths


def _describe_folder(config_file: str) -> str:
    """Name the YAML files of the folder in which ``config_file`` is missing."""
    folder = os.path.dirname(config_file) or "."
    if folder == "configs" and not os.path.isdir(folder):
        folder = str(CONFIGS)
    if not os.path.isdir(folder):
        return f"There is not a folder {folder} (looked from {os.getcwd()})."
    names = sorted(name for name in os.listdir(folder) if name.endswith((".yaml", ".yml")))
    near = difflib.get_close_matches(os.path.basename(config_file), names, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {', '.join(near)}?"
    return f"{folder} has {', '.join(names[:5])}." if names else f"{folder} has no YAML file."
