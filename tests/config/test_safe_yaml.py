"""YAML configs: no tag runs code, and none costs much to refuse."""

import ast
import io
from functools import partial
from pathlib import Path

import pytest
import yaml
from detectron2.utils.file_io import PathManager
from own_folders import write_yolo

import retina_cli
import retina_plugin
from retina_plugin import SetupError
from retina_plugin.apps.study.index import load_studies
from retina_plugin.config import safe_yaml
from retina_plugin.config.load import load_config
from retina_plugin.config.safe_yaml import parse_yaml
from retina_plugin.config.yaml_source import MAX_FILES, find_line, load_yaml
from retina_plugin.data.formats import read_boxes

# The text of the tag in Detectron2's Base-RetinaNet.yaml.
SIZES = "[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]"
TAGS = {
    "call": "!!python/object/apply:os.mkdir [MARKER]",
    "eval": "!!python/object/apply:eval [\"__import__('os').mkdir('MARKER')\"]",
    "new": "!!python/object/new:os.mkdir [MARKER]",
    "whole tag": "!<tag:yaml.org,2002:python/object/apply:os.mkdir> [MARKER]",
    "name": "!!python/name:os.mkdir ''",
    "module": "!!python/module:os ''",
    "tuple": "!!python/tuple [1, 2]",
    "in a key": "{? !!python/object/apply:os.mkdir [MARKER] : 1}",
    "arguments by name": "!!python/object/apply:eval {args: ['1']}",
    "arithmetic of another": "!!python/object/apply:os.abort ['1+1']",
    "names besides": "!!python/object/apply:eval ['1', {'print': 1}]",
    "arithmetic": "!!python/object/apply:eval ['[32, 64]']",
    "nothing": "!!python/object/apply:eval []",
    "the known text, of another tag": f"!!python/object/apply:os.mkdir ['{SIZES}']",
    "the known text, with names": f"!!python/object/apply:eval ['{SIZES}', {{'x': 1}}]",
    "the known text, by name": f"!!python/object/apply:eval {{args: ['{SIZES}']}}",
    "the known text, not in a list": f"!!python/object/apply:eval '{SIZES}'",
}


@pytest.fixture
def write(tmp_path):
    def write_file(text: str, name: str = "user.yaml") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write_file


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("tag", TAGS.values(), ids=list(TAGS))
def test_python_tag_is_refused_by_name_and_line_and_not_run(write, tmp_path, tag, version):
    marker = tmp_path / "marker"
    path = write(f"VERSION: {version}\nMODEL:\n  WEIGHTS: {tag.replace('MARKER', str(marker))}\n")
    with pytest.raises(SetupError, match=r"user.yaml, line 3 has the tag !!python/[\w/:.]+, which runs code"):
        load_config(path, [])
    assert not marker.exists()


def test_python_tag_in_a_base_names_the_base(write, tmp_path):
    write(f"A: {TAGS['call'].replace('MARKER', str(tmp_path / 'marker'))}\n", "base.yaml")
    with pytest.raises(SetupError, match=r"base.yaml, line 1 has the tag !!python/object/apply:os.mkdir"):
        load_yaml(write("_BASE_: base.yaml\nVERSION: 2\n"))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("text", [SIZES, SIZES.replace(", ", ","), SIZES.replace("[", "[ ")])
def test_tag_of_detectron2s_own_file_is_its_list(write, text):
    path = write(f"A: &a !!python/object/apply:eval ['{text}']\nB: [*a, 1]\n")
    expected = [[x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for x in [32, 64, 128, 256, 512]]
    assert load_yaml(path) == yaml.unsafe_load(open(path)) == {"A": expected, "B": [expected, 1]}
    load_yaml(path)["A"][0][0] = 0  # a copy
    assert load_yaml(path)["A"] == expected


@pytest.mark.parametrize(("text", "match"), [
    ("[" * 10**4, "nested too deeply"),
    ("A: " + "{a: " * 20_000, "nested too deeply"),
    ("A: &a [*a]", "contains itself"),
    ("a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
    ), "more than 100000 values"),
    ("A: 1 # " + "x" * 4 * safe_yaml.MAX_CHARACTERS, "is it (a config|an annotation|the right file)"),
    ("A: &a " + "x" * 10_000 + "\nB: [" + "*a, " * 200 + "]", "more than 1000000 characters with its aliases"),
    ("a0: &a0 {k: 1}\n" + "".join(
        f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 9)
    ), "more than 100000 values"),
    ("A: 0x" + "f" * 10_000, "line 1 has a number of more than 100 digits"),
    ("A: 1" + ":1" * 10_000, "line 1 has a number of more than 100 digits"),
    ("A: 2024-13-45", "has a value that cannot be read: ValueError: month must be"),
    ("A: !!binary é", "is not valid YAML: failed to convert base64"),
    ("? [1]\n: 1", "is not valid YAML: found unhashable key"),
], ids=[
    "brackets", "braces", "loop", "aliases of aliases", "large", "aliases of a long text", "merged aliases",
    "hexadecimal number", "number of base 60", "no date", "no base64", "list as a key",
])  # fmt: skip
@pytest.mark.parametrize("kind", ["config", "data set", "study"])
def test_costly_file_is_refused(write, tmp_path, text, match, kind):
    if kind == "config":
        read = partial(load_yaml, write(text))
    elif kind == "data set":
        read = partial(read_boxes, write_yolo(tmp_path / "set"), "yolo")
        write(text, "set/data.yaml")
    else:
        read = partial(load_studies, None, tmp_path)
        write(text, "index.yaml")
    with pytest.raises(SetupError, match=match):
        read()


