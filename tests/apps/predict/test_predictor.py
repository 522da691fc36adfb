"""``RetinaPredictor``: the detections of Detectron2's own predictor, from arrays and files; what is refused."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor
from PIL import Image
from tiny_coco import make_coco

from retina_plugin import RetinaPredictor, SetupError
from retina_plugin.config.load import load_config

pytest_plugins = ("tiny_detector", "tiny_sets")


@pytest.fixture
def weights(run_folder):
    return run_folder / "model_final.pth"


@pytest.fixture
def predictor(weights):
    return RetinaPredictor(None, weights, score_threshold=0.3)


def assert_same(ours, theirs):
    assert len(ours) > 3 and len(ours) == len(theirs)
    # Rounding of folded batch norms and of other sizes of batch.
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-3)
    assert (ours.classes == theirs.classes).all() and ours.image_size == theirs.image_size


def test_detections_are_those_of_detectron2(predictor, weights, make_picture):
    cfg = load_config(str(weights.with_name("config.yaml")), ["MODEL.RETINANET.SCORE_THRESH_TEST", "0.3"])
    cfg.MODEL.WEIGHTS = str(weights)
    image = cv2.imread(str(make_picture()))
    found, expected = predictor(image), DefaultPredictor(cfg)(image)["instances"]
    assert len(found) == len(expected) > 3
    np.testing.assert_allclose(found.boxes, expected.pred_boxes.tensor.numpy(), atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores.numpy(), atol=1e-5)
    assert found.classes.tolist() == expected.pred_classes.tolist()
    assert found.boxes.dtype == found.scores.dtype == np.float32 and found.classes.dtype == np.int64
    assert found.labels == [str(k) for k in found.classes] and found.image_size == (60, 80)
    assert (found.scores >= 0.3).all() and (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_channel_order_is_the_caller_s_and_not_the_config_s(weights, make_picture, image_format):
    path = make_picture()
    bgr = cv2.imread(str(path))
    options = {"score_threshold": 0.3, "opts": ["INPUT.FORMAT", image_format]}
    from_bgr = RetinaPredictor(None, weights, **options)
    from_rgb = RetinaPredictor(None, weights, channel_order="RGB", **options)
    found = from_bgr(bgr)
    assert_same(from_rgb(bgr[:, :, ::-1]), found)
    assert_same(from_rgb(path), found)  # a file has its own order
    assert from_rgb(bgr).scores.tolist() != found.scores.tolist()


def test_batch_finds_what_each_image_alone_gives(predictor, make_picture):
    sizes = [(80, 60), (60, 80), (78, 60), (120, 40), (80, 60)]
    paths = [make_picture(f"{i}.png", *size, seed=i) for i, size in enumerate(sizes)]
    together = predictor.batch(paths)
    assert len(together) == 5 and predictor.batch([]) == []
    for path, found, (width, height) in zip(paths, together, sizes, strict=True):
        assert found.image_size == (height, width)
        assert_same(found, predictor(path))


def test_exif_rotation_is_applied_to_files(predictor, make_picture):
    upright = make_picture("upright.png", 80, 60)
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees clockwise to see it upright
    Image.open(upright).transpose(Image.Transpose.ROTATE_90).save(upright.with_name("turned.png"), exif=exif)
    assert_same(predictor(upright.with_name("turned.png")), predictor(upright))


def test_nothing_found_is_empty_arrays(weights):
    found = RetinaPredictor(None, weights, score_threshold=1)(np.zeros((40, 50, 3), np.uint8))
    assert (found.boxes.shape, found.scores.shape, found.classes.shape) == ((0, 4), (0,), (0,))
    assert len(found) == 0 and found.labels == []


def test_cfg_is_taken_and_left_as_it_is(weights, tiny_cfg, make_picture):
    before = tiny_cfg.dump()
    found = RetinaPredictor(tiny_cfg, weights, score_threshold=0.3)(make_picture())
    assert len(found) > 3 and tiny_cfg.dump() == before
    plain = get_cfg()  # of a user who has not added the plugin's keys
    plain.MODEL.META_ARCHITECTURE = "RetinaNet"
    with pytest.raises(SetupError, match="IN_FEATURES must be among"):
        RetinaPredictor(plain, weights)
    with pytest.raises(SetupError, match="set these keys in the cfg itself"):
        RetinaPredictor(plain, weights, opts=["SEED", "1"])


def test_class_names_come_from_the_manifest_then_from_the_data(weights, register, caplog):
    register(make_coco())
    checkpoint = torch.load(weights)

    def names(classes=None, opts=()):
        torch.save({**checkpoint, **({"manifest": {"classes": classes}} if classes else {})}, weights)
        return RetinaPredictor(None, weights, opts=opts).class_names

    assert names(["a", "b", "c"]) == ("a", "b", "c")
    assert names() == ("0", "1", "2") and "nothing names the classes" in caplog.text
    # Of two classes, where the detector has three.
    assert names(opts=["DATASETS.TEST", "('tiny_train',)"]) == ("0", "1", "2")
    assert "tiny_train names 2 classes, but the detector has 3" in caplog.text
    assert RetinaPredictor(None, weights, class_names=["x", "y", "z"]).class_names == ("x", "y", "z")


GREY = np.zeros((4, 5), np.uint8)
BAD_IMAGES = {
    "none": (None, "The image is None: cv2.imread gives that for a file it cannot read; check its path."),
    "grey": (GREY, "shape (H, W, 3), got (4, 5): make three channels of a gray one with cv2.cvtColor"),
    "alpha": (np.zeros((4, 5, 4), np.uint8), "got (4, 5, 4): drop the alpha channel with image[:, :, :3]."),
    "channels first": (np.zeros((3, 4, 5), np.uint8), "got (3, 4, 5): put the channels last with image.transpose"),
    "batch": (np.zeros((2, 4, 5, 3), np.uint8), "give the images of a batch as a list to predictor.batch."),
    "float": (np.zeros((4, 5, 3)), "must be uint8 with values from 0 to 255, got float64: convert it."),
    "no pixels": (np.zeros((0, 5, 3), np.uint8), "must have pixels, got shape (0, 5, 3): leave it out."),
    "list": ([GREY], "must be a NumPy array or a path, got list: predictor.batch takes several images."),
    "tensor": (torch.zeros(4, 5, 3), "must be a NumPy array or a path, got Tensor: convert it."),
    "no file": ("none.png", "Image none.png is missing."),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_images_are_refused_with_one_sentence(predictor, name):
    image, message = BAD_IMAGES[name]
    with pytest.raises(SetupError) as error:
        predictor(image)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_files_of_other_colours_are_read(predictor, make_picture, mode):
    path = make_picture()
    suffix = ".jpg" if mode == "CMYK" else ".png"
    Image.open(path).convert(mode).save(path.with_name(f"other{suffix}"))
    assert len(predictor(path.with_name(f"other{suffix}"))) > 0


def test_sixteen_bits_are_refused(predictor, tmp_path):
    Image.fromarray(np.full((40, 50), 3000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(
        SetupError, match=r"deep.png has more than 8 bits a channel \(mode I;16\), which .*: convert it"
    ):
        predictor(tmp_path / "deep.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 1.5}, r"score threshold must be in \[0, 1\], got 1.5"),
        ({"score_threshold": float("nan")}, r"must be in \[0, 1\], got nan"),
        ({"channel_order": "GBR"}, "channel_order must be 'BGR' or 'RGB', got 'GBR'"),
        ({"class_names": ["one"]}, "class_names must be the 3 of the detector, got 1"),
        ({"device": "gpu"}, "'gpu' is not one of torch's: give cpu, cuda or mps"),
        ({"opts": ["MODEL.RETINANET.NUM_CLASSES", "5"]}, "the config asks for"),
    ],
)
def test_bad_options_are_refused(weights, options, message):
    with pytest.raises(SetupError, match=message):
        RetinaPredictor(None, weights, **options)


def test_device_that_is_not_there_is_refused(weights, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SetupError, match="device cuda is not on this machine: give cpu"):
        RetinaPredictor(None, weights, device="cuda")


def test_old_weights_need_a_config_beside_them_or_a_named_one(weights, make_picture):
    moved = weights.rename(weights.parent.parent / "moved.pth")
    with pytest.raises(SetupError, match="there is no config.yaml beside it: give the config"):
        RetinaPredictor(None, moved)
    assert len(RetinaPredictor(weights.with_name("config.yaml"), moved)(make_picture())) > 0


def test_batch_wants_a_list(predictor):
    with pytest.raises(SetupError, match="predictor.batch takes a list"):
        predictor.batch("image.png")
