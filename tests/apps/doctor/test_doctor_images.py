"""Image files read by ``retina doctor``: damage, copies, pictures in training and test alike; the cache; the search."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_pictures import HEIGHT, WIDTH, draw

from retina_plugin.apps.doctor import image_scan, near_duplicates
from retina_plugin.apps.doctor.fingerprint import THUMB_SIDE, ImageScan, scan_image
from retina_plugin.apps.doctor.image_scan import ScanCache, default_cache, scan_images
from retina_plugin.apps.doctor.near_duplicates import MAX_BITS, find_near, group_exact
from retina_plugin.data.images import ImageHeader
from retina_plugin.errors import SetupError

pytest_plugins = ("tiny_sets", "doctor_sets")


def test_damage_inside_a_file_is_found(tmp_path):
    draw(1, 400, 300).save(tmp_path / "a.jpg", quality=95)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2] + b"\xff\xd9")  # the end marker is there
    assert scan_image(str(tmp_path / "a.jpg")).header.fault == ""
    draw(1, 400, 300).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "bad.png").write_bytes(data)
    fault = scan_image(str(tmp_path / "bad.png")).header.fault
    assert fault.startswith("cannot be read ("), fault
    assert scan_image(str(tmp_path / "none.png")).header.fault == "is missing"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("half.jpg", lambda image: image.resize((image.width // 2, image.height // 2))),
        ("low.jpg", lambda image: image),
        ("gray.png", lambda image: image.convert("L")),
        ("turned.jpg", lambda image: image.transpose(Image.Transpose.ROTATE_90)),
        ("deep.png", lambda image: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)),
    ],
)
def test_a_copy_in_another_form_looks_like_its_original(tmp_path, name, change):
    original = draw(3, 320, 240)
    original.save(tmp_path / "a.png")
    exif = Image.Exif()
    if name == "turned.jpg":
        exif[274] = 6  # shown turned by 90 degrees to the right: as the original
    change(original).save(tmp_path / name, **({"quality": 50, "exif": exif} if name.endswith("jpg") else {}))
    draw(4, 320, 240).save(tmp_path / "other.png")
    train = [scan_image(str(tmp_path / "other.png")), scan_image(str(tmp_path / "a.png"))]
    assert find_near(train, [scan_image(str(tmp_path / name))]).keys() == {0}
    assert find_near(train, [scan_image(str(tmp_path / name))])[0][0] == 1
    assert find_near(train[:1], [scan_image(str(tmp_path / name))]) == {}


def flip(dhash: bytes, bits) -> bytes:
    number = int.from_bytes(dhash, "big")
    for bit in bits:
        number ^= 1 << int(bit)
    return number.to_bytes(8, "big")


def test_find_near_finds_every_pair_within_the_limit(monkeypatch):
    monkeypatch.setattr(near_duplicates, "_BLOCK", 64)  # many blocks
    rng = np.random.default_rng(0)
    header = ImageHeader("")

    def make(dhash=None, thumb=None):
        return ImageScan(header, rng.bytes(16), dhash or rng.bytes(8), thumb or rng.bytes(THUMB_SIDE**2))

    train = [make() for _ in range(300)]
    copies = [  # 0 to 9 bits away, of every distance ten, at any place
        (i, make(flip(train[i].dhash, rng.choice(64, i % 10, replace=False)), train[i].thumb)) for i in range(100)
    ]
    found = find_near(train, [copy for _, copy in copies] + [make() for _ in range(50)])
    assert {j: i for j, (i, _) in found.items()} == {i: i for i in range(100) if i % 10 <= MAX_BITS}
    # The hash alone is no proof, and a picture that is even has none.
    assert find_near(train, [make(train[0].dhash)]) == {}
    even = [ImageScan(header, bytes([i] * 16), bytes(8), bytes([90] * THUMB_SIDE**2)) for i in range(2)]
    assert find_near(even[:1], even[1:]) == {} and find_near([], even) == {} and find_near(train, []) == {}


def test_group_exact_leaves_out_what_could_not_be_read():
    looks = [ImageScan(ImageHeader(""), digest) for digest in (b"a", b"b", b"a", b"", b"", b"a")]
    assert group_exact(looks) == [[0, 2, 5]]


def test_scan_reads_a_file_once_and_again_when_it_changed(tmp_path, monkeypatch):
    names = []
    for i in range(3):
        draw(i).save(tmp_path / f"{i}.png")
        names.append(str(tmp_path / f"{i}.png"))
    (tmp_path / "bad.png").write_bytes(b"no image")
    names += [str(tmp_path / "bad.png"), str(tmp_path / "absent.png"), names[0]]
    cache = tmp_path / "sub" / "cache.sqlite"
    seen = []
    monkeypatch.setattr(image_scan, "scan_image", lambda name: seen.append(name) or scan_image(name))

    first = scan_images(names, jobs=1, cache=ScanCache(cache), quiet=True)
    assert seen == names[:5] and list(first) == names[:5]
    seen.clear()
    assert scan_images(names, jobs=1, cache=ScanCache(cache), quiet=True) == first
    assert seen == [names[4]]  # what is not there is asked for each time
    seen.clear()
    draw(9, WIDTH + 1, HEIGHT).save(names[1])
    again = scan_images(names, jobs=1, cache=ScanCache(cache), quiet=True)
    assert seen == [names[1], names[4]] and again[names[1]].header.width == WIDTH + 1


def test_scan_by_several_processes_gives_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(image_scan, "_CHUNK", 2)
    names = []
    for i in range(5):
        draw(i).save(tmp_path / f"{i}.png")
        names.append(str(tmp_path / f"{i}.png"))
    assert scan_images(names, jobs=2, quiet=True) == scan_images(names, jobs=1, quiet=True)


def test_a_cache_that_cannot_be_used_does_no_harm(tmp_path):
    draw(1).save(tmp_path / "a.png")
    names = [str(tmp_path / "a.png")]
    (tmp_path / "file").write_text("")
    old = tmp_path / "old"
    with sqlite3.connect(old) as connection:
        connection.execute("CREATE TABLE doctor_looks (path)")
    for path in (tmp_path / "file" / "cache", old, tmp_path):
        assert scan_images(names, jobs=1, cache=ScanCache(path), quiet=True)[names[0]].digest
    assert ScanCache(old).read(names).keys() == {names[0]}


def test_a_file_that_is_no_cache_is_refused_and_kept(good_set):
    config = good_set()
    before = Path(config).read_text()
    with pytest.raises(SetupError, match="my.yaml is not a cache of images .*name another file with --cache"):
        ScanCache(Path(config))
    assert Path(config).read_text() == before


def test_default_cache_follows_the_rule_for_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "retina_plugin" / "images.sqlite"


def same_file(train, val):
    val["images"][0]["file_name"] = train["images"][1]["file_name"]


def near_copy(train, val):
    """The test image is a smaller copy of a training image: ``copy.png``, written by the test."""
    val["images"][0].update(file_name="copy.png", width=WIDTH - 8, height=HEIGHT - 6)


@pytest.mark.parametrize(
    ("check", "status", "change", "text"),
    [
        ("leak-exact", 0, same_file, "1 of 2 images of custom_val are in custom_train too"),
        ("leak-near", 0, near_copy, "1 of 2 images of custom_val look like an image of custom_train"),
        ("image-twice", 0, lambda t, v: t["images"][0].update(file_name="2.png"), "1 of 4 images are the same file"),
        ("image-deep", 1, lambda t, v: t["images"][0].update(file_name="deep.png"), "more than 8 bits a channel"),
        ("image-unreadable", 1, lambda t, v: t["images"][0].update(file_name="cut.png"), "cut.png, image id 1, cannot"),
    ],
    ids=lambda value: value if isinstance(value, str) and "-" in value and " " not in value else "",
)  # fmt: skip
def test_image_files_provoke_a_finding(good_set, examine, tmp_path, check, status, change, text):
    draw(2, WIDTH - 8, HEIGHT - 6).save(tmp_path / "copy.png")
    Image.fromarray(np.asarray(draw(1).convert("L")).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    draw(1).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-300])
    found_status, found, _, said = examine(good_set(change))
    assert (found_status, [f["check"] for f in found]) == (status, [check])
    assert text in said.out, said.out
    assert found[0]["places"][0]["image_id"] in (1, 2, 11)