LOADERS = ("load", "safe_load", "full_load", "unsafe_load", "load_all", "safe_load_all", "compose", "parse", "scan")


def test_no_other_module_reads_yaml():
    """CfgNode's own reader is in Detectron2 and fvcore: nothing here may call that on a file either."""
    readers = set()
    for folder in (Path(retina_plugin.__file__).parent, Path(retina_cli.__file__).parent):
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and (
                    (isinstance(node.value, ast.Name) and node.value.id == "yaml" and node.attr in LOADERS)
                    or node.attr in ("load_cfg", "load_yaml_with_base", "merge_from_file")
                ):
                    readers.add(path.name)
                elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "yaml":
                    readers.add(path.name)
    assert readers == {"safe_yaml.py"}


def test_file_of_the_largest_size_is_read(write):
    assert load_yaml(write("A: 1 #".ljust(safe_yaml.MAX_CHARACTERS, "x"))) == {"A": 1}


def test_tag_that_is_spelled_otherwise_is_not_run_either(write, monkeypatch):
    monkeypatch.setattr(yaml, "unsafe_load", lambda *_: pytest.fail("it was run"))
    with pytest.raises(SetupError, match="line 1 has the tag !!python/object/apply:eval"):
        load_config(write("A: !!p%79thon/object/apply:eval ['1+1']\n"), [])
    with pytest.raises(SetupError, match="line 1 has the tag !!python/object/apply:os.mkdir"):
        load_config(write("A: !!p%79thon/object/apply:os.mkdir [a]\n"), [])


def test_files_that_inherit_twice_each_are_bounded(write):
    for i in range(20):
        write(f"_BASE_: [{i + 1}.yaml, {i + 1}.yaml]\nVERSION: 2\n", f"{i}.yaml")
    write("VERSION: 2\n", "20.yaml")
    with pytest.raises(SetupError, match=rf"inherits from more than {MAX_FILES} files"):
        load_config(write("_BASE_: 0.yaml\n"), [])


def test_text_without_tags_is_loaded_as_it_stands(write):
    text = 'A: "0x10"\nB: 1e3\nC: (1, 2)\nD: !!str 5\nE: {<<: {x: 1}, y: 2}\nF: no\n'
    assert load_yaml(write(text)) == yaml.safe_load(text)


def test_remote_base_is_checked_too(write, monkeypatch):
    opened = PathManager.open

    def answer(path, mode="r", **kwargs):
        return io.StringIO(f"A: {TAGS['call']}\n") if path.startswith("http") else opened(path, mode, **kwargs)

    monkeypatch.setattr(PathManager, "open", answer)
    with pytest.raises(SetupError, match=r"https://host/base.yaml, line 1 has the tag"):
        load_config(write("_BASE_: https://host/base.yaml\nVERSION: 2\n"), [])


def test_line_of_a_key_in_a_file_with_a_tag(write):
    path = write(f"A: !!python/object/apply:eval ['{SIZES}']\nB: 2\n")
    assert find_line(path, "B").endswith("user.yaml, line 2")
    assert parse_yaml("", "x") == (None, None)


def test_remote_base_is_read_through_detectron2(write, monkeypatch):
    texts = {
        "https://host/base.yaml": "_BASE_: deeper.yaml\nB: {x: 1}\n",
        "https://host/deeper.yaml": "A: 1\nB: {y: 2}\n",
    }
    monkeypatch.setattr(PathManager, "open", lambda path, mode: io.StringIO(texts[path]))
    path = write("_BASE_: https://host/base.yaml\nB: {x: 3}\n")
    assert load_yaml(path) == {"A": 1, "B": {"x": 3, "y": 2}}
    assert find_line(path, "A") == path  # without a line


def test_aliased_group_of_a_base_is_changed_where_it_is_named_alone(write):
    write("A: &a {x: 1}\nB: *a\n", "base.yaml")
    assert load_yaml(write("_BASE_: base.yaml\nA: {x: 2}\n")) == {"A": {"x": 2}, "B": {"x": 1}}


def test_group_over_a_value_of_the_base_is_refused(write):
    write("A: {b: 1}\n", "base.yaml")
    with pytest.raises(
        SetupError, match=r"A.b is a group of keys in one file and the value 1 .* \(.*user.yaml, line 3"
    ):
        load_yaml(write("_BASE_: base.yaml\nA:\n  b: {c: 1}\n"))
