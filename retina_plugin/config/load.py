"""From a YAML file and ``KEY VALUE`` overrides to a ``cfg``; a mistake in either gets one sentence.

Detectron2 loads the file, follows ``_BASE_`` and sets the values. Here its errors are found beforehand, and values that
mean the same in another type (2 for 2.0, 600 for (600,), "1e-3" for 0.001) are accepted.
"""

import ast
import logging
import tempfile
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

from ..errors import SetupError
from .keys import REMOVED_KEYS, get_retina_cfg
from .safe_loading import load_yaml
from .shipped import find_config
from .yaml_source import base_files, check_yaml_files, find_line, find_nearest

__all__ = ["config_difference", "load_base_config", "load_config"]

logger = logging.getLogger(__name__)


def load_config(config_file: str, opts: list[str]) -> CfgNode:
    """Detectron2's defaults and the plugin's, then ``config_file``, then ``opts``.

    Args:
        config_file: YAML, with ``_BASE_`` if it likes; "configs/..." that is not there means the plugin's own. A
            ``!!python`` tag is refused, other than in Detectron2 (``safe_yaml.py``).
        opts: KEY VALUE KEY VALUE ..., as on the command line.

    Returns:
        cfg, not frozen. Types are right; values are for ``check_config`` to judge.

    Raises:
        SetupError: the file cannot be loaded, a key is unknown or a value has the wrong type.
    """
    cfg = get_retina_cfg()
    _merge_file(cfg, find_config(config_file))
    _merge_opts(cfg, list(opts))
    return cfg


def load_base_config(config_file: str) -> CfgNode:
    """The cfg that ``config_file`` ("" for none) starts from: the files in its ``_BASE_``, else the defaults."""
    cfg = get_retina_cfg()
    for base in base_files(find_config(config_file)) if config_file else []:
        _merge_file(cfg, base)
    return cfg


def config_difference(cfg: CfgNode, base: CfgNode) -> dict[str, tuple[Any, Any]]:
    """What ``cfg`` says differently from ``base``: dotted key -> (value in base, value in cfg), sorted by key.

    A key that one of them lacks has the value None there.
    """
    ours, theirs = _flatten(cfg), _flatten(base)
    keys = sorted(ours.keys() | theirs.keys())
    pairs = {key: (theirs.get(key), ours.get(key)) for key in keys}
    # repr: a NaN equals itself, and 1 differs from True.
    return {key: pair for key, pair in pairs.items() if repr(pair[0]) != repr(pair[1])}


