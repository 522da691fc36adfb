"""What the files of a data set name: opened inside its folders alone, as regular files of a bounded size."""

import json
import os
import sys
from pathlib import Path

import pytest
from own_folders import WRITERS, replacing, write_coco
from PIL import Image

from retina_cli.main import main
from retina_plugin import reading
from retina_plugin.config.keys import get_retina_cfg
from retina_plugin.data import safe_json
from retina_plugin.data.dataset_content import load_content
from retina_plugin.data.formats import files, read_boxes, xml_tree
from retina_plugin.data.image_paths import bounded_by, check_named, open_named, refuse_outside
from retina_plugin.data.register import register_config_datasets
from retina_plugin.errors import SetupError

pytest_plugins = ("tiny_sets",)
SECRET = "root:$6$secret"
posix = pytest.mark.skipif(sys.platform == "win32", reason="pipes, devices and links")


@pytest.fixture
def secret(tmp_path) -> Path:
    """A text and a picture beside the folder of the set."""
    Image.new("RGB", (64, 48)).save(tmp_path / "secret.png")
    (tmp_path / "secret.txt").write_text(f"{SECRET}\nmore\n")
    return tmp_path / "secret.txt"


def yolo_with(tmp_path: Path, **keys) -> Path:
    root = WRITERS["yolo"](tmp_path / "set")
    (root / "data.yaml").write_text(json.dumps({"names": ["dog", "cat"], **keys}))
    return root


@pytest.mark.parametrize("key", ["train", "val"])
@pytest.mark.parametrize("entry", ["../secret.txt", "ABSOLUTE", "images/../../secret.txt", "./../set/../secret.txt"])
@pytest.mark.parametrize("listed", [False, True])
def test_data_yaml_names_no_file_outside_and_shows_nothing_of_it(tmp_path, secret, capsys, key, entry, listed):
    entry = entry.replace("ABSOLUTE", str(secret))
    root = yolo_with(tmp_path, **{key: [entry] if listed else entry})
    assert main(["convert", str(root), "--format", "yolo", "--output", str(tmp_path / "out.json")]) == 2
    said = capsys.readouterr().err
    assert "secret.txt, which is outside the image folder" in said and SECRET not in said


@pytest.mark.parametrize("path", ["..", "/", "../.."])
def test_path_in_data_yaml_leads_nowhere_outside(tmp_path, secret, path):
    root = yolo_with(tmp_path, path=path, train="secret.txt")
    with pytest.raises(SetupError, match="outside the image folder|does not exist"):
        read_boxes(root, "yolo")


def test_folder_outside_is_refused_before_it_is_walked(tmp_path, monkeypatch):
    root = yolo_with(tmp_path, train="/")
    monkeypatch.setattr(os, "walk", lambda *args, **options: pytest.fail("walked"))
    with pytest.raises(SetupError, match="names the file /, which is outside"):
        read_boxes(root, "yolo")


@posix
@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/random", "/dev/stdin", "pipe"])
def test_device_or_pipe_is_refused_at_once(tmp_path, device, allowed):
    if device == "pipe":
        os.mkfifo(tmp_path / "pipe")
        device = str(tmp_path / "pipe")
    root = yolo_with(tmp_path, train=device)
    with pytest.raises(SetupError, match="not a regular file" if allowed else "outside the image folder"):
        read_boxes(root, "yolo", allow_outside=allowed)


# The text files of each format, and a command's own file of names.
TEXTS = [("voc", "Annotations/a.xml"), ("yolo", "labels/a.txt"), ("yolo", "data.yaml"), ("labelme", "a.json"),
         ("coco", "boxes.json"), ("csv", "boxes.csv"), ("csv", "classes.csv")]  # fmt: skip


@posix
@pytest.mark.parametrize(("kind", "file"), TEXTS)
def test_pipe_in_place_of_a_text_is_refused_and_not_waited_for(tmp_path, kind, file):
    root = WRITERS[kind](tmp_path / "set")
    (root / file).unlink()
    os.mkfifo(root / file)
    with pytest.raises(SetupError, match="is not a regular file"):
        read_boxes(root, kind)


