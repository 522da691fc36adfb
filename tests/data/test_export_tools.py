"""Folders as annotation tools write them."""

import pytest
from export_tools import TOOLS, build
from PIL import Image


@pytest.mark.parametrize("name", TOOLS)
def test_folder_of_a_tool_is_built(tmp_path, name):
    export = build(name, tmp_path / "set")
    for image in tmp_path.rglob("*.[jJ]*[gGfF]"):
        assert Image.open(image).size in ((96, 64), (64, 96))
    assert export.path.exists() and (export.boxes or export.refused)


def test_corpus_is_as_large_as_it_should_be():
    assert len(TOOLS) >= 40
