"""Data from others: paths that leave their folder, files that cost time or memory, names that are no names."""

import json
import os
import struct
import zlib
from pathlib import Path

import pytest
from own_folders import WRITERS, replacing, setting, write_coco
from PIL import Image

from retina_cli.main import main
from retina_plugin.config.keys import get_retina_cfg
from retina_plugin.data import safe_json
from retina_plugin.data.dataset_content import load_content
from retina_plugin.data.formats import files, labelme, read_boxes
from retina_plugin.data.images import find_fault, read_header, read_sizes
from retina_plugin.data.register import register_boxes, register_config_datasets
from retina_plugin.data.safe_json import load_json, parse_json
from retina_plugin.errors import SetupError
from retina_plugin.evaluation.boxes import read_truth

pytest_plugins = ("tiny_sets",)


# Each makes a good folder name ``stray.png`` beside it, as an annotation file can.
LEAVING = {
    "coco": replacing("boxes.json", '"a.png"', '"../../stray.png"'),
    "coco_absolute": replacing("boxes.json", '"a.png"', '"STRAY"'),
    # An image with the annotation's own name would be taken.
    "voc": lambda root: (replacing("Annotations/a.xml", "a.png", "../../stray.png")(root),
                         (root / "JPEGImages/a.png").unlink()),
    "labelme": lambda root: (replacing("a.json", "a.png", "../stray.png")(root), (root / "a.png").unlink()),
    "csv": replacing("boxes.csv", "pictures/a.png", "../stray.png"),
    "csv_absolute": replacing("boxes.csv", "pictures/a.png", "STRAY"),
    "yolo": lambda root: ((root / "list.txt").write_text("../stray.png\n"),
                          (root / "data.yaml").write_text("train: list.txt\nnames: [dog, cat]\n")),
}  # fmt: skip


