"""Folders as annotation tools write them: each is read right, in whole and by its parts, or refused with the remedy."""

import re

import pytest
from export_tools import TOOLS, Export, build

from retina_plugin.data.formats import read_boxes
from retina_plugin.errors import SetupError


def test_corpus_is_as_large_as_it_should_be():
    assert len(TOOLS) >= 85


def check_boxes(export: Export, found, names=None) -> None:
    """The images, and every box within the tolerance, in any order."""
    expected = {name: export.boxes[name] for name in names or export.boxes}
    assert sorted(image.path.name for image in found.images) == sorted(expected)
    for image in found.images:
        boxes = sorted(image.boxes, key=lambda box: box[:4])
        wanted = sorted(expected[image.path.name])
        assert [box.class_name for box in boxes] == [box[4] for box in wanted], image.path
        for box, right in zip(boxes, wanted, strict=True):
            assert box[:4] == pytest.approx(right[:4], abs=export.tolerance), image.path


@pytest.mark.parametrize("name", TOOLS)
def test_export_is_read_right_in_whole_and_by_its_parts_or_refused_with_the_remedy(tmp_path, name):
    export = build(name, tmp_path / "set")
    if export.refused:
        with pytest.raises(SetupError) as error:
            read_boxes(export.path)
        assert re.search(export.refused, str(error.value)), error.value
        return
    found = read_boxes(export.path)
    check_boxes(export, found)
    if export.classes:
        assert found.class_names == export.classes
    remarks = {remark.what for remark in found.remarks}
    assert len(remarks) == len(export.remarks), remarks
    assert all(any(words in remark for remark in remarks) for words in export.remarks), remarks
    if not export.parts:
        return
    for part in ("train", "val"):
        found = read_boxes(export.path, subset=part)
        check_boxes(export, found, export.parts.get(part) or export.parts["test"])
        said = [remark.what for remark in found.remarks if "part" in remark.what or "all of it" in remark.what]
        assert said == ["no part is for validation: the test part is taken"] * (part not in export.parts)
