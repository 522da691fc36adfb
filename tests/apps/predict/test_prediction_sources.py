"""What the words after ``retina predict WEIGHTS`` mean, and the names of what is written for them."""

import re

import pytest

from retina_plugin.apps.predict.sources import find_sources
from retina_plugin.errors import SetupError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in (
        "b.jpg",
        "a.PNG",
        "clip.mp4",
        "notes.txt",
        ".hidden.jpg",
        "deep/b.jpg",
        "deep/er/c.tif",
        "empty/x.txt",
    ):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("words", "options", "names"),
    [
        (["photos"], {}, ["a.PNG", "b.jpg", "clip.mp4"]),
        (["photos"], {"recursive": True}, ["a.PNG", "b.jpg", "clip.mp4", "deep/b.jpg", "deep/er/c.tif"]),
        (["photos/*.jpg", "photos/deep"], {}, ["b.jpg", "deep/b.jpg"]),
        (["photos/**/*.jpg"], {}, ["b.jpg", "deep/b.jpg"]),
        (["photos/b.jpg", "photos", "./photos/b.jpg"], {}, ["b.jpg", "a.PNG", "clip.mp4"]),  # each once
        (["photos/notes.txt"], {}, ["notes.txt"]),  # named itself
        (["photos/deep/b.jpg"], {}, ["b.jpg"]),
        (["0", "photos/b.jpg"], {}, ["camera0", "b.jpg"]),
    ],
)
def test_words_become_files(folder, words, options, names):
    assert [source.name for source in find_sources(words, **options)] == names


def test_kinds_and_drawn_names(folder):
    (folder / "B.JPG").touch()  # the same name as b.jpg where case does not count
    (folder / "film.avi").touch()
    sources = find_sources(["photos", "photos/deep/er", "7"])
    assert {source.drawn_name: source.kind for source in sources} == {
        "B.JPG": "image", "a.PNG": "image", "b_2.jpg": "image", "clip.mp4": "video", "film.avi.mp4": "video",
        "deep/er/c.tif.jpg": "image", "camera7.mp4": "camera",
    }  # fmt: skip


def test_file_whose_name_is_a_number_is_no_camera(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "0").touch()
    assert [source.kind for source in find_sources(["0", "1"])] == ["image", "camera"]


def test_raised_number_is_no_camera(folder):
    with pytest.raises(SetupError, match="\u00b2"):
        find_sources(["\u00b2"])


def test_own_results_are_left_out(folder):
    names = [source.name for source in find_sources(["photos"], recursive=True, leave_out=folder / "deep")]
    assert names == ["a.PNG", "b.jpg", "clip.mp4"]
    with pytest.raises(SetupError, match="photos/deep/b.jpg is a result of this command: move it"):
        find_sources(["photos/deep/b.jpg"], leave_out=folder / "deep")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("photos/none.jpg", "photos/none.jpg does not exist: give an image, a video, a folder"),
        ("photos/*.bmp", "No file matches photos/*.bmp: check the pattern."),
        ("photos/empty", "The folder photos/empty has no image or video that is not a result of this command; --rec"),
        ("-1", "-1 does not exist"),
    ],
)
def test_word_that_means_nothing_is_refused(folder, word, message):
    with pytest.raises(SetupError, match=re.escape(message)):
        find_sources(["photos", word])
