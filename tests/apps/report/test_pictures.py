import sys

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances
from PIL import Image

from retina_plugin.apps.report import pictures
from retina_plugin.apps.report.pictures import class_color, prediction_sheet, write_prediction_sheet
from retina_plugin.errors import SetupError

pytest.importorskip("cv2")

NAMES = ["cat", "dog"]
GREY = (128, 128, 128)
# An image of 160 x 200 (height, width) is drawn at twice its size below the caption; the right panel starts 406 px in.
TOP, RIGHT = pictures.CAPTION_HEIGHT + pictures.GAP, 400 + pictures.GAP


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "grey.png"
    Image.new("RGB", (200, 160), GREY).save(path)
    annotation = {"bbox": [40, 60, 60, 50], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1}
    return {"file_name": str(path), "height": 160, "width": 200, "annotations": [annotation]}


def make_predictions(boxes=(), scores=(), classes=()):
    return Instances(
        (160, 200),
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        scores=torch.tensor(scores, dtype=torch.float32),
        pred_classes=torch.tensor(classes, dtype=torch.long),
    )


def bottom_edge(sheet, left, k):
    """Share of the box's bottom edge, from (80, 220) to (200, 220) in the panel, that has the class's colour."""
    edge = sheet[TOP + 220, left + 80 : left + 200]
    return (edge == class_color(k)).all(axis=1).mean()


def test_prediction_sheet_draws_a_right_prediction_solid_on_both_sides(record):
    predictions = make_predictions([[40, 60, 100, 110]], [0.9], [1])
    sheet = prediction_sheet([record], [predictions], NAMES, score_thresh=0.5)
    assert sheet.dtype == np.uint8 and sheet.shape == (TOP + 320, 400 + RIGHT, 3)
    assert bottom_edge(sheet, 0, 1) == 1 and bottom_edge(sheet, RIGHT, 1) == 1
    assert tuple(sheet[TOP + 300, 300]) == GREY  # the image itself, away from the boxes


@pytest.mark.parametrize("box, k", [([40, 60, 100, 110], 0), ([40, 90, 100, 110], 1)], ids=["wrong class", "IoU 0.4"])
def test_prediction_sheet_dashes_what_is_missed_and_what_is_wrong(record, box, k):
    sheet = prediction_sheet([record], [make_predictions([box], [0.9], [k])], NAMES, score_thresh=0.5)
    # 7 of 13 pixels are drawn, and line ends are about a pixel longer.
    assert 0.45 < bottom_edge(sheet, 0, 1) < 0.85
    assert 0.45 < bottom_edge(sheet, RIGHT, k) < 0.85


def test_prediction_sheet_leaves_out_low_scores(record):
    predictions = make_predictions([[40, 60, 100, 110]], [0.49], [1])
    sheet = prediction_sheet([record], [predictions], NAMES, score_thresh=0.5)
    assert (sheet[TOP:, RIGHT:] == 128).all()
    assert 0.45 < bottom_edge(sheet, 0, 1) < 0.85


def test_prediction_sheet_without_annotations_or_predictions(record):
    del record["annotations"]
    sheet = prediction_sheet([record], [make_predictions()], NAMES, score_thresh=0.5)
    assert (sheet[TOP:, :400] == 128).all() and (sheet[TOP:, RIGHT:] == 128).all()


def test_prediction_sheet_leaves_out_crowds(record):
    record["annotations"][0]["iscrowd"] = 1
    sheet = prediction_sheet([record], [make_predictions()], NAMES, score_thresh=0.5)
    assert (sheet[TOP:, :400] == 128).all()


def test_prediction_sheet_caption_holds_the_threshold(record):
    args = ([record], [make_predictions()], NAMES)
    plain, other = (prediction_sheet(*args, score_thresh=t)[: pictures.CAPTION_HEIGHT] for t in (0.5, 0.25))
    titled = prediction_sheet(*args, score_thresh=0.5, title="run")[: pictures.CAPTION_HEIGHT]
    assert (plain == 255).any()
    assert (plain != other).any() and (plain != titled).any()


def test_prediction_sheet_grid(record):
    sheet = prediction_sheet([record] * 3, [make_predictions()] * 3, NAMES, score_thresh=0.5, columns=2)
    gap = pictures.GAP
    assert sheet.shape == (TOP + 2 * 320 + gap, 4 * 400 + 3 * gap, 3)
    assert (sheet[TOP + 320 + gap :, 2 * 400 + 2 * gap :] == pictures.PAPER).all()  # no fourth pair
    assert prediction_sheet([], [], NAMES, score_thresh=0.5).shape == (pictures.CAPTION_HEIGHT, 1280, 3)


@pytest.mark.parametrize("size, panel", [((100, 80), (320, 400)), ((2000, 1000), (320, 640)), ((1000, 100), (64, 640))])
def test_prediction_sheet_scales_panels(tmp_path, size, panel):
    path = tmp_path / "image.png"
    Image.new("RGB", size, GREY).save(path)
    sheet = prediction_sheet([{"file_name": str(path)}], [make_predictions()], NAMES, score_thresh=0.5)
    assert sheet.shape == (TOP + panel[0], 2 * panel[1] + pictures.GAP, 3)


