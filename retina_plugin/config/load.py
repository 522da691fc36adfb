"""Load a cfg from a YAML file and ``KEY VALUE`` overrides; a mistake is reported in one sentence, with its place.

Equivalent values of another type than the default's are accepted: 2 for 2.0, 600 for (600,), "1e-3" for 0.001.
"""

import ast
import difflib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, downgrade_config, upgrade_config

from ..errors import SetupError
from .keys import REMOVED_KEYS, add_retina_config, get_retina_cfg
from .shipped import find_config
from .yaml_source import base_files, find_line, load_yaml

__all__ = [
    "config_difference", "config_values", "load_base_config", "load_config", "load_saved_config", "set_values",
    "with_values",
]  # fmt: skip

logger = logging.getLogger(__name__)

_KINDS = {
    float: "a float", int: "a whole number", bool: "True or False", str: "text", list: "a list", tuple: "a list",
    type(None): "a value",
}  # fmt: skip


def load_config(config: str | os.PathLike | CfgNode, opts: Iterable[Any] = ()) -> CfgNode:
    """Build a cfg from Detectron2's defaults and the plugin's, then ``config``, then ``opts``.

    Args:
        config: a YAML file, with or without ``_BASE_``; "configs/..." that is not there means the plugin's own. Unlike
            in Detectron2, ``!!python`` tags are refused (``safe_yaml.py``). Or a cfg, which is copied.
        opts: KEY VALUE KEY VALUE ..., as on the command line.

    Returns:
        cfg, not frozen. The types are right; ``check_config`` checks the values.

    Raises:
        SetupError: the file cannot be loaded, a key is unknown or a value has the wrong type.
    """
    notes = []
    if isinstance(config, CfgNode):
        cfg = config.clone()
        cfg.defrost()
        add_retina_config(cfg)
    else:
        cfg = get_retina_cfg()
        notes += _merge_file(cfg, find_config(os.fspath(config)))
    notes += _merge_opts(cfg, list(opts))
    for note in notes:
        logger.warning("%s", note)
    return cfg


def load_base_config(config_file: str) -> CfgNode:
    """Build the cfg that ``config_file`` ("" for none) starts from: the files in its ``_BASE_``, else the defaults."""
    cfg = get_retina_cfg()
    for base in base_files(find_config(config_file)) if config_file else []:
        _merge_file(cfg, base)
    return cfg


def load_saved_config(path: Path, keep: Callable[[str], bool]) -> dict[str, Any]:
    """Read the ``config.yaml`` that a run has left, which may come from a stranger: dotted key -> value.

    Args:
        keep: True for the keys to return; the values of the others have no effect.

    Raises:
        SetupError: the file cannot be read, or names other files in ``_BASE_``: a run writes all its keys.
    """
    if bases := base_files(str(path)):
        raise SetupError(
            f"{path} names {bases[0]} in _BASE_, which is not followed beside weights, since a run leaves all its keys "
            "in one file: give a config of your own with --config-file."
        )
    values = dict(_leaves(load_yaml(str(path)), get_retina_cfg()))
    return {key: value for key, value in values.items() if keep(key)}


def config_values(cfg: CfgNode) -> dict[str, Any]:
    """Return the values of a config: dotted key -> value."""
    return dict(_leaves(cfg, cfg))


def config_difference(cfg: CfgNode, base: CfgNode) -> dict[str, tuple[Any, Any]]:
    """Compare two configs: dotted key -> (value in base, value in cfg) where they differ, sorted by key.

    A key that one of them lacks has the value None there.
    """
    ours, theirs = config_values(cfg), config_values(base)
    pairs = {key: (theirs.get(key), ours.get(key)) for key in sorted(ours.keys() | theirs.keys())}
    # repr: a NaN equals itself, and 1 differs from True.
    return {key: pair for key, pair in pairs.items() if repr(pair[0]) != repr(pair[1])}


