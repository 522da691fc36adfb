"""Inputs that are hard to read: each is read or named in one line, and never ends a prediction run."""

import json
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from retina_cli.main import main
from retina_plugin.apps.predict import video
from retina_plugin.apps.predict.image_input import read_pages
from retina_plugin.apps.predict.predictor import RetinaPredictor
from retina_plugin.apps.predict.sources import find_sources
from retina_plugin.errors import SetupError

pytest_plugins = ("tiny_detector",)


@pytest.fixture
def predict(run_folder, tmp_path, monkeypatch):
    """predict(words) runs the command in ``tmp_path`` and gives its exit status and ``out/predictions.json``."""
    monkeypatch.chdir(tmp_path)

    def run(*words, score="0.3"):
        command = ["predict", str(run_folder / "model_final.pth"), *words, "--output", "out", "--score", score]
        status = main(command)
        path = tmp_path / "out/predictions.json"
        return status, json.loads(path.read_text()) if path.exists() else None

    return run


def noise(height, width, mode="RGB"):
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def write_clip(path, codec="MJPG", count=4, suffix=".avi"):
    """Write a video under a name that OpenCV's writer would not take."""
    part = path.with_name(f"part{suffix}")
    writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*codec), 10.0, (64, 48))
    for level in range(count):
        writer.write(np.full((48, 64, 3), 60 * level, np.uint8))
    writer.release()
    part.rename(path)


