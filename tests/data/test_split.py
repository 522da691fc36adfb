"""Splitting a set: the same parts each time, groups whole, classes in train."""

from pathlib import Path

import pytest

from retina_plugin.data.formats.box_set import AnnotatedImage, Box, BoxSet
from retina_plugin.data.split import split_set
from retina_plugin.errors import SetupError


def make_set(names, classes=None, columns=None) -> BoxSet:
    """A set of images of these names; ``classes`` and ``columns`` by name, "x" and {} otherwise."""
    images = [
        AnnotatedImage(
            Path("root") / name, 10, 10, [Box(0, 0, 5, 5, k, name) for k in (classes or {}).get(name, ["x"])],
            (columns or {}).get(name, {}),
        )
        for name in names
    ]  # fmt: skip
    return BoxSet("root", Path("root"), images)


def names_of(part: BoxSet) -> list[str]:
    return [part.relative_name(image) for image in part.images]


NAMES = [f"{i:03}.jpg" for i in range(50)]


def test_split_is_the_same_for_the_same_files_and_differs_between_seeds():
    first, again, other = (split_set(make_set(NAMES), 0.2, seed) for seed in (0, 0, 1))
    assert names_of(first[1]) == names_of(again[1]) != names_of(other[1])
    assert len(first[1].images) == 10 and sorted(names_of(first[0]) + names_of(first[1])) == NAMES


def test_split_does_not_depend_on_the_order_of_the_files_and_outlives_new_ones():
    val = set(names_of(split_set(make_set(NAMES), 0.2, 0)[1]))
    assert set(names_of(split_set(make_set(NAMES[::-1]), 0.2, 0)[1])) == val
    grown = set(names_of(split_set(make_set([*NAMES, *(f"new{i}.jpg" for i in range(5))]), 0.2, 0)[1]))
    assert len(grown) == 11
    assert len(val - grown) <= 2  # 11 of 55: at most so many give way to new ones


@pytest.mark.parametrize(
    ("group", "key"),
    [
        ("folder", lambda name: name.split("/")[0]),
        (r"regex:(\d)\.jpg", lambda name: name[-5]),
        (r"regex:\d\.jpg", lambda name: name[-5]),
        ("column:camera", lambda name: name[0]),
    ],
)
def test_groups_stay_whole(group, key):
    names = [f"{folder}/{i}.jpg" for folder in "abcdefgh" for i in range(8)]
    columns = {name: {"camera": name[0]} for name in names}
    train, val = split_set(make_set(names, columns=columns), 0.25, 3, group)
    assert len(val.images) == 16
    assert not {key(name) for name in names_of(train)} & {key(name) for name in names_of(val)}


def test_group_larger_than_the_part_stays_in_train_where_smaller_ones_fit():
    names = [f"big/{i}.jpg" for i in range(40)] + [f"{k}/1.jpg" for k in "abcdefghij"]
    for seed in range(20):
        val = names_of(split_set(make_set(names), 0.1, seed, "folder")[1])
        # Whichever group comes first is taken, the large one too; none is added that overshoots.
        assert len(val) == 5 or val[0].startswith("big/")


def test_rare_class_goes_back_to_train():
    moved = 0
    for seed in range(30):
        train, val = split_set(make_set(NAMES, {"007.jpg": ["rare", "x"]}), 0.2, seed)
        assert "rare" in train.class_counts
        moved += len(val.images) == 9
        if len(val.images) == 9:
            assert [r.origin for r in train.remarks if r.what.startswith("moved from val to train")] == ["007.jpg"]
        assert "class 'rare' has no box in val: its AP cannot be computed" in [r.what for r in train.remarks]
    assert 2 <= moved <= 12  # a fifth of 30


def test_class_that_cannot_be_moved_is_remarked_on():
    for seed in range(10):
        train, val = split_set(make_set(["a.jpg", "b.jpg"], {"a.jpg": ["p"], "b.jpg": ["q"]}), 0.5, seed)
        (name,) = val.class_counts
        assert f"class {name!r} has boxes in val alone: it cannot be learned" in [r.what for r in train.remarks]
        assert train.class_names == val.class_names == ["p", "q"]


@pytest.mark.parametrize(
    ("names", "fraction", "group", "message"),
    [
        (NAMES, 1.0, "", "The part for validation must be in (0, 1), got 1."),
        (["a/1.jpg", "a/2.jpg"], 0.5, "folder",
         "root cannot be split: it has 1 group by 'folder', and each part needs at least one."),
        (["1.jpg"], 0.5, "", "root cannot be split: it has 1 image, and each part needs at least one."),
        (NAMES, 0.5, "camera",
         "The group of a split must be folder, column:NAME or regex:PATTERN, got 'camera'."),
        (NAMES, 0.5, "regex:(", "The group 'regex:(' is not a regular expression: missing ), unterminated subpattern "
         "at position 0."),
        (NAMES, 0.5, "regex:z", "000.jpg does not match the group's regex 'z': widen it."),
        (NAMES, 0.5, "column:place", "000.jpg has no value, or more than one, in a column 'place': a split by column "
         "needs a CSV file with that column, the same in every row of an image."),
    ],
)  # fmt: skip
def test_split_refuses(names, fraction, group, message):
    with pytest.raises(SetupError) as caught:
        split_set(make_set(names), fraction, 0, group)
    assert str(caught.value) == message
