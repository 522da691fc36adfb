"""YAML configs without code: ``!!python`` tags are refused by name, file and line.

Detectron2 falls back to PyYAML's unsafe loader, which runs what a tag says. The one tag that its own files have, the
anchor sizes of ``Base-RetinaNet.yaml``, is read as the arithmetic that it is.
"""

import ast
import itertools
import math
import operator
from typing import Any

import yaml

from ..errors import SetupError

__all__ = ["compose_config", "without_tags"]

_PYTHON = "tag:yaml.org,2002:python/"
_EVAL = f"{_PYTHON}object/apply:eval"
# Guards: Detectron2's largest config has 6 kB; PyYAML reads 50 kB a second. 10^5 values stand for aliases of aliases.
MAX_CHARACTERS = 2**18
MAX_VALUES = 10**5
# Characters of one tag, and values that all tags stand for: Base-RetinaNet.yaml's one has 76 and 21. A list in a loop
# over a list makes 6 * 10^4 values of 10^3 characters, which PyYAML took half a minute to write.
_MAX_EXPRESSION = 1000
_TAG_WEIGHT = MAX_VALUES // _MAX_EXPRESSION  # so that both bounds are one count
_OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: math.pow,  # of floats: 9 ** 9 ** 9 overflows at once; a root of a negative number is none
}  # fmt: skip


def compose_config(text: str, config_file: str) -> yaml.Node | None:
    """The nodes of a YAML text; None if it is empty. Nothing is constructed.

    Raises:
        SetupError: it is larger, deeper or has more values than any config, or a tag asks for code.
        yaml.YAMLError: it is no YAML.
    """
    if len(text) > MAX_CHARACTERS:
        raise SetupError(f"Config file {config_file} has more than {MAX_CHARACTERS} characters: is it a config?")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _check_node(node, config_file, {})
    except RecursionError:
        raise SetupError(f"Config file {config_file} is nested too deeply to be a config.") from None
    return node


def _check_node(node: yaml.Node, config_file: str, counts: dict[int, int]) -> int:
    """Refuse tags and too many values; the number of values that ``node`` stands for, aliases written out."""
    if id(node) in counts:
        if not counts[id(node)]:
            raise SetupError(f"Config file {config_file} has a value that contains itself ({_line(node)}).")
        return counts[id(node)]
    counts[id(node)] = 0  # of a node that is being counted
    own = _TAG_WEIGHT * _number_of_values(_evaluate_tag(node, config_file)) if node.tag.startswith(_PYTHON) else 1
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        parts = list(itertools.chain.from_iterable(node.value))
    elif isinstance(node, yaml.SequenceNode):
        parts = node.value
    counts[id(node)] = own + sum(_check_node(part, config_file, counts) for part in parts)
    if counts[id(node)] > MAX_VALUES:
        raise SetupError(
            f"Config file {config_file} has more than {MAX_VALUES} values ({_line(node)}): is it a config?"
        )
    return counts[id(node)]


def _evaluate_tag(node: yaml.Node, config_file: str) -> Any:
    """What the tag of Detectron2's own file stands for.

    Raises:
        SetupError: it is another tag, or more than arithmetic.
    """
    parts = node.value if isinstance(node, yaml.SequenceNode) else []
    text = parts[0].value if len(parts) == 1 and isinstance(parts[0], yaml.ScalarNode) else ""
    if node.tag == _EVAL and 0 < len(text) < _MAX_EXPRESSION:
        try:
            value = _evaluate(ast.parse(text, mode="eval").body, {})
            if _number_of_values(value) <= _MAX_EXPRESSION:
                return value
        except (ArithmeticError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
            pass
    raise SetupError(
        f"Config file {config_file}, {_line(node)} has the tag !!{node.tag.removeprefix('tag:yaml.org,2002:')}, which "
        "runs code: write the value itself. Only arithmetic on numbers and lists is read, as in Detectron2's "
        "Base-RetinaNet.yaml."
    )


def _evaluate(node: ast.expr, names: dict[str, Any]) -> Any:
    """Numbers, lists, + - * / ** and a comprehension over one list."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_evaluate(item, names) for item in node.elts]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _evaluate(node.left, names), _evaluate(node.right, names)
        if isinstance(left, list) or isinstance(right, list):
            raise TypeError("arithmetic is for numbers")
        return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.ListComp) and len(node.generators) == 1 and not names:
        loop = node.generators[0]
        items = _evaluate(loop.iter, names)
        if isinstance(loop.target, ast.Name) and not loop.ifs:
            return [_evaluate(node.elt, {loop.target.id: item}) for item in items]
    raise ValueError(f"{type(node).__name__} is no arithmetic")


def _number_of_values(value: Any) -> int:
    """Of numbers in lists, the lists too."""
    return 1 + sum(map(_number_of_values, value)) if isinstance(value, list) else 1


def without_tags(text: str, config_file: str) -> str:
    """A YAML text whose tags are written out, as ``compose_config`` lets them through; one without any as it is.

    Raises:
        SetupError, yaml.YAMLError: as ``compose_config``.
    """
    node = compose_config(text, config_file)
    return yaml.serialize(_replace_tags(node)) if node is not None and "python/" in text else text


def _replace_tags(node: yaml.Node) -> yaml.Node:
    """``node`` with the values that its tags stand for."""
    if node.tag.startswith(_PYTHON):
        return yaml.representer.SafeRepresenter().represent_data(_evaluate_tag(node, ""))
    if isinstance(node, yaml.MappingNode):
        node.value = [(key, _replace_tags(value)) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        node.value = [_replace_tags(value) for value in node.value]
    return node


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"