def _flatten(node: CfgNode, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat.update(_flatten(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else {f"{prefix}{key}": value})
    return flat


def _merge_file(cfg: CfgNode, config_file: str) -> None:
    check_yaml_files(config_file)
    try:
        values = load_yaml(config_file)
    except SetupError:
        raise
    except Exception as error:  # PyYAML's constructors raise what the values make them raise
        raise SetupError(f"Config file {config_file} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(values, dict):
        raise SetupError(f"Config file {config_file} must hold KEY: VALUE pairs, got {type(values).__name__}.")
    version = values["VERSION"] if "VERSION" in values else _guess_version(values)
    if type(version) is not int or not 1 <= version <= cfg.VERSION:
        raise SetupError(
            f"VERSION must be a whole number from 1 to {cfg.VERSION}, got {version!r} "
            f"({find_line(config_file, 'VERSION')}): files of today's Detectron2 have VERSION: {cfg.VERSION}."
        )
    if version == cfg.VERSION:
        _merge_values(cfg, cfg, values, "", config_file)
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            # What was read, since Detectron2 would read the files anew, and run their tags.
            plain = Path(folder, Path(config_file).name)
            plain.write_text(yaml.safe_dump(values), encoding="utf-8")
            cfg.merge_from_file(str(plain))
    except (AssertionError, KeyError, ValueError) as error:
        raise SetupError(
            f"Config file {config_file} has VERSION {version} and cannot be brought to {cfg.VERSION}: {error}"
        ) from error


def _guess_version(values: dict) -> int:
    """The VERSION of a file that states none: 1 if it has a key that only Detectron2's version 1 had, else 2."""
    groups = {key: value for key, value in values.items() if isinstance(value, dict)}
    return 1 if "WEIGHT" in groups.get("MODEL", {}) or "AUG_ON" in groups.get("TEST", {}) else 2


def _merge_values(cfg: CfgNode, node: CfgNode, values: dict, prefix: str, config_file: str) -> None:
    """Set ``values``, a (sub)tree of a YAML file at ``prefix`` = "MODEL.RETINANET.", in ``node`` of ``cfg``."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        try:
            if isinstance(node.get(key), CfgNode) and isinstance(value, dict):
                _merge_values(cfg, node[key], value, f"{name}.", config_file)
            elif key not in node and node.is_new_allowed():
                node[key] = CfgNode(value) if isinstance(value, dict) else value
            else:
                _set_value(cfg, name, value)
        except _PlacelessError as error:
            raise SetupError(f"{error} ({find_line(config_file, name)})") from error.__cause__


def _merge_opts(cfg: CfgNode, opts: list[str]) -> None:
    flag = next((opt for opt in opts[::2] if str(opt).startswith("--")), None)
    if flag:
        raise SetupError(f"{flag} stands among the KEY VALUE pairs at the end: put it before them.")
    joined = next((opt for opt in opts[::2] if "=" in str(opt)), None)
    if joined:
        raise SetupError(f"Overrides are KEY VALUE with a space, got {joined!r}: write {joined.replace('=', ' ', 1)}.")
    if len(opts) % 2:
        raise SetupError(f"Overrides must be KEY VALUE pairs, got {len(opts)} words: {' '.join(map(str, opts))}.")
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        try:
            _set_value(cfg, key, value)
        except _PlacelessError as error:
            raise SetupError(f"{error} (command line)") from error.__cause__


class _PlacelessError(Exception):
    """A mistake in a key or value; whoever knows where it stands adds the place."""


def _set_value(cfg: CfgNode, key: str, value: Any) -> None:
    """Give the dotted ``key`` of ``cfg`` its value, in the type of its default."""
    try:
        if key in REMOVED_KEYS:
            removed = REMOVED_KEYS[key]
            value = _convert(value, removed.default, key)
            note = removed.apply(cfg, value)
            if value != removed.default:
                logger.warning("%s was removed, and is accepted for one release: %s", key, note)
            return
        if cfg.key_is_renamed(key):
            cfg.raise_key_rename_error(key)
        if not cfg.key_is_deprecated(key):
            current = _find(cfg, key)
            # None is a value of the keys that have it by default, whatever a file has put there.
            if _evaluate(value) is None and _find(get_retina_cfg(), key) is None:
                current = None
            value = _convert(value, current, key)
            # Detectron2 evaluates text once more, so text goes in quotes.
            cfg.merge_from_list([key, repr(value) if isinstance(value, str) else value])
    except (KeyError, ValueError) as error:
        raise _PlacelessError(str(error.args[0] if error.args else error)) from error


def _find(cfg: CfgNode, key: str) -> Any:
    """The value of the dotted ``key``; an unknown one raises with the nearest that exists."""
    node: Any = cfg
    for part in str(key).split("."):
        if not isinstance(node, CfgNode) or part not in node:
            near = _nearest_key(cfg, str(key))
            raise _PlacelessError(f"There is no config key {key}" + (f"; did you mean {near}?" if near else "."))
        node = node[part]
    return node


def _nearest_key(cfg: CfgNode, key: str) -> str:
    """The key or group of ``cfg`` that was probably meant by ``key``; "" if none is near."""
    leaves = list(_flatten(cfg))
    groups = sorted({leaf.rsplit(".", n)[0] for leaf in leaves for n in range(1, leaf.count(".") + 1)})
    group, _, word = key.upper().rpartition(".")
    siblings = {name.rpartition(".")[2]: name for name in leaves + groups if name.rpartition(".")[0] == group}
    if near := find_nearest(word, list(siblings)):
        return siblings[near]
    if longer := [name for part, name in siblings.items() if word in part]:  # GAMMA for FOCAL_LOSS_GAMMA
        return longer[0]
    # The right word in a misspelt group, in another one, or alone; ours comes before its neighbours' of the same name.
    elsewhere = sorted((leaf for leaf in leaves if leaf.endswith(f".{word}")), key=lambda leaf: "RETINANET" not in leaf)
    meant = f"{find_nearest(group, groups)}.{word}"
    return meant if meant in elsewhere else next(iter(elsewhere), find_nearest(key.upper(), leaves + groups))


def _convert(value: Any, default: Any, key: str) -> Any:
    """``value`` in the type of ``default``; text is read as Python where it can be, as Detectron2 does."""
    if isinstance(default, CfgNode):
        raise _PlacelessError(f"{key} is a group of keys, such as {key}.{next(iter(default), '...')}, got {value!r}")
    if isinstance(value, dict):
        raise _PlacelessError(f"{key} takes {_NAMES[type(default)]}, got the keys {', '.join(map(str, value))}")
    literal = _evaluate(value)
    if default is None:
        return literal
    kind = type(default)
    try:
        return _CONVERTERS[kind](literal, value, default) if kind in _CONVERTERS else literal
    except (TypeError, ValueError, OverflowError):
        hint = ' (write "" for none)' if literal is None and kind is str else ""
        raise _PlacelessError(f"{key} takes {_NAMES[kind]}, got {value!r}{hint}") from None


def _evaluate(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def _to_float(literal: Any, value: Any, default: Any) -> float:
    if isinstance(literal, bool) or not isinstance(literal, (int, float, str)):
        raise TypeError
    return float(literal)


def _to_int(literal: Any, value: Any, default: Any) -> int:
    if isinstance(literal, bool) or int(literal) != float(literal):
        raise TypeError
    return int(literal)


def _to_bool(literal: Any, value: Any, default: Any) -> bool:
    if isinstance(literal, str) and literal.lower() in ("true", "false"):
        return literal.lower() == "true"
    if not isinstance(literal, bool):
        raise TypeError
    return literal


def _to_str(literal: Any, value: Any, default: Any) -> str:
    # A name that looks like a number (OUTPUT_DIR 2026) is the text itself.
    if isinstance(literal, bool) or not isinstance(literal, (int, float, str)):
        raise TypeError
    return literal if isinstance(literal, str) else str(value)


def _to_sequence(literal: Any, value: Any, default: list | tuple) -> list | tuple:
    if literal is None or isinstance(literal, bool) or (isinstance(literal, str) and literal[:1] in ("(", "[")):
        raise TypeError
    if not isinstance(literal, (list, tuple)):
        literal = () if literal == "" else (literal,)
    return type(default)(_convert_items(literal, _first_item(default)))


def _first_item(items: Any) -> Any:
    while isinstance(items, (list, tuple)):
        items = items[0] if items else None
    return items


def _convert_items(items: list | tuple, like: Any) -> list:
    """``items``, nested or not, with text read as a number where the default holds numbers, and names kept as text."""
    converted = []
    for item in items:
        if isinstance(item, (list, tuple)):
            converted.append(type(item)(_convert_items(item, like)))
        elif isinstance(like, (int, float)) and isinstance(item, str):
            converted.append(float(item))
        elif isinstance(like, (int, float, str)) and (item is None or isinstance(like, str) != isinstance(item, str)):
            raise TypeError
        else:
            converted.append(item)
    return converted


_CONVERTERS = {
    float: _to_float,
    int: _to_int,
    bool: _to_bool,
    str: _to_str,
    list: _to_sequence,
    tuple: _to_sequence,
}
_NAMES = {
    float: "a float",
    int: "a whole number",
    bool: "True or False",
    str: "text",
    list: "a list",
    tuple: "a list",
    type(None): "a value",
}
