"""The YAML files behind a config, looked at before Detectron2 loads them: what it would trip over gets file and line.

Nothing is executed here: the files are parsed to nodes, and a ``!!python`` tag is refused (``safe_yaml.py``).
"""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from ..errors import SetupError
from .safe_yaml import compose_config
from .shipped import CONFIGS, find_base

__all__ = ["base_files", "check_yaml_files", "find_line", "find_nearest"]

_REMOTE = "://"  # http(s) and Detectron2's own schemes: left to Detectron2's PathManager
MAX_FILES = 100  # a guard: three files that inherit from each twice read one eight times; Detectron2's chains have 2
_MERGE_TAG = "tag:yaml.org,2002:merge"  # "<<": it may be repeated, it is no key of the config


def find_nearest(word: str, words: list[str]) -> str:
    """The one of ``words`` that looks most like ``word``; "" if none comes near."""
    return next(iter(difflib.get_close_matches(word, words, n=1, cutoff=0.6)), "")


def check_yaml_files(config_file: str) -> None:
    """Read ``config_file`` and every file that it inherits from.

    Raises:
        SetupError: a file is missing or no YAML, is empty or no mapping, repeats a key, inherits from itself or from
            too many, or asks for code.
    """
    _check_file(config_file, parents=(), read=[])


def base_files(config_file: str) -> list[str]:
    """The files in ``_BASE_`` of ``config_file``, by Detectron2's rule or shipped ("configs/..."); [] without one.

    Raises:
        SetupError: as check_yaml_files, for this one file.
    """
    pairs = [] if _REMOTE in config_file else _read_mapping(config_file).value
    for key, value in pairs:
        if key.value == "_BASE_":
            return [_resolve(base, config_file) for base in _base_names(value, config_file)]
    return []


def find_line(config_file: str, key: str) -> str:
    """ "file, line n" of the dotted ``key``; where an inherited file sets it, that file."""
    if _REMOTE in config_file:
        return config_file
    node: yaml.Node = _read_mapping(config_file)
    line = 0
    for part in key.split("."):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = next(((k, v) for k, v in pairs if k.value == part), None)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    else:
        return f"{config_file}, line {line}"
    # The later of several bases wins, so it is asked first.
    inherited = (find_line(base, key) for base in reversed(base_files(config_file)))
    return next((place for place in inherited if ", line " in place), config_file)


def _check_file(config_file: str, parents: tuple[str, ...], read: list[str]) -> None:
    if _REMOTE in config_file:
        return
    read.append(config_file)
    if len(read) > MAX_FILES:
        raise SetupError(f"{read[0]} inherits from more than {MAX_FILES} files through _BASE_: name each of them once.")
    if os.path.realpath(config_file) in parents:
        raise SetupError(f"{config_file} inherits from itself through _BASE_: remove it from that chain.")
    _check_repeated(_read_mapping(config_file), config_file)
    for base in base_files(config_file):
        if _REMOTE not in base and not os.path.isfile(base):
            place = find_line(config_file, "_BASE_")
            raise SetupError(
                f"_BASE_ names a file that does not exist: {base} ({place}). {_describe_folder(base)}"
                "\nA relative path starts at the folder of the file that holds _BASE_."
            )
        _check_file(base, (*parents, os.path.realpath(config_file)), read)


def _read_mapping(config_file: str) -> yaml.MappingNode:
    if not config_file:
        raise SetupError("No config file given: name one with --config-file, such as configs/retina_R50_FPN.yaml.")
    if os.path.isdir(config_file):
        raise SetupError(f"Config file {config_file} is a folder. {_describe_folder(os.path.join(config_file, '_'))}")
    try:
        text = Path(config_file).read_text(encoding="utf-8")
        node = compose_config(text, config_file)
    except FileNotFoundError:
        raise SetupError(f"Config file {config_file} does not exist. {_describe_folder(config_file)}") from None
    except UnicodeDecodeError:
        raise SetupError(f"Config file {config_file} is not text: give a YAML file.") from None
    except OSError as error:
        raise SetupError(f"Config file {config_file} cannot be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise SetupError(_describe_yaml_error(config_file, error)) from error
    if node is None:
        raise SetupError(f"Config file {config_file} is empty: give at least one key, such as _BASE_.")
    if not isinstance(node, yaml.MappingNode):
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
        raise SetupError(f"Config file {config_file} must hold KEY: VALUE pairs, got {kind}.")
    return node


def _describe_yaml_error(config_file: str, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"Config file {config_file}{place} is not valid YAML: {problem}."


def _check_repeated(node: yaml.MappingNode, config_file: str) -> None:
    """Refuse a key that stands twice in one mapping: YAML would silently drop the first."""
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


def _base_names(value: yaml.Node, config_file: str) -> Iterator[str]:
    for node in value.value if isinstance(value, yaml.SequenceNode) else [value]:
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str" or not node.value:
            line = node.start_mark.line + 1
            raise SetupError(f"_BASE_ takes a file name or a list of them ({config_file}, line {line}).")
        yield node.value


def _resolve(base: str, config_file: str) -> str:
    base = os.path.expanduser(base)
    return base if _REMOTE in base else find_base(os.path.join(os.path.dirname(config_file), base))


def _describe_folder(config_file: str) -> str:
    """What YAML there is where ``config_file`` was looked for."""
    folder = os.path.dirname(config_file) or "."
    if folder == "configs" and not os.path.isdir(folder):
        folder = str(CONFIGS)
    if not os.path.isdir(folder):
        return f"There is no folder {folder} (looked from {os.getcwd()})."
    names = sorted(name for name in os.listdir(folder) if name.endswith((".yaml", ".yml")))
    near = difflib.get_close_matches(os.path.basename(config_file), names, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {', '.join(near)}?"
    return f"{folder} has {', '.join(names[:5])}." if names else f"{folder} has no YAML file."
