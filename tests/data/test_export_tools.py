"""Folders as annotation tools write them: each is read right, in whole and by its parts, or refused with the remedy."""

import re

import export_tools
import pytest
from export_tools import TOOLS, Export, build

from retina_cli.main import main
from retina_plugin.data.formats import detect_format, read_boxes
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


SHARES = {
    # Two files, how many of the one beside how many of the other, and the format; "" for a question.
    "one of twelve": (1, 12, "yolo"), "three of twelve": (3, 12, ""), "twelve and one": (12, 1, "voc"),
}  # fmt: skip


@pytest.mark.parametrize("case", SHARES)
def test_format_is_that_of_most_files_not_of_the_first(tmp_path, case):
    num_voc, num_yolo, kind = SHARES[case]
    scenes = [(f"{i:02}", (96, 64), [(4, 6, 40, 44, "dog")]) for i in range(12)]
    export_tools.draw(tmp_path, scenes)
    for (stem, size, boxes), i in zip(scenes, range(12), strict=True):
        if i < num_voc:
            export_tools.write(tmp_path / f"{stem}.xml", export_tools.voc(f"{stem}.jpg", size, boxes))
        if i < num_yolo:
            export_tools.write(tmp_path / f"{stem}.txt", export_tools.yolo(size, boxes))
    export_tools.write(tmp_path / "classes.txt", "dog")
    export_tools.write(tmp_path / "a_first.json", {"zoom": 2})
    export_tools.write(tmp_path / "results.csv", "epoch,loss\n1,0.5\n")
    if kind:
        assert detect_format(tmp_path) == kind
    else:
        with pytest.raises(
            SetupError, match=r"holds more than one format \(voc, yolo\): say which with DATASETS.FORMAT\."
        ):
            detect_format(tmp_path)


def test_convert_names_its_own_options(tmp_path, capsys):
    build("labelimg_yolo", tmp_path / "set")
    build("labelimg_voc", tmp_path / "set")
    assert main(["convert", str(tmp_path / "set"), "--output", str(tmp_path / "out.json")]) == 2
    assert "(voc, yolo): say which with --format." in capsys.readouterr().err