def test_odd_pictures_are_named_and_the_rest_is_written(predict, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    thin, deep = (
        "so thin that INPUT.MAX_SIZE_TEST 128 leaves less than one pixel of a side: cut it into parts.",
        ("which Detectron2 would cut at 255: convert it to 8 bits."),
    )
    read = {
        "good.png": noise(60, 80), "thin.png": noise(4, 300), "pixel.png": noise(1, 1),
        "cmyk.jpg": noise(40, 50).convert("CMYK"),
        "palette.gif": noise(40, 50).convert("P"), "alpha.png": noise(40, 50).convert("RGBA"),
        "gray.png": noise(40, 50, "L"), "two.png": noise(40, 50).convert("1"), "line\nbreak.png": noise(40, 50),
        os.fsdecode(b"caf\xe9.png"): noise(40, 50),
        "noext": noise(40, 50), "long" + "g" * 240 + ".tif": noise(40, 50),
    }  # fmt: skip
    for name, image in read.items():
        image.save(folder / name, format="PNG" if "." not in name else None)
    noise(1, 3000).save(folder / "line.png")
    noise(5000, 1).save(folder / "column.png")
    noise(3, 9000).save(folder / "strip.png")
    (folder / "cut.jpg").write_bytes((folder / "cmyk.jpg").read_bytes()[:900])
    Image.fromarray(np.full((40, 50), 3000, np.uint16)).save(folder / "deep.png")
    Image.fromarray(np.full((40, 50), 0.5, np.float32)).save(folder / "float.tif")
    (folder / "empty.jpg").touch()
    (folder / "folder.jpg").mkdir()
    (folder / "text.bmp").write_text("<html>")
    (folder / "notes.txt").write_text("FFmpeg draws text as a video. " * 50)
    (folder / "program.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    os.mkfifo(folder / "pipe.png")
    (folder / "lost.png").symlink_to("nowhere.png")
    status, found = predict("in")
    assert status == 1
    names = {image["file_name"] for image in found["images"]}
    assert names == set(read)
    named = {item["file"].removeprefix("in/"): item["reason"] for item in found["info"]["not_read"]}
    assert {name: reason.split(name)[1].split(" (1")[0] for name, reason in named.items()} == {
        "column.png": f" is 1x5000 pixels, {thin}",
        "cut.jpg": " cannot be read (OSError: image file is truncated",
        "deep.png": f" has more than 8 bits a channel (mode I;16), {deep}",
        "empty.jpg": " is empty.",
        "float.tif": f" has more than 8 bits a channel (mode F), {deep}",
        "folder.jpg": " is a folder.",
        "line.png": f" is 3000x1 pixels, {thin}",
        "lost.png": " is missing.",
        "pipe.png": " is not a regular file.",
        "strip.png": f" is 9000x3 pixels, {thin}",
        "text.bmp": " is not an image but text ('<html>'...).",
    }
    said = capsys.readouterr().err
    assert f"{len(named)} could not be read:" in said and all(f"  {reason}\n" in said for reason in named.values())
    drawn = [path for path in (tmp_path / "out/drawn").iterdir() if path.stat().st_size]
    assert len(drawn) == len(read)


def test_a_picture_longer_than_a_jpeg_is_drawn_smaller(predict, tmp_path):
    Image.new("RGB", (66_000, 40)).save(tmp_path / "scan.tif", compression="tiff_deflate")
    status, found = predict("scan.tif", "--opts", "INPUT.MAX_SIZE_TEST", "3000")
    assert status == 0 and found["images"][0]["width"] == 66_000
    Image.MAX_IMAGE_PIXELS, limit = None, Image.MAX_IMAGE_PIXELS
    try:
        assert Image.open(tmp_path / "out/drawn/scan.tif.jpg").size == (65_500, 40)
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def test_a_picture_that_cannot_be_drawn_keeps_its_detections(predict, make_picture, monkeypatch, capsys):
    make_picture("in/a.png")
    make_picture("in/b.png")
    results = iter([(False, None), (True, np.zeros(4, np.uint8))])
    monkeypatch.setattr(cv2, "imencode", lambda *arguments: next(results))
    status, found = predict("in")
    assert status == 1 and [image["file_name"] for image in found["images"]] == ["a.png", "b.png"]
    assert found["info"]["not_drawn"] == [{"file": "a.png", "reason": "80x60 pixels cannot be drawn as .png"}]
    assert "1 could not be drawn, but their detections are written:" in capsys.readouterr().err


def test_a_picture_too_large_for_memory_is_named(predict, make_picture, monkeypatch):
    for name, width in (("a", 80), ("b", 90), ("c", 80)):
        make_picture(f"in/{name}.png", width=width)
    detect = RetinaPredictor.detect

    def fail(self, inputs):
        if any(given["width"] == 90 for given in inputs):
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.\nframe #0")
        return detect(self, inputs)

    monkeypatch.setattr(RetinaPredictor, "detect", fail)
    status, found = predict("in")
    assert status == 1 and [image["file_name"] for image in found["images"]] == ["a.png", "c.png"]
    reason = found["info"]["not_read"][0]["reason"]
    assert reason == (
        "in/b.png: nothing can be detected in 90x60 pixels (DefaultCPUAllocator: not enough memory: you tried to "
        "allocate 9 bytes.)."
    )


def test_large_pictures_run_with_fewer_at_once(predict, make_picture, monkeypatch):
    for name in "abc":
        make_picture(f"in/{name}.png")
    sizes = []
    detect = RetinaPredictor.detect
    monkeypatch.setattr(
        RetinaPredictor, "detect", lambda self, inputs: sizes.append(len(inputs)) or detect(self, inputs)
    )
    monkeypatch.setattr("retina_plugin.apps.predict.run.MOST_VALUES", 80 * 60 * 3)
    assert predict("in", "--no-draw", "--batch", "9" * 9)[0] == 0 and sizes == [2, 1]


@pytest.mark.parametrize(
    ("image_format", "options"), [("TIFF", {}), ("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})]
)
def test_every_page_is_read(predict, tmp_path, image_format, options):
    levels = (40, 90, 160)
    pages = [Image.new("RGB", (80, 60), (level, level, level)) for level in levels]
    name = f"a.{image_format.lower()}"
    pages[0].save(tmp_path / name, image_format, save_all=True, append_images=pages[1:], **options)
    status, found = predict(name, score="0")
    assert status == 0
    assert [(image["file_name"], image["frame"]) for image in found["images"]] == [(name, k) for k in range(3)]
    drawn = sorted(
        path.relative_to(tmp_path / "out/drawn").as_posix() for path in (tmp_path / "out/drawn").rglob("*.*g")
    )
    suffix = ".png" if image_format == "PNG" else ".jpg"
    assert [path for path in drawn if path != name] == [f"{name}/{k}{suffix}" for k in range(3)]
    read = list(read_pages(tmp_path / name, None))
    assert [number for number, _ in read] == [0, 1, 2]
    assert [int(pixels.mean().round()) for _, pixels in read] == list(levels)
    assert len(list(read_pages(tmp_path / name, 2))) == 2


def test_pages_that_are_no_pictures_of_their_own_are_left_out(tmp_path):
    page, preview = Image.new("RGB", (80, 60), (90, 90, 90)), Image.new("RGB", (40, 30))
    preview.encoderinfo = {"tiffinfo": {254: 1}}  # NewSubfileType: a smaller copy
    page.save(tmp_path / "pyramid.tif", save_all=True, append_images=[preview, page.copy()])
    assert [number for number, _ in read_pages(tmp_path / "pyramid.tif", None)] == [0, 2]
    page.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[preview])
    assert [number for number, _ in read_pages(tmp_path / "phone.jpg", None)] == [None]


def test_a_damaged_page_is_named_with_its_number(tmp_path):
    pages = [noise(60, 80), Image.new("F", (80, 60)), noise(60, 80)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    first, second, third = read_pages(tmp_path / "a.tif", None)
    assert (first[0], second[0], third[0]) == (0, 1, 2) and third[1].shape == (60, 80, 3)
    assert "a.tif: page 1 has more than 8 bits a channel (mode F)" in str(second[1])
    gif = tmp_path / "a.gif"
    pages[0].save(gif, save_all=True, append_images=[noise(60, 80).rotate(180)])
    gif.write_bytes(gif.read_bytes()[:-1000])
    (_, good), (number, error) = read_pages(gif, None)
    assert good.shape == (60, 80, 3) and number == 1 and "a.gif: page 1 cannot be read (OSError: " in str(error)


def test_page_beyond_the_limit_of_pixels_is_refused(tmp_path, monkeypatch):
    Image.new("L", (40, 30)).save(tmp_path / "a.tif", save_all=True, append_images=[Image.new("L", (400, 300))])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    (_, good), (_, error) = read_pages(tmp_path / "a.tif", None)
    assert good.shape == (30, 40, 3) and "page 1 has 120000 pixels, over the limit of 100000: make it smaller" in str(
        error
    )


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [("clip.mkv", "mp4v", ".mkv"), ("clip.ts", "mp4v", ".ts"), ("clip", "MJPG", ".avi"), ("clip.jpg", "mp4v", ".mp4"),
     ("clip.flv", "FLV1", ".flv"), ("clip.webm", "VP80", ".webm"), ("clip.dat", "WMV1", ".wmv")],
)  # fmt: skip
def test_videos_are_found_by_their_content(tmp_path, name, codec, container):
    write_clip(tmp_path / name, codec, suffix=container)
    noise(40, 50).save(tmp_path / "photo.dat2", "JPEG")
    (tmp_path / "labels.txt").write_text("0 0.5 0.5 0.1 0.1\n" * 50)
    (tmp_path / "model.pth").write_bytes(bytes(range(256)) * 40)
    for words in ([str(tmp_path)], [str(tmp_path / name), str(tmp_path / "photo.dat2")]):
        assert {source.name: source.kind for source in find_sources(words)} == {name: "video", "photo.dat2": "image"}
    source = find_sources([str(tmp_path / name)])[0]
    assert len(list(video.read_frames(video.open_video(source), None))) == 4


def test_a_stream_is_read_until_its_end_and_its_password_kept(predict, tmp_path, monkeypatch, capfd):
    write_clip(tmp_path / "clip.avi")
    opened, open_capture = [], cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda where: opened.append(where) or open_capture("clip.avi"))
    address = "rtsp://me:secret@host.example/live/1"
    status, found = predict(address, "--frames", "3")
    assert status == 0 and set(opened) == {address}
    assert [image["file_name"] for image in found["images"]] == ["host.example_live_1"] * 3
    assert (tmp_path / "out/drawn/host.example_live_1.mp4").exists() and "secret" not in json.dumps(found)
    monkeypatch.undo()
    assert main(["predict", str(tmp_path / "run/model_final.pth"), "rtsp://me:secret@127.0.0.1:9/live"]) == 2
    said = capfd.readouterr().err
    assert "Stream rtsp://127.0.0.1:9/live cannot be opened: nothing answers there" in said and "secret" not in said


def test_names_that_opencv_cannot_take_are_named(predict, tmp_path):
    write_clip(tmp_path / "in.avi")
    (tmp_path / "in").mkdir()
    (tmp_path / "in.avi").rename(tmp_path / "in" / os.fsdecode(b"caf\xe9.avi"))
    write_clip(tmp_path / "in/good.avi")
    status, found = predict("in")
    assert status == 1 and {image["file_name"] for image in found["images"]} == {"good.avi"}
    assert [item["reason"] for item in found["info"]["not_read"]] == [
        "Video in/caf\\udce9.avi cannot be opened: its name is not UTF-8, which OpenCV needs: rename it."
    ]


def test_frames_of_no_size_end_their_video_alone(predict, make_picture, tmp_path, monkeypatch):
    make_picture("in/a.png")
    write_clip(tmp_path / "in/b.avi")
    write_clip(tmp_path / "in/c.avi")
    frames = {"b.avi": np.zeros((1, 3000, 3), np.uint8), "c.avi": np.zeros((1, 40, 3), np.uint8)}
    open_video = video.open_video

    class Capture:
        def __init__(self, source):
            self.source, self.real = source, open_video(source)

        def read(self):
            success, _ = self.real.read()
            return success, frames[self.source.name]

        def __getattr__(self, name):
            return getattr(self.real, name)

    monkeypatch.setattr("retina_plugin.apps.predict.run._open", Capture)
    status, found = predict("in")
    assert status == 1 and [image["file_name"] for image in found["images"]] == ["a.png"] + ["c.avi"] * 4
    assert [item["file"] for item in found["info"]["not_read"]] == ["in/b.avi"]
    assert "Video in/b.avi: a frame is 3000x1 pixels, so thin" in found["info"]["not_read"][0]["reason"]


def test_nothing_found_names_the_highest_score(predict, make_picture, tmp_path, capsys):
    make_picture("in/a.png")
    _, found = predict("in", score="0")
    best = max(annotation["score"] for annotation in found["annotations"])
    capsys.readouterr()
    status, _ = predict("in", "--overwrite", "--no-draw", score="0.9999")
    assert status == 0
    said = capsys.readouterr().out.splitlines()
    assert f"the highest score is {best:.2g}: try --score {int(best * 10) / 10}." in said[-2]
    assert said[-1].startswith("Next: look at out/drawn; with boxes of your own: retina evaluate --predictions out/")


def test_drawn_names_are_unique_whatever_the_inputs_are_called(tmp_path):
    for name in ("a.png", "a.jpg", "a.tif", "a.TIF", "a.gif", "x/a.png", "b_2.jpg", "b.jpg", "B.jpg", "x" * 250):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        noise(8, 8).save(tmp_path / name, format="PNG")
    sources = find_sources([str(tmp_path)], recursive=True)
    drawn = [source.drawn_name.lower() for source in sources]
    assert len(set(drawn)) == len(drawn) == 10 and all(len(name) < 220 for name in drawn)


def test_folder_that_cannot_be_read_is_refused_or_named(tmp_path, monkeypatch):
    noise(8, 8).save(tmp_path / "a.png")
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SetupError, match="The folder .*locked cannot be read: Permission denied"):
        find_sources([str(tmp_path / "locked")])
    assert [source.name for source in find_sources([str(tmp_path)], recursive=True)] == ["a.png", "locked"]