def test_prediction_sheet_labels_stay_inside_and_survive_any_name(record):
    box = [150, 0, 260, 30]  # at the top, beyond the right border
    args = [record], [make_predictions([box], [0.9], [0])]
    accent, plain = (prediction_sheet(*args, [name, "dog"], score_thresh=0.5) for name in ("caf\u00e9", "cafe"))
    assert (accent == plain).all()
    other, number = (prediction_sheet(*args, [name, "dog"], score_thresh=0.5) for name in ("\u732b", "#0"))
    assert (other == number).all() and (other != plain).any()
    steering = prediction_sheet(*args, ["a\x00\x1b\n", "dog"], score_thresh=0.5)
    assert (steering == number).all()
    assert (plain[TOP : TOP + 6, RIGHT:] == class_color(0)).all(axis=2).any()


def test_no_label_covers_another(monkeypatch):
    drawn, rectangle = [], pictures.cv2.rectangle

    def record_filled(panel, start, end, color, line):
        if line == -1:
            drawn.append((*start, *end))
        return rectangle(panel, start, end, color, line)

    monkeypatch.setattr(pictures.cv2, "rectangle", record_filled)

    def places_of(boxes):
        drawn.clear()
        panel, labels = np.full((200, 300, 3), 128, np.uint8), [f"name {i}" for i in range(len(boxes))]
        pictures.draw_boxes(panel, np.array(boxes, float), [0] * len(boxes), labels, [True] * len(boxes))
        for i, (ax1, ay1, ax2, ay2) in enumerate(drawn):
            assert 0 <= ax1 < ax2 <= 300 and 0 <= ay1 < ay2 <= 200
            for bx1, by1, bx2, by2 in drawn[:i]:
                assert ax1 >= bx2 or bx1 >= ax2 or ay1 >= by2 or by1 >= ay2
        return list(drawn)

    box = [100, 80, 260, 140]
    assert len(places_of([box, [104, 82, 264, 142], [98, 79, 258, 139], [102, 81, 262, 141]])) == 4
    # Where no corner is left, the first boxes go without.
    last = places_of([box])
    crowd = places_of([box] * 30)
    assert crowd[0][:2] == last[0][:2] and len(crowd) == 8
    generator = np.random.default_rng(0)
    corners = generator.integers(-20, 300, (60, 2))
    assert len(places_of(np.hstack([corners, corners + generator.integers(1, 90, (60, 2))]))) > 25


def test_prediction_sheet_refuses_unequal_lengths(record):
    with pytest.raises(ValueError, match="got 0 for 1 records"):
        prediction_sheet([record], [], NAMES, score_thresh=0.5)


def test_prediction_sheet_without_opencv_says_what_to_install(record, monkeypatch):
    import importlib

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cv2", None)
        importlib.reload(pictures)
        with pytest.raises(SetupError, match="pip install opencv-python-headless"):
            pictures.prediction_sheet([record], [make_predictions()], NAMES, score_thresh=0.5)
    importlib.reload(pictures)
    assert pictures.cv2 is not None


def test_prediction_sheet_gives_each_box_to_the_best_score_in_any_order(record):
    right, double = [40, 60, 100, 110], [40, 60, 100, 105]
    sheets = [
        prediction_sheet([record], [make_predictions(boxes, scores, [1, 1])], NAMES, score_thresh=0.5)
        for boxes, scores in (([right, double], [0.9, 0.8]), ([double, right], [0.8, 0.9]))
    ]
    for sheet in sheets:
        assert bottom_edge(sheet, 0, 1) == 1 and bottom_edge(sheet, RIGHT, 1) == 1  # found; and solid: the better one
    swapped = prediction_sheet(
        [record], [make_predictions([right, double], [0.8, 0.9], [1, 1])], NAMES, score_thresh=0.5
    )
    assert bottom_edge(swapped, RIGHT, 1) < 0.85


def test_class_color_tells_classes_apart():
    colors = np.array([class_color(k) for k in range(10)], dtype=float)
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=2)[~np.eye(10, dtype=bool)]
    assert distances.min() > 50  # of 441 from black to white
    assert len({class_color(k) for k in range(80)}) == 80
    assert colors.min() >= 0 and colors.max() <= 255


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG"])
def test_write_prediction_sheet_by_suffix(record, tmp_path, suffix):
    predictions = make_predictions([[40, 60, 100, 110]], [0.9], [1])
    args = [record], [predictions], NAMES
    path = write_prediction_sheet(tmp_path / "new" / f"sheet{suffix}", *args, score_thresh=0.5)
    sheet = prediction_sheet(*args, score_thresh=0.5)
    with Image.open(path) as picture:
        assert picture.format == ("PNG" if suffix == ".png" else "JPEG")
        difference = np.abs(np.asarray(picture).astype(int) - sheet)
    assert difference.max() == 0 if suffix == ".png" else difference.mean() < 4


def test_write_prediction_sheet_refuses_other_suffixes(record, tmp_path):
    with pytest.raises(SetupError, match=r"\.jpg, \.jpeg or \.png, got .*sheet\.gif"):
        write_prediction_sheet(tmp_path / "sheet.gif", [record], [make_predictions()], NAMES, score_thresh=0.5)