def _leaves(values: dict, groups: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) for each value of a tree; a dict is a value too unless it is a group in ``groups``."""
    for key, value in values.items():
        group = groups.get(key)
        if isinstance(value, dict) and isinstance(group, CfgNode):
            yield from _leaves(value, group, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _merge_file(cfg: CfgNode, config_file: str) -> list[str]:
    values = load_yaml(config_file)
    # A file without VERSION has 1 if it has a key that only Detectron2's version 1 had.
    old_keys = {"MODEL": "WEIGHT", "TEST": "AUG_ON"}
    is_old = any(isinstance(values.get(group), dict) and key in values[group] for group, key in old_keys.items())
    version = values.get("VERSION", 1) if is_old or "VERSION" in values else cfg.VERSION
    if type(version) is not int or not 1 <= version <= cfg.VERSION:
        raise SetupError(
            f"VERSION must be a whole number from 1 to {cfg.VERSION}, got {version!r} "
            f"({find_line(config_file, 'VERSION')}): files of today's Detectron2 have VERSION: {cfg.VERSION}."
        )
    if version == cfg.VERSION:
        return set_values(cfg, _leaves(values, cfg), lambda key: find_line(config_file, key))
    try:
        old = downgrade_config(cfg, to_version=version)
        old.merge_from_other_cfg(CfgNode(values))
        new = upgrade_config(old)
    except (AssertionError, KeyError, ValueError) as error:
        raise SetupError(
            f"Config file {config_file} has VERSION {version} and cannot be brought to {cfg.VERSION}: {error}"
        ) from error
    cfg.clear()
    cfg.update(new)
    return [f"Config file {config_file} has VERSION {version}: it is brought to {cfg.VERSION} as Detectron2 does"]


def _merge_opts(cfg: CfgNode, opts: list) -> list[str]:
    flag = next((opt for opt in opts[::2] if str(opt).startswith("--")), None)
    if flag:
        raise SetupError(f"{flag} stands among the KEY VALUE pairs at the end: put it before them.")
    joined = next((opt for opt in opts[::2] if "=" in str(opt)), None)
    if joined:
        raise SetupError(f"Overrides are KEY VALUE with a space, got {joined!r}: write {joined.replace('=', ' ', 1)}.")
    if len(opts) % 2:
        raise SetupError(f"Overrides must be KEY VALUE pairs, got {len(opts)} words: {' '.join(map(str, opts))}.")
    return set_values(cfg, zip(opts[::2], opts[1::2], strict=True), lambda key: "command line")


def set_values(cfg: CfgNode, pairs: Iterable[tuple[str, Any]], place: Callable[[str], str]) -> list[str]:
    """Set dotted keys of ``cfg``, and return notes about removed ones.

    Args:
        place: file and line of a key, for the message about a mistake.

    Raises:
        SetupError: a key is unknown or a value has the wrong type.
    """
    notes = []
    for key, value in pairs:
        try:
            if removed := REMOVED_KEYS.get(key):
                value = _convert(value, removed.default, key)
                note = removed.apply(cfg, value)
                if value != removed.default:
                    notes.append(f"{key} was removed, and is accepted for one release: {note}")
            elif cfg.key_is_renamed(key):
                cfg.raise_key_rename_error(key)
            elif not cfg.key_is_deprecated(key):
                group, name = _find(cfg, str(key))
                default = group[name]
                # None is a value of the keys that have it by default, even if a file has set another.
                if default is not None and _evaluate(value) is None:
                    fresh, name = _find(get_retina_cfg(), str(key))
                    default = default if fresh[name] is not None else None
                group[name] = _convert(value, default, key)
        except (KeyError, ValueError) as error:
            raise SetupError(f"{error.args[0] if error.args else error} ({place(str(key))})") from error
    return notes


def with_values(cfg: CfgNode, values: Mapping[str, Any]) -> CfgNode:
    """Return a frozen copy of ``cfg`` with other values: dotted key -> value of the key's type."""
    cfg = cfg.clone()
    cfg.defrost()
    for key, value in values.items():
        group, name = _find(cfg, key)
        group[name] = value
    cfg.freeze()
    return cfg