@pytest.fixture
def leaving(tmp_path, request):
    kind = request.param.partition("_")[0]
    root = WRITERS[kind](tmp_path / "set")
    stray = tmp_path / "stray.png"
    Image.new("RGB", (64, 48)).save(stray)
    (tmp_path / "stray.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    LEAVING[request.param](root)
    for file in ("boxes.json", "boxes.csv"):
        if (root / file).is_file():
            (root / file).write_text((root / file).read_text().replace("STRAY", str(stray)))
    return kind, root


@pytest.mark.parametrize("leaving", LEAVING, indirect=True)
def test_image_outside_its_folder_is_refused_unless_allowed(leaving, tmp_path, capsys):
    kind, root = leaving
    command = ["convert", str(root), "--format", kind, "--output", str(tmp_path / "out.json")]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "stray.png, which is outside the image folder" in said and "ALLOW_OUTSIDE_PATHS True" in said
    assert main([*command, "--allow-outside"]) == 0
    names = [image["file_name"] for image in json.loads((tmp_path / "out.json").read_text())["images"]]
    assert sum(name.endswith("stray.png") for name in names) == 1


def test_folder_of_the_images_that_the_user_names_is_no_outside(tmp_path):
    root = write_coco(tmp_path / "set")
    (root / "images").rename(tmp_path / "photos")
    found = read_boxes(root / "boxes.json", "coco", images=tmp_path / "photos")
    assert len(found.images) == 5


def test_links_in_the_folder_are_followed(tmp_path):
    root = write_coco(tmp_path / "set")
    (root / "images" / "a.png").rename(tmp_path / "elsewhere.png")
    (root / "images" / "a.png").symlink_to(tmp_path / "elsewhere.png")
    assert len(read_boxes(root, "coco").images) == 5


@pytest.mark.parametrize("allowed", [False, True])
def test_json_of_the_config_is_judged_too(tmp_path, clean_catalog, allowed):
    root = write_coco(tmp_path / "set")
    (root / "images" / "a.png").rename(root / "a.png")
    replacing("boxes.json", '"a.png"', '"../a.png"')(root)
    cfg = get_retina_cfg()
    cfg.DATASETS.TRAIN_JSON, cfg.DATASETS.TRAIN_IMAGES = str(root / "boxes.json"), str(root / "images")
    for allow in (allowed, not allowed, allowed):  # a later config counts
        cfg.DATASETS.ALLOW_OUTSIDE_PATHS = allow
        cfg.DATASETS.TRAIN = ()
        register_config_datasets(cfg)
        if allow:
            assert len(load_content("custom_train", for_training=True, for_test=False).image_ids) == 5
        else:
            with pytest.raises(SetupError, match="a.png, which is outside the image folder .*images/"):
                load_content("custom_train", for_training=True, for_test=False)


def test_own_set_with_images_in_two_folders_stays_usable(tmp_path, clean_catalog):
    root = WRITERS["voc"](tmp_path / "set")
    (root / "JPEGImages" / "a.png").rename(root / "Annotations" / "a.png")
    cfg = get_retina_cfg()
    cfg.DATASETS.TRAIN_PATH = str(root)
    register_config_datasets(cfg, tmp_path / "converted")
    content = load_content("custom_train", for_training=True, for_test=False)
    assert sorted(name.rsplit("/", 2)[-2] for name in content.file_names) == ["Annotations"] + ["JPEGImages"] * 4


def test_set_registered_in_python_with_images_in_two_folders_stays_usable(tmp_path, clean_catalog):
    root = WRITERS["voc"](tmp_path / "set")
    (root / "JPEGImages" / "a.png").rename(root / "Annotations" / "a.png")
    register_boxes("farm", root)
    cfg = get_retina_cfg()
    cfg.DATASETS.TRAIN = ("farm",)
    register_config_datasets(cfg)
    assert len(load_content("farm", for_training=True, for_test=False).file_names) == 5


def test_judged_truth_stays_in_its_folder_too(tmp_path):
    root = write_coco(tmp_path / "set")
    replacing("boxes.json", '"a.png"', '"../a.png"')(root)
    with pytest.raises(SetupError, match="outside the image folder"):
        read_truth(root / "boxes.json", root / "images")
    assert len(read_truth(root / "boxes.json", root / "images", allow_outside=True).file_names) == 5
    assert len(read_truth(root / "boxes.json").file_names) == 5  # no image will be looked at


def png_header(width: int, height: int) -> bytes:
    """A PNG of 60 bytes that says that it is large."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def test_gigapixel_header_is_refused_by_name_without_decoding(tmp_path):
    path = tmp_path / "huge.png"
    path.write_bytes(png_header(100_000, 100_000))
    with pytest.raises(SetupError, match=r"huge.png .*DecompressionBombError: .*10000000000 pixels"):
        read_sizes([path])
    assert "DecompressionBombError" in find_fault(read_header(path), (100_000, 100_000))


def test_pipe_in_place_of_an_image_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(SetupError, match="a.png is not a regular file"):
        read_sizes([tmp_path / "a.png"])
    assert find_fault(read_header(tmp_path / "a.png"), (1, 1)) == "is not a regular file"


# Found by fuzzing: pathlib raises OSError for a name that is too long, as it does not for one that is missing.
@pytest.mark.parametrize(("kind", "file", "old"), [
    ("coco", "boxes.json", "a.png"), ("voc", "Annotations/a.xml", "a.png"), ("labelme", "a.json", "a.png"),
    ("csv", "boxes.csv", "a.png"), ("yolo", "data.yaml", "names:"),
])  # fmt: skip
def test_name_that_is_too_long_is_refused_or_left_out(tmp_path, kind, file, old):
    root = WRITERS[kind](tmp_path / "set")
    replacing(file, old, f"train: {'a' * 5000}\nnames:" if kind == "yolo" else "a" * 5000)(root)
    if kind in ("voc", "labelme"):  # which find the image by the annotation's own name
        assert len(read_boxes(root, kind).images) == 5
    else:
        shown = r" no image in .* \(pictures/a{91}\.\.\.\)"
        with pytest.raises(SetupError, match=f"a is missing|a, which does not exist|{shown}"):
            read_boxes(root, kind)


# Found by fuzzing: TypeError and OverflowError.
@pytest.mark.parametrize(("kind", "spoil", "match"), [
    ("labelme", setting("a.json", "shapes", 0, "shape_type", [0]), r"shape 1 has shape_type \[0\]"),
    ("labelme", setting("a.json", "shapes", 0, "points", 0, [10**400, 1]), "needs at least 2 points"),
    ("coco", setting("boxes.json", "categories", 0, "name", [0]), r"a category in .* needs .* a name, got .*\[0\]"),
    ("coco", setting("boxes.json", "categories", 0, "name", True), "a category in .* needs .* a name"),
    ("coco", setting("boxes.json", "annotations", 0, "image_id", [0]),
     r"annotation 1 in .* must have .* image_id, got \[0\]"),
    ("coco", setting("boxes.json", "annotations", 0, "bbox", [1, 1, 10**400, 1]), "annotation 1 in .* must have bbox"),
])  # fmt: skip
def test_values_that_are_no_numbers_or_names_are_refused(tmp_path, kind, spoil, match):
    root = WRITERS[kind](tmp_path / "set")
    spoil(root)
    with pytest.raises(SetupError, match=match):
        read_boxes(root, kind)


@pytest.mark.parametrize("text", ["[" * 10**6, '{"a":' * 10**6], ids=["lists", "objects"])
@pytest.mark.parametrize("kind", ["coco", "labelme"])
def test_million_nested_brackets_are_refused(tmp_path, capsys, kind, text):
    root = WRITERS[kind](tmp_path / "set")
    (root / ("boxes.json" if kind == "coco" else "a.json")).write_text(text)
    assert main(["convert", str(root), "--format", kind, "--output", str(tmp_path / "out.json")]) == 2
    assert "nested too deeply" in capsys.readouterr().err


def test_predictions_and_truth_with_nested_brackets_are_refused(tmp_path):
    (tmp_path / "a.json").write_text("[" * 10**6)
    with pytest.raises(SetupError, match="a.json is nested too deeply"):
        load_json(tmp_path / "a.json")


def test_polygon_of_ten_million_points_is_refused_unparsed(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    with path.open("w") as file:
        file.write('{"annotations": [{"segmentation": [[')
        for _ in range(100):
            file.write("1,2," * 10**5)
        file.write("1,2]]}]}")
    monkeypatch.setattr(safe_json, "parse_json", lambda *_: pytest.fail("it was parsed"))
    with pytest.raises(SetupError, match="has a list or text of more than 16 MB"):
        load_json(path)


@pytest.mark.parametrize("length", [safe_json.MAX_RUN, safe_json.MAX_RUN + 1])
def test_long_run_is_found_across_chunks(tmp_path, length):
    path = tmp_path / "a.json"
    path.write_text('[["a"], "' + "x" * (length - 2 - len(', ""') + 2) + '"]')
    text_between = path.stat().st_size - len('[["a"]') - len("]")
    assert text_between == length
    if length > safe_json.MAX_RUN:
        with pytest.raises(SetupError, match="more than 16 MB"):
            load_json(path)
    else:
        assert load_json(path)[0] == ["a"]


def test_labelme_polygon_of_many_points_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(labelme, "MAX_LISTS", 100)
    root = WRITERS["labelme"](tmp_path / "set")
    content = json.loads((root / "a.json").read_text())
    content["shapes"][0].update(points=[[1, 1]] * 100, shape_type="polygon")
    (root / "a.json").write_text(json.dumps(content))
    assert main(["convert", str(root), "--format", "labelme", "--output", str(tmp_path / "out.json")]) == 2
    assert "a.json has more than 100 lists" in capsys.readouterr().err


def test_number_of_too_many_digits_is_refused(tmp_path):
    with pytest.raises(SetupError, match="a.json has a number that cannot be read"):
        parse_json("[" + "1" * 5000 + "]", Path("a.json"))


def test_csv_line_without_end_is_refused_before_it_is_read_whole(tmp_path):
    root = WRITERS["csv"](tmp_path / "set")
    good = (root / "boxes.csv").read_text()
    (root / "boxes.csv").write_text(good + "a" * (files.MAX_LINE - 1))
    with pytest.raises(SetupError, match="field larger than field limit"):
        read_boxes(root, "csv")
    (root / "boxes.csv").write_text(good + "a" * files.MAX_LINE)
    number = good.count("\n") + 1
    with pytest.raises(SetupError, match=f"boxes.csv:{number}: a line must have fewer than 1048576 characters"):
        read_boxes(root, "csv")


@pytest.mark.parametrize(("text", "match"), [
    ("names: " + "[" * 10**5, "nested too deeply"),
    ("names: 2024-13-45", "has a value that cannot be read"),
    ("names: !!python/object/apply:os.mkdir [x]", "which runs code"),
])  # fmt: skip
def test_yaml_of_a_data_set_is_read_safely(tmp_path, text, match):
    root = WRITERS["yolo"](tmp_path / "set")
    (root / "data.yaml").write_text(text)
    with pytest.raises(SetupError, match=match):
        read_boxes(root, "yolo")
    assert not os.path.exists("x")


def test_convert_prints_class_names_without_control_characters(tmp_path, capsys):
    root = WRITERS["csv"](tmp_path / "set")
    (root / "classes.csv").unlink()
    replacing("boxes.csv", "dog", "d\x1b[2J\x07og")(root)
    assert main(["convert", str(root), "--format", "csv", "--output", str(tmp_path / "out.json")]) == 0
    said = capsys.readouterr().out
    assert r"d\x1b[2J\x07og" in said and "\x1b" not in said


@pytest.mark.parametrize(("kind", "spoil"), [
    ("coco", setting("boxes.json", "categories", 0, "name", "do\ng")),
    ("labelme", setting("a.json", "shapes", 0, "label", "do\ng")),
    ("csv", replacing("boxes.csv", "pictures/a.png", '"do\ng.png"')),
])  # fmt: skip
def test_name_of_two_lines_is_refused(tmp_path, kind, spoil):
    root = WRITERS[kind](tmp_path / "set")
    for parent in (root, root / "images"):
        parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 48)).save(parent / "do\ng.png")
    (root / "classes.csv").unlink(missing_ok=True)
    spoil(root)
    with pytest.raises(SetupError, match=r"has the name '.*do\\ng.*', with a line break"):
        read_boxes(root, kind)


def test_image_name_of_two_lines_behind_detectron2_is_refused(tmp_path, clean_catalog):
    root = WRITERS["coco"](tmp_path / "set")
    setting("boxes.json", "images", 0, "file_name", "do\ng.png")(root)
    cfg = get_retina_cfg()
    cfg.DATASETS.TRAIN_JSON, cfg.DATASETS.TRAIN_IMAGES = str(root / "boxes.json"), str(root / "images")
    register_config_datasets(cfg)
    with pytest.raises(SetupError, match=r"custom_train: .*boxes.json has the name '.*do\\ng.png', with a line break"):
        load_content("custom_train", for_training=True, for_test=False)