@posix
@pytest.mark.parametrize(("kind", "file"), TEXTS)
def test_text_that_is_a_link_out_of_the_folder_is_refused_unless_allowed(tmp_path, secret, kind, file):
    root = WRITERS[kind](tmp_path / "set")
    (root / file).rename(tmp_path / "kept")
    (root / file).symlink_to(secret)
    with pytest.raises(SetupError, match="is a link to a file outside its folder") as caught:
        read_boxes(root, kind)
    assert SECRET not in str(caught.value)
    (root / file).unlink()
    (root / file).symlink_to(tmp_path / "kept")
    assert len(read_boxes(root, kind, allow_outside=True).images) == 5


@posix
@pytest.mark.parametrize(("kind", "file"), TEXTS)
def test_links_to_folders_and_within_the_folder_are_followed(tmp_path, kind, file):
    root = WRITERS[kind](tmp_path / "set")
    (root / file).rename(root / "kept")
    (root / file).symlink_to(root / "kept")
    for folder in [path for path in root.iterdir() if path.is_dir()]:
        folder.rename(tmp_path / f"moved_{folder.name}")
        folder.symlink_to(tmp_path / f"moved_{folder.name}")
    (tmp_path / "link").symlink_to(root)
    assert len(read_boxes(tmp_path / "link", kind).images) == 5


@posix
def test_file_that_the_user_names_may_be_a_link(tmp_path):
    root = write_coco(tmp_path / "set")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "boxes.json").symlink_to(root / "boxes.json")
    assert len(read_boxes(tmp_path / "mine" / "boxes.json", "coco", images=root / "images").images) == 5


@pytest.mark.parametrize("route", ["TRAIN_JSON", "TRAIN_PATH"])
@pytest.mark.parametrize("name", ["x://../../../secret.png", "x:/../../../secret.png", "sub/../../../secret.png"])
@pytest.mark.parametrize("folder", ["x:", "sub"])
def test_name_that_looks_like_an_address_is_a_path(tmp_path, secret, clean_catalog, route, name, folder):
    root = write_coco(tmp_path / "set")
    (root / "images" / folder).mkdir()
    replacing("boxes.json", '"a.png"', json.dumps(name))(root)
    cfg = get_retina_cfg()
    cfg.DATASETS[route] = str(root / "boxes.json")
    cfg.DATASETS.TRAIN_IMAGES = str(root / "images")
    with pytest.raises(SetupError, match="secret.png, which is outside the image folder"):
        register_config_datasets(cfg, tmp_path / "converted")
        load_content("custom_train", for_training=True, for_test=False)


@posix
def test_steps_up_behind_a_link_are_looked_up_on_the_disk(tmp_path, secret):
    root = write_coco(tmp_path / "set")
    (tmp_path / "more" / "deep").mkdir(parents=True)
    (root / "images" / "link").symlink_to(tmp_path / "more" / "deep")
    Image.new("RGB", (64, 48)).save(tmp_path / "more" / "private.png")
    replacing("boxes.json", '"a.png"', '"link/../private.png"')(root)
    with pytest.raises(SetupError, match="private.png, which is outside"):
        read_boxes(root, "coco", images=root / "images")
    replacing("boxes.json", "link/../private.png", "../images/a.png")(root)  # leads out and in again
    assert len(read_boxes(root, "coco", images=root / "images").images) == 5


def test_addresses_and_their_folders():
    refuse_outside(["s3://bucket/images/a/b.png"], ["s3://bucket/images"], "x")
    for path in ("s3://bucket/other.png", "s3://bucket/images/../other.png", "/etc/other.png", "https://x/other.png"):
        with pytest.raises(SetupError, match="which is outside the image folder s3://bucket/images/"):
            refuse_outside([path], ["s3://bucket/images"], "x")
    with pytest.raises(SetupError, match="outside the image folder"):
        refuse_outside(["x://a/../../b.png"], ["x:"], "x")


