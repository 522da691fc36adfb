"""Read YAML configs as data: no tag runs code, and no file takes long to refuse.

Detectron2 falls back to PyYAML's unsafe loader, which runs ``!!python`` tags, because its own ``Base-RetinaNet.yaml``
computes the anchor sizes by one. Here a table maps that tag to its list; every other tag is refused, with its place.
"""

import itertools
from typing import Any

import yaml

from ..errors import SetupError

__all__ = ["compose_config", "construct_config"]

_PYTHON = "tag:yaml.org,2002:python/"
_EVAL = f"{_PYTHON}object/apply:eval"
# The only tag in the detection configs of all Detectron2 versions (spaces removed) -> its value.
_KNOWN_TAGS = {
    "[[x,x*2**(1.0/3),x*2**(2.0/3)]forxin[32,64,128,256,512]]": [
        [x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for x in (32, 64, 128, 256, 512)
    ]
}
# Guards: Detectron2's largest config has 6 kB; PyYAML reads 50 kB a second. 10^5 values bound the expansion of aliases.
MAX_CHARACTERS = 2**18
MAX_VALUES = 10**5


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, plus the one known tag."""


_Loader.add_constructor(_EVAL, lambda loader, node: [list(sizes) for sizes in _KNOWN_TAGS[_expression(node)]])


def _expression(node: yaml.Node) -> str:
    """Return the text that an ``eval`` tag would run, without spaces; "" for a node of another form."""
    parts = node.value if node.tag == _EVAL and isinstance(node, yaml.SequenceNode) else []
    return "".join(parts[0].value.split()) if len(parts) == 1 and isinstance(parts[0], yaml.ScalarNode) else ""


def compose_config(text: str, config_file: str) -> yaml.Node | None:
    """Parse a YAML text to nodes, without constructing anything; None if it is empty.

    Raises:
        SetupError: the text exceeds the limits above, or a tag asks for code.
        yaml.YAMLError: the text is not YAML.
    """
    if len(text) > MAX_CHARACTERS:
        raise SetupError(f"Config file {config_file} has more than {MAX_CHARACTERS} characters: is it a config?")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _count_values(node, config_file, {})
    except RecursionError:
        raise SetupError(f"Config file {config_file} is nested too deeply to be a config.") from None
    return node


def construct_config(node: yaml.Node) -> Any:
    """Construct the value of a node that ``compose_config`` has accepted."""
    return _Loader("").construct_document(node)


def _count_values(node: yaml.Node, config_file: str, counts: dict[int, int]) -> int:
    """Count the values below ``node`` with aliases written out; refuse too many of them, and tags."""
    line = f"line {node.start_mark.line + 1}"
    if id(node) in counts:
        if not counts[id(node)]:
            raise SetupError(f"Config file {config_file} has a value that contains itself ({line}).")
        return counts[id(node)]
    if node.tag.startswith(_PYTHON) and _expression(node) not in _KNOWN_TAGS:
        raise SetupError(
            f"Config file {config_file}, {line} has the tag !!{node.tag.removeprefix('tag:yaml.org,2002:')}, which "
            "runs code: write the value itself. The only tag that is read is the one of Detectron2's "
            "Base-RetinaNet.yaml."
        )
    counts[id(node)] = 0  # marks a node whose parts are being counted
    parts = node.value if isinstance(node, yaml.CollectionNode) else []
    if isinstance(node, yaml.MappingNode):
        parts = itertools.chain.from_iterable(parts)
    counts[id(node)] = 1 + sum(_count_values(part, config_file, counts) for part in parts)
    if counts[id(node)] > MAX_VALUES:
        raise SetupError(f"Config file {config_file} has more than {MAX_VALUES} values ({line}): is it a config?")
    return counts[id(node)]