def _find(cfg: CfgNode, key: str) -> tuple[CfgNode, str]:
    """Return the group that holds the dotted ``key``, and its name there; refuse an unknown one."""
    *groups, name = key.split(".")
    node: Any = cfg
    for part in groups:
        node = node.get(part) if isinstance(node, CfgNode) else None
    if not isinstance(node, CfgNode) or name not in node:
        near = _nearest_key(cfg, key)
        raise ValueError(f"There is no config key {key}" + (f"; did you mean {near}?" if near else "."))
    return node, name


def _nearest_key(cfg: CfgNode, key: str) -> str:
    """Return the key or group of ``cfg`` that ``key`` probably means; "" if none is near."""

    def nearest(word: str, words: list[str]) -> str:
        return next(iter(difflib.get_close_matches(word, words, n=1, cutoff=0.6)), "")

    leaves = list(config_values(cfg))
    groups = sorted({leaf.rsplit(".", n)[0] for leaf in leaves for n in range(1, leaf.count(".") + 1)})
    group, _, word = key.upper().rpartition(".")
    siblings = {name.rpartition(".")[2]: name for name in leaves + groups if name.rpartition(".")[0] == group}
    if near := nearest(word, list(siblings)):
        return siblings[near]
    if longer := [name for part, name in siblings.items() if word in part]:  # GAMMA for FOCAL_LOSS_GAMMA
        return longer[0]
    # The right word in a misspelt group, in another one, or alone; ours comes before its neighbours' of the same name.
    elsewhere = sorted((leaf for leaf in leaves if leaf.endswith(f".{word}")), key=lambda leaf: "RETINANET" not in leaf)
    meant = f"{nearest(group, groups)}.{word}"
    return meant if meant in elsewhere else next(iter(elsewhere), nearest(key.upper(), leaves + groups))


def _convert(value: Any, default: Any, key: str) -> Any:
    """Return ``value`` in the type of ``default``; text is read as Python where it can be, as Detectron2 does."""
    if isinstance(default, CfgNode):
        raise ValueError(f"{key} is a group of keys, such as {key}.{next(iter(default), '...')}, got {value!r}")
    if isinstance(value, dict):
        raise ValueError(f"{key} takes {_KINDS[type(default)]}, got the keys {', '.join(map(str, value))}")
    literal, kind = _evaluate(value), type(default)
    is_text = isinstance(literal, str)
    is_number_or_text = isinstance(literal, (int, float, str)) and not isinstance(literal, bool)
    try:
        if default is None or (kind is bool and isinstance(literal, bool)):
            return literal
        if kind is bool and is_text:
            return {"true": True, "false": False}[literal.lower()]
        if kind is str and is_number_or_text:  # a name that looks like a number (OUTPUT_DIR 2026) is the text itself
            return literal if is_text else str(value)
        if kind is float and is_number_or_text:
            return float(literal)
        if kind is int and is_number_or_text and int(literal) == float(literal):
            return int(literal)
        if isinstance(literal, (list, tuple)) and kind in (list, tuple):
            return kind(_convert_items(literal, default))
        if is_number_or_text and kind in (list, tuple) and not (is_text and literal[:1] in ("(", "[")):
            return kind(_convert_items([] if literal == "" else [literal], default))
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    hint = ' (write "" for none)' if literal is None and kind is str else ""
    raise ValueError(f"{key} takes {_KINDS[kind]}, got {value!r}{hint}")


def _convert_items(items: list | tuple, default: list | tuple) -> list:
    """Return ``items``, nested or not, with text as a number where the default holds numbers; names stay text."""
    like: Any = default
    while isinstance(like, (list, tuple)):
        like = like[0] if like else None
    converted = []
    for item in items:
        if isinstance(item, (list, tuple)):
            converted.append(type(item)(_convert_items(item, default)))
        elif isinstance(like, (int, float)) and isinstance(item, str):
            converted.append(float(item))
        elif isinstance(like, (int, float, str)) and (item is None or isinstance(like, str) != isinstance(item, str)):
            raise TypeError
        else:
            converted.append(item)
    return converted


def _evaluate(value: Any) -> Any:
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value
