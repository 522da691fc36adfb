"""YAML configs: no tag runs code, and none costs much to refuse."""

import io
import json

import pytest
import yaml
from detectron2.utils.file_io import PathManager

from retina_plugin import SetupError
from retina_plugin.config import safe_yaml
from retina_plugin.config.load import load_config
from retina_plugin.config.safe_loading import load_yaml
from retina_plugin.config.safe_yaml import compose_config, without_tags
from retina_plugin.config.yaml_source import MAX_FILES, find_line

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
    for load in (lambda path: load_config(path, []), load_yaml):  # the check before, and the loader itself
        with pytest.raises(SetupError, match=r"base.yaml, line 1 has the tag !!python/object/apply:os.mkdir"):
            load(write("_BASE_: base.yaml\nVERSION: 2\n"))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("text", [
    "[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]",
    "[x * 2 - 1 + 3 / 4 for x in (1, 2.5)]",
    "[[0.5, 1.0]] ",
    "2**0.5",
])  # fmt: skip
def test_arithmetic_of_a_tag_equals_python(write, text):
    path = write(f"A: !!python/object/apply:eval ['{text}']\nB: &b [1]\nC: *b\n")
    expected = yaml.unsafe_load(open(path))
    assert load_yaml(path) == expected and expected["A"]


@pytest.mark.parametrize("text", [
    "x", "len([1])", "[x for x in [1] if x]", "[x for x in [1] for y in [2]]", "[1] * 9", "9 ** 9 ** 9", "1 / 0", "'a'",
    "(1).real", "[[y for y in [1]] for x in [1]]", "-(" * 400, "1" * 5000, "[1] " + "#" * 1000, "lambda: 1", "1 +", "",
    "[" + "1," * 400 + "]" + "*2", "f'{1}'", "True", "[x for x.real in [1]]", "(0 - 8) ** 0.5", "2 * [1]",
    "[x for x in 5]", "[1, 2)", "int('1')", "1 if 1 else 2", "[*[1]]", "10.0 ** 999",
    "[[" + "x," * 99 + "x] for x in [" + "1," * 99 + "1]]",  # 10,101 values of 400 characters
])  # fmt: skip
def test_more_than_arithmetic_is_refused(write, text):
    path = write(f"A: !!python/object/apply:eval [{json.dumps(text)}]\n")
    with pytest.raises(SetupError, match="line 1 has the tag !!python/object/apply:eval"):
        load_config(path, [])


@pytest.mark.parametrize(("text", "match"), [
    ("[" * 10**5, "nested too deeply"),
    ("A: " + "{a: " * 20_000, "nested too deeply"),
    ("A: &a [*a]", "contains itself"),
    ("a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
    ), "more than 100000 values"),
    ("A: 1 # " + "x" * safe_yaml.MAX_CHARACTERS, "is it a config"),
    ("".join(f"A{i}: !!python/object/apply:eval ['[[{'x,' * 30}] for x in [{'1,' * 30}]]']\n" for i in range(2)),
     "more than 100000 values"),
    ("A: &a !!python/object/apply:eval ['[" + "1," * 300 + "]']\nB: [*a, *a, *a]\n", "more than 100000 values"),
], ids=["brackets", "braces", "loop", "aliases of aliases", "large", "tags", "aliases of a tag"])  # fmt: skip
def test_costly_file_is_refused(write, text, match):
    path = write(text)
    for load in (lambda path: load_config(path, []), load_yaml):  # the check before, and the loader itself
        with pytest.raises(SetupError, match=match):
            load(path)


def test_file_of_the_largest_size_is_read(write):
    assert load_yaml(write("A: 1 #".ljust(safe_yaml.MAX_CHARACTERS, "x"))) == {"A": 1}


def test_tag_that_is_spelled_otherwise_is_not_run_either(write, monkeypatch):
    monkeypatch.setattr(yaml, "unsafe_load", lambda *_: pytest.fail("it was run"))
    with pytest.raises(SetupError, match=r"cannot be loaded: .* the tag 'tag:yaml.org,2002:python/object/apply:eval'"):
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
    assert without_tags(text, "x") == text
    tag = "!!python/object/apply:eval ['1+1']"
    tagged = text + f"G: {tag}\nH: [{tag}, {{x: {tag}}}]\n"
    assert load_yaml(write(tagged)) == {**yaml.safe_load(text), "G": 2, "H": [2, {"x": 2}]}


def test_remote_base_is_checked_too(write, monkeypatch):
    opened = PathManager.open

    def answer(path, mode="r", **kwargs):
        return io.StringIO(f"A: {TAGS['call']}\n") if path.startswith("http") else opened(path, mode, **kwargs)

    monkeypatch.setattr(PathManager, "open", answer)
    with pytest.raises(SetupError, match=r"https://host/base.yaml, line 1 has the tag"):
        load_config(write("_BASE_: https://host/base.yaml\nVERSION: 2\n"), [])


def test_line_of_a_key_in_a_file_with_a_tag(write):
    path = write("A: !!python/object/apply:eval ['1+1']\nB: 2\n")
    assert find_line(path, "B").endswith("user.yaml, line 2")
    assert compose_config("", "x") is None