def test_bound_ends_with_its_block(tmp_path, secret):
    check_named([secret])
    with bounded_by([tmp_path / "set"], "set", allow_outside=False):
        with pytest.raises(SetupError, match="set names the image .*secret.txt, which is outside"):
            check_named([secret])
        check_named([secret], tmp_path)
        with pytest.raises(SetupError, match="set names the file"), open_named(secret):
            pass
    with open_named(secret) as file:
        assert file.read().startswith(b"root")


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "n" * 5000])
def test_name_that_no_file_can_have_is_a_sentence(tmp_path, name):
    with pytest.raises(SetupError, match="does not exist|cannot be read"):
        reading.read_bytes(tmp_path / name, 10)
    with bounded_by([tmp_path], "set", allow_outside=False), pytest.raises(SetupError, match="outside"):
        check_named([f"{tmp_path}/../{name}"])


def test_reading_stops_at_its_limit(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf12345")
    assert reading.read_text(tmp_path / "a", 8) == "12345"
    with pytest.raises(SetupError, match="has 8 bytes, the limit is 7: is it the right file"):
        reading.read_bytes(tmp_path / "a", 7)
    if Path("/proc/self/status").exists():  # whose size is 0
        with pytest.raises(SetupError, match="has more than 9 bytes"):
            reading.read_bytes("/proc/self/status", 9)
    with pytest.raises(SetupError, match="is a folder"):
        reading.read_bytes(tmp_path, 9)
    (tmp_path / "a").write_bytes(b"\xff")
    with pytest.raises(SetupError, match="not UTF-8"):
        reading.read_text(tmp_path / "a", 8)


def sparse(path: Path) -> None:
    """A file of 2 TB that takes no room."""
    with path.open("wb") as file:
        file.truncate(2**41)


@pytest.mark.parametrize(("kind", "file"), TEXTS)
def test_giant_file_is_refused_at_once(tmp_path, kind, file):
    root = WRITERS[kind](tmp_path / "set")
    try:
        sparse(root / file)
    except OSError:
        pytest.skip("no sparse files here")
    with pytest.raises(SetupError, match=r"bytes, the limit is|more than 16 MB|fewer than 1048576 characters"):
        read_boxes(root, kind)


def test_json_and_csv_beyond_the_free_memory_are_refused(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("[" + "[],{}," * 100 + "1]")
    monkeypatch.setattr(safe_json, "MAX_RUN", 100)
    assert len(safe_json.load_json(tmp_path / "a.json")) == 201
    monkeypatch.setattr(safe_json, "free_memory", lambda: 10_000)
    with pytest.raises(SetupError, match="a.json needs more than .* of memory"):
        safe_json.load_json(tmp_path / "a.json")
    monkeypatch.setattr(files, "free_memory", lambda: 2_000)
    (tmp_path / "a.csv").write_text("a,,,,,\n" * 9)
    with pytest.raises(SetupError, match="a.csv:4: the rows do not fit into the memory"):
        list(files.read_lines(tmp_path / "a.csv"))


def test_xml_of_many_tags_or_texts_is_read_in_bounds(tmp_path, monkeypatch):
    (tmp_path / "a.xml").write_text(f"<annotation>{'&lt;' * 10**6}</annotation>")
    assert xml_tree.read_xml(tmp_path / "a.xml").text == "<" * 10**6
    monkeypatch.setattr(xml_tree, "MAX_ELEMENTS", 10)
    (tmp_path / "a.xml").write_text(f"<annotation>{'<a/>' * 10}</annotation>")
    with pytest.raises(SetupError, match="more than 10 tags"):
        xml_tree.read_xml(tmp_path / "a.xml")


def test_image_that_is_json_is_not_shown(tmp_path):
    root = WRITERS["csv"](tmp_path / "set")
    (root / "pictures" / "a.png").write_text('{"token": "abc"}')
    with pytest.raises(SetupError, match=r"a.png is not an image but text \(JSON\)") as caught:
        read_boxes(root, "csv")
    assert "token" not in str(caught.value)


@posix
@pytest.mark.parametrize("how", ["pipe", "link", "giant"])
@pytest.mark.parametrize(("kind", "file"), TEXTS)
def test_finding_out_the_format_keeps_to_the_same_rule(tmp_path, secret, kind, file, how):
    root = WRITERS[kind](tmp_path / "set")
    (root / file).unlink()
    make = {"pipe": os.mkfifo, "link": lambda path: path.symlink_to(secret), "giant": sparse}[how]
    make(root / file)
    with pytest.raises(SetupError, match=Path(file).name) as caught:
        read_boxes(root)
    assert SECRET not in str(caught.value)
