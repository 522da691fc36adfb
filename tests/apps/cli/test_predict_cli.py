"""``retina predict``: the files it writes, what it skips and reports, and its exit statuses."""

import csv
import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from retina_cli import predict as predict_command
from retina_cli.main import main
from retina_plugin.apps.predict import run
from retina_plugin.apps.predict.drawing import draw_detections
from retina_plugin.apps.predict.predictor import Detections, RetinaPredictor
from retina_plugin.apps.predict.video import VideoWriter
from retina_plugin.apps.report.pictures import class_color
from retina_plugin.errors import EXIT_INTERRUPTED, EXIT_SETUP

pytest_plugins = ("tiny_detector",)

NUM_FRAMES = 5


@pytest.fixture
def predict(run_folder, tmp_path, monkeypatch):
    """predict(words) runs the command in ``tmp_path`` and gives its exit status; results are in ``tmp_path / out``."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: main(
        ["predict", str(run_folder / "model_final.pth"), *words, "--output", "out", "--score", "0.3"]
    )


@pytest.fixture
def clip(tmp_path):
    """A video of five frames of coarse noise."""
    path = tmp_path / "clip.mp4"
    frames = np.random.default_rng(0).integers(0, 256, (NUM_FRAMES, 6, 8, 3), dtype=np.uint8)
    with VideoWriter(path, 10.0) as writer:
        for frame in frames:
            writer.write(cv2.resize(frame, (80, 60)))
    return path


def read_results(folder):
    with open(folder / "predictions.csv", newline="") as file:
        return json.loads((folder / "predictions.json").read_text()), list(csv.DictReader(file))


def frames_of(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (item := capture.read())[0]:
        frames.append(item[1])
    return frames


def test_folder_is_written_as_coco_table_and_pictures(predict, make_picture, tmp_path, run_folder, capsys):
    # Equal names in two folders, and more images than a batch.
    names = ["a/1.png", "a/2.jpg", "b/1.png"]
    paths = [make_picture(f"in/{name}", 80, 60 + 10 * i, seed=i) for i, name in enumerate(names)]
    assert predict("in", "--recursive", "--batch", "2") == 0
    coco, rows = read_results(tmp_path / "out")
    assert [image["file_name"] for image in coco["images"]] == names
    expected = RetinaPredictor(None, run_folder / "model_final.pth", score_threshold=0.3).batch(paths)
    loaded = COCO(tmp_path / "out/predictions.json")
    for image, detections in zip(coco["images"], expected, strict=True):
        annotations = loaded.loadAnns(loaded.getAnnIds(image["id"]))
        boxes = np.array([annotation["bbox"] for annotation in annotations])
        np.testing.assert_allclose(boxes[:, :2] + boxes[:, 2:], detections.boxes[:, 2:], atol=0.01)
        assert [annotation["category_id"] for annotation in annotations] == detections.classes.tolist()
        assert (image["height"], image["width"]) == detections.image_size
    assert len(rows) == len(coco["annotations"]) > 9
    assert rows[0] == {
        "file": "a/1.png", "frame": "", "class": str(expected[0].classes[0]), "label": expected[0].labels[0],
        "score": str(round(float(expected[0].scores[0]), 6)),
        **{key: str(round(float(x), 3)) for key, x in zip(("x1", "y1", "x2", "y2"), expected[0].boxes[0], strict=True)},
    }  # fmt: skip
    assert loaded.loadRes(coco["annotations"]).getAnnIds()
    drawn = tmp_path / "out/drawn"
    assert sorted(path.relative_to(drawn).as_posix() for path in drawn.rglob("*.*")) == names
    picture = cv2.imread(str(drawn / "a/1.png"))
    assert (picture == draw_detections(cv2.imread(str(paths[0])), expected[0])).all()
    assert f"3 images, {len(rows)} objects" in capsys.readouterr().out


def test_broken_files_are_skipped_and_reported(predict, make_picture, tmp_path, capsys):
    good = make_picture("in/good.png")
    (tmp_path / "in/cut.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "in/text.jpg").write_text("<html>")
    (tmp_path / "in/nothing.jpg").touch()
    (tmp_path / "in/film.mp4").write_bytes(b"no film")
    assert predict("in") == predict_command.EXIT_NOT_ALL
    said = capsys.readouterr()
    assert "4 could not be read:" in said.err and "Image in/nothing.jpg is empty." in said.err
    assert "Video in/film.mp4 cannot be opened" in said.err and "moov" not in said.err
    coco, rows = read_results(tmp_path / "out")
    assert [image["file_name"] for image in coco["images"]] == ["good.png"] and rows
    assert [item["file"] for item in coco["info"]["not_read"]] == [
        f"in/{name}" for name in ("cut.png", "nothing.jpg", "text.jpg", "film.mp4")
    ]
    assert [path.name for path in (tmp_path / "out/drawn").iterdir()] == ["good.png"]


def test_no_draw_writes_no_picture_and_needs_no_opencv(predict, make_picture, tmp_path, monkeypatch, capsys):
    make_picture("in/a.png")
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    assert predict("in") == EXIT_SETUP
    assert "Drawing and videos need OpenCV: pip install opencv-python-headless" in capsys.readouterr().err
    assert predict("in", "--no-draw") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["predictions.csv", "predictions.json"]


def test_video_becomes_a_video_and_rows_with_frames(predict, clip, tmp_path):
    assert predict("clip.mp4", "--batch", "2") == 0
    coco, rows = read_results(tmp_path / "out")
    assert [image["frame"] for image in coco["images"]] == list(range(NUM_FRAMES))
    assert {image["file_name"] for image in coco["images"]} == {"clip.mp4"}
    assert {row["frame"] for row in rows} <= set(map(str, range(NUM_FRAMES))) and rows
    frames = frames_of(tmp_path / "out/drawn/clip.mp4")
    assert len(frames) == NUM_FRAMES and frames[0].shape == (320, 426, 3)  # 60 x 80 enlarged; an even width
    assert cv2.VideoCapture(str(tmp_path / "out/drawn/clip.mp4")).get(cv2.CAP_PROP_FPS) == 10
    assert not list((tmp_path / "out/drawn").glob(".*"))


def test_frames_limits_a_video(predict, clip, tmp_path):
    assert predict("clip.mp4", "--frames", "3", "--no-draw") == 0
    assert len(read_results(tmp_path / "out")[0]["images"]) == 3
    assert not (tmp_path / "out/drawn").exists()


class FakeCapture:
    """A video of ten announced frames a second of which ``frames`` can be read; an exception is raised in its place."""

    def __init__(self, frames):
        self._frames = iter(frames)

    def get(self, prop):
        return {cv2.CAP_PROP_FPS: 10.0, cv2.CAP_PROP_FRAME_COUNT: 100}[prop]

    def read(self):
        frame = next(self._frames, None)
        if isinstance(frame, BaseException):
            raise frame
        return frame is not None, frame

    def release(self):
        pass


FRAME = np.zeros((60, 80, 3), np.uint8)


def test_video_that_ends_early_is_reported(predict, clip, monkeypatch, capsys):
    monkeypatch.setattr(run, "_open", lambda source: FakeCapture([FRAME] * 4))
    assert predict("clip.mp4") == predict_command.EXIT_NOT_ALL
    assert "Video clip.mp4: only 4 of 100 frames can be read." in capsys.readouterr().err


def test_camera_ends_with_an_interruption_and_a_video_does_too(predict, clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "_open", lambda source: FakeCapture([FRAME, FRAME, KeyboardInterrupt()]))
    monkeypatch.setattr("retina_plugin.apps.predict.video.count_frames", lambda capture: None)
    assert predict("0") == 0
    assert len(frames_of(tmp_path / "out/drawn/camera0.mp4")) == 2
    assert predict("clip.mp4", "--overwrite", "--batch", "1") == EXIT_INTERRUPTED
    assert len(read_results(tmp_path / "out")[0]["images"]) == len(frames_of(tmp_path / "out/drawn/clip.mp4")) == 2
    assert "stopped: what was found so far is written" in capsys.readouterr().err


def test_results_are_not_mixed(predict, make_picture, capsys):
    make_picture("in/a.png")
    assert predict("in") == 0
    assert predict("in") == EXIT_SETUP
    assert "out/predictions.json exists: give --output another folder, or --overwrite." in capsys.readouterr().err
    assert predict("in", "--overwrite") == 0


def test_results_beside_the_images_are_not_predicted_on_again(predict, make_picture, tmp_path):
    make_picture("out/a.png")
    assert predict("out", "--recursive") == 0 and (tmp_path / "out/drawn/a.png").exists()
    assert predict("out", "--recursive", "--overwrite") == 0
    assert [image["file_name"] for image in read_results(tmp_path / "out")[0]["images"]] == ["a.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.jpg"], "none.jpg does not exist"),
        (["a.png", "--batch", "0"], "--batch must be at least 1, got 0."),
        (["a.png", "--frames", "-2"], "--frames must be at least 1, got -2."),
        (["a.png", "--score", "1.2"], "must be in [0, 1], got 1.2."),
        (["a.png", "--opts", "MODEL.RETINANET.NUM_CLASSES", "7"], "the config asks for"),
        (["a.png", "--config-file", "none.yaml"], "Config file none.yaml does not exist."),
        (["99"], "Camera 99 cannot be opened: it is not there, in use or not permitted."),
    ],
)
def test_mistakes_are_one_line_with_status_2(predict, make_picture, tmp_path, capfd, words, message):
    make_picture("a.png")
    arguments = [*words[:1], "--output", "out", *words[1:]]  # --opts takes all that follows
    assert main(["predict", str(tmp_path / "run/model_final.pth"), *arguments]) == EXIT_SETUP
    said = capfd.readouterr().err
    assert said.startswith("error: ") and message in said and "Traceback" not in said and "VIDEOIO" not in said
    assert not (tmp_path / "out").exists()


def test_folder_that_cannot_be_written_is_named(predict, make_picture, tmp_path, capsys):
    make_picture("in/a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/drawn").touch()
    assert predict("in") == EXIT_SETUP
    assert "out/drawn cannot be written" in capsys.readouterr().err


def detections(boxes, name="cat"):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(boxes, np.full(len(boxes), 0.5, np.float32), np.zeros(len(boxes), int), (name,), (0, 0))


def changed_region(height, width, box, name):
    """First and last row and column of a grey picture that drawing changes."""
    grey = np.full((height, width, 3), 128, np.uint8)
    drawn = draw_detections(grey, detections([box], name))
    assert (grey == 128).all()  # the caller's stays
    return drawn, (drawn != 128).any(axis=2)


@pytest.mark.parametrize("box", [[0, 0, 30, 30], [610, 460, 639, 479], [600, 0, 639, 20], [0, 440, 20, 479]])
def test_labels_stay_inside_the_picture(box):
    _, changed = changed_region(480, 640, box, "erythrocyte")
    # As long as anywhere else, but for the pixel that a box's line lies left and right of its edge.
    _, reference = changed_region(480, 640, [300, 200, 330, 230], "erythrocyte")
    assert changed.any(axis=0).sum() + 2 >= reference.any(axis=0).sum() > 90
    assert changed.any(axis=1).sum() >= 14


def test_small_pictures_are_enlarged_and_long_labels_shrunk():
    drawn, changed = changed_region(32, 32, [4, 4, 28, 28], "a name of sixty letters " * 3)
    assert drawn.shape == (320, 320, 3)
    color = class_color(0)[::-1]
    label = (drawn == color).all(axis=2)[:40]  # of the class's colour, across the picture
    assert 0.9 < label.any(axis=0).mean()
    assert draw_detections(np.zeros((900, 1200, 3), np.uint8), detections([])).shape == (900, 1200, 3)


def test_video_writer_leaves_nothing_half_written(tmp_path):
    with pytest.raises(OSError, match="full"), VideoWriter(tmp_path / "v.mp4", 10) as writer:
        writer.write(FRAME)
        raise OSError("full")
    with VideoWriter(tmp_path / "none.mp4", 10):
        pass
    assert list(tmp_path.iterdir()) == []
