"""Image files that are missing, damaged or of another size than on record."""

import io
import re

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.data.transforms import ResizeShortestEdge
from PIL import Image
from tiny_coco import HEIGHT, WIDTH, make_coco

from retina_plugin.data.checks import check_datasets, check_images
from retina_plugin.data.dataset_content import load_content
from retina_plugin.data.images import find_fault, read_header
from retina_plugin.errors import SetupError
from retina_plugin.findings import raise_first_error

pytest_plugins = ("tiny_sets",)


def test_check_datasets_says_where_the_image_folder_was_looked_for(cfg, register, tmp_path):
    root = register(make_coco())
    DatasetCatalog.remove("tiny_train")
    MetadataCatalog.remove("tiny_train")
    register_coco_instances("tiny_train", {}, str(root / "a.json"), str(tmp_path / "nowhere"))
    with pytest.raises(SetupError, match="the image folder .*nowhere does not exist. Set .*DATASETS.TRAIN_IMAGES"):
        check_datasets(cfg, train=True)


def test_check_datasets_lists_the_first_bad_images_and_counts_them(cfg, register):
    content = make_coco()
    content["images"] += [{"id": i, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(3, 8)]
    root = register(content)
    for i in (2, 3, 4, 5, 6):
        (root / f"{i}.jpg").unlink()
    match = r"5 of 7 images cannot be used: .*2.jpg is missing; .*3.jpg is missing; .*4.jpg is missing ... and 2 more\."
    with pytest.raises(SetupError, match=match):
        check_datasets(cfg, train=True)


def encode(image: Image.Image, image_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def noise(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[274] = orientation
    return tags


JPEG, PNG = encode(noise(), "JPEG"), encode(noise(), "PNG")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><p>404", "is not an image but text .*DOCTYPE"),
        (b"\x00\x01\x02" * 20, "is not an image that Pillow can read"),
        (JPEG[: len(JPEG) // 2], "cannot be read .*truncated"),
        (PNG[: len(PNG) // 2], "cannot be read"),
        (encode(noise(20, 30), "JPEG"), "is 20x30, but on record 40x30$"),
        (encode(noise(HEIGHT, WIDTH), "JPEG"), r"is 30x40, but on record 40x30 \(swapped: EXIF rotation\?\)"),
        (encode(noise(), "JPEG", exif=exif(6)), r"is 30x40 after the EXIF rotation .* on record 40x30 \(swapped\)"),
        (encode(noise(), "PNG", exif=exif(8)), "is 30x40 after the EXIF rotation"),
    ],
    ids=["empty", "html", "bytes", "jpeg_cut", "png_cut", "size", "swapped", "exif_jpeg", "exif_png"],
)
def test_find_fault_names_the_fault(tmp_path, data, match):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    fault = find_fault(read_header(path), (WIDTH, HEIGHT))
    assert re.search(match, fault), fault


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (JPEG, (WIDTH, HEIGHT)),
        (PNG, (WIDTH, HEIGHT)),
        (JPEG, (float("nan"), float("nan"))),
        (JPEG + b"\0" * 100, (WIDTH, HEIGHT)),
        (JPEG + b"\0" * 9000, (WIDTH, HEIGHT)),  # looks cut off, and decodes
        (encode(noise(HEIGHT, WIDTH), "JPEG", exif=exif(6)), (WIDTH, HEIGHT)),
        (encode(noise(), "JPEG", exif=exif(3)), (WIDTH, HEIGHT)),
        (encode(noise().convert("L"), "BMP"), (WIDTH, HEIGHT)),
        (encode(noise().convert("P"), "GIF"), (WIDTH, HEIGHT)),
    ],
    ids=["jpeg", "png", "no_size", "trailing", "much_trailing", "exif_turned", "exif_180", "bmp", "gif"],
)
def test_find_fault_accepts(tmp_path, data, size):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    header = read_header(path)
    assert find_fault(header, size) == ""
    assert header.mode in ("RGB", "L", "P")


def test_find_fault_of_paths_that_are_no_files(tmp_path):
    assert find_fault(read_header(tmp_path / "no.jpg"), (1, 1)) == "is missing"
    assert find_fault(read_header(tmp_path), (1, 1)) == "is a folder"


def test_check_images_refuses_16_bit(register):
    root = register(make_coco())
    Image.fromarray(np.full((HEIGHT, WIDTH), 1000, dtype=np.uint16)).save(root / "2.jpg", "PNG")
    with pytest.raises(SetupError, match=r"1 of 2 images cannot be used: .*2.jpg has more than 8 bits a channel"):
        raise_first_error(check_images(load_content("tiny_train", for_training=True, for_test=False)))


def test_check_images_looks_at_an_even_sample_of_a_large_set(register):
    content = make_coco()
    content["images"] = [{"id": i, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(1, 12)]
    root = register(content)
    loaded = load_content("tiny_train", for_training=True, for_test=False)
    (root / "2.jpg").unlink()  # index 1: not among 0, 5, 10
    assert list(check_images(loaded, max_images=3)) == []
    (root / "6.jpg").unlink()
    with pytest.raises(SetupError, match="1 of 3 images cannot be used: .*6.jpg is missing"):
        raise_first_error(check_images(loaded, max_images=3))


@pytest.mark.parametrize("use", ["train", "test"])
def test_image_that_the_resize_leaves_no_pixel_of_is_found_before_the_start(cfg, register, use):
    content = make_coco()
    content["images"].append({"id": 3, "file_name": "3.png", "width": 9000, "height": 3})
    root = register(content)
    Image.new("RGB", (9000, 3)).save(root / "3.png")
    other = {"train": "TEST", "test": "TRAIN"}[use].upper()
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.DATASETS[use.upper()] = ("tiny_train",)
    cfg.INPUT[f"MAX_SIZE_{use.upper()}"], cfg.INPUT[f"MAX_SIZE_{other}"] = 1400, 1600
    match = (
        "tiny_train: 1 of 3 images cannot be resized: .*3.png is 9000x3 pixels, so thin that "
        f"INPUT.MAX_SIZE_{use.upper()} 1400 leaves less than one pixel of a side. Cut them into parts"
    )
    with pytest.raises(SetupError, match=match):
        check_datasets(cfg, train=use == "train")
    cfg.INPUT[f"MAX_SIZE_{use.upper()}"] = 1600
    check_datasets(cfg, train=use == "train")
    shape = (
        ResizeShortestEdge.get_output_shape(3, 9000, 800, 1400),
        ResizeShortestEdge.get_output_shape(3, 9000, 800, 1600),
    )
    assert [min(sides) for sides in shape] == [0, 1]  # Detectron2's own rule
