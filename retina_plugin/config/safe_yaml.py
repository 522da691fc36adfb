"""The one reader of YAML: no tag runs code, and no file takes long to refuse.

Detectron2 falls back to PyYAML's unsafe loader, which runs ``!!python`` tags, because its own ``Base-RetinaNet.yaml``
computes the anchor sizes by one. Here a table maps that tag to its list; every other tag is refused, with its place.
"""

import itertools
from typing import Any

import yaml

from ..errors import SetupError

__all__ = ["parse_yaml"]

_PYTHON = "tag:yaml.org,2002:python/"
_EVAL = f"{_PYTHON}object/apply:eval"
# The only tag in the detection configs of all Detectron2 versions (spaces removed) -> its value.
_KNOWN_TAGS = {
    "[[x,x*2**(1.0/3),x*2**(2.0/3)]forxin[32,64,128,256,512]]": [
        [x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for x in (32, 64, 128, 256, 512)
    ]
}
# Guards: Detectron2's largest config has 6 kB, the names of LVIS 40 kB; PyYAML reads 50 kB a second. Aliases can expand
# a file to 10^5 values and 10^6 characters, no more. No number has more than 100 digits.
MAX_CHARACTERS = 2**18
MAX_VALUES = 10**5
MAX_EXPANDED = 10**6
MAX_DIGITS = 100
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, plus the one known tag."""


_Loader.add_constructor(_EVAL, lambda loader, node: [list(sizes) for sizes in _KNOWN_TAGS[_expression(node)]])


def _expression(node: yaml.Node) -> str:
    """Return the text that an ``eval`` tag would run, without spaces; "" for a node of another form."""
    parts = node.value if node.tag == _EVAL and isinstance(node, yaml.SequenceNode) else []
    return "".join(parts[0].value.split()) if len(parts) == 1 and isinstance(parts[0], yaml.ScalarNode) else ""


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which takes the content of a Python object as plain data."""


def _construct_plain(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else node.value


_PlainLoader.add_multi_constructor(_PYTHON, _construct_plain)


def parse_yaml(
    text: str,
    source: str,
    place: str = ", line {line}, column {column}",
    *,
    plain: bool = False,
    max_characters: int = MAX_CHARACTERS,
) -> tuple[yaml.Node | None, Any]:
    """Parse a YAML text; return its nodes, which have line numbers, and its value, (None, None) if it is empty.

    Args:
        source: kind and place of the text, to begin messages with.
        place: form of the place behind it, where the text is not YAML.
        plain: take Python objects in it as plain data, and create none; else they are refused.

    Raises:
        SetupError: it is not YAML, exceeds the limits above, has a tag that asks for code or a date that is invalid.
    """
    if len(text) > max_characters:
        raise SetupError(f"{source} has more than {max_characters} characters: is it a config?")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            return None, None
        _count(node, source, {}, plain)
        return node, (_PlainLoader if plain else _Loader)("").construct_document(node)
    except SetupError:
        raise
    except RecursionError:
        raise SetupError(f"{source} is nested too deeply to be a config.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = place.format(line=mark.line + 1, column=mark.column + 1) if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise SetupError(f"{source}{where} is not valid YAML: {problem}.") from None
    except Exception as error:  # PyYAML's constructors raise errors of any type, such as for the date 2020-99-99
        raise SetupError(f"{source} has a value that cannot be read: {type(error).__name__}: {error}") from None


def _count(node: yaml.Node, source: str, counts: dict[int, tuple[int, int]], plain: bool) -> tuple[int, int]:
    """Count values and their characters below ``node``, with aliases written out; refuse too many of them, and tags."""
    line = f"line {node.start_mark.line + 1}"
    if id(node) in counts:
        if not counts[id(node)][0]:
            raise SetupError(f"{source} has a value that contains itself ({line}).")
        return counts[id(node)]
    if node.tag.startswith(_PYTHON) and not plain and _expression(node) not in _KNOWN_TAGS:
        raise SetupError(
            f"{source}, {line} has the tag !!{node.tag.removeprefix('tag:yaml.org,2002:')}, which "
            "runs code: write the value itself. The only tag that is read is the one of Detectron2's "
            "Base-RetinaNet.yaml."
        )
    counts[id(node)] = (0, 0)  # marks a node whose parts are being counted
    if isinstance(node, yaml.ScalarNode):
        if node.tag in _NUMBERS and len(node.value) > MAX_DIGITS:
            raise SetupError(f"{source}, {line} has a number of more than {MAX_DIGITS} digits.")
        counts[id(node)] = (1, len(node.value))
        return counts[id(node)]
    parts = itertools.chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
    inner = [_count(part, source, counts, plain) for part in parts]
    values, characters = 1 + sum(count for count, _ in inner), sum(count for _, count in inner)
    counts[id(node)] = (values, characters)
    if values > MAX_VALUES:
        raise SetupError(f"{source} has more than {MAX_VALUES} values ({line}): is it a config?")
    if characters > MAX_EXPANDED:
        raise SetupError(f"{source} has more than {MAX_EXPANDED} characters with its aliases written out ({line}).")
    return counts[id(node)]
