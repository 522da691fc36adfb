"""What looking at every image file found: files that cannot be used, copies, pictures in training and test alike."""

from collections.abc import Iterator, Mapping, Sequence

from ...data.checks import check_headers
from ...data.dataset_content import DatasetContent
from ...findings import Finding, finding
from .fingerprint import ImageLook
from .near_duplicates import find_near, group_exact

__all__ = ["find_image_faults", "find_leaks"]


def find_image_faults(content: DatasetContent, looks: Mapping[str, ImageLook]) -> Iterator[Finding]:
    """The faults of a set's files, and files that are in it twice; ``looks`` by file name."""
    rows = content.local_files
    yield from check_headers(content, {i: looks[content.file_names[i]].header for i in rows})
    groups = group_exact([looks[content.file_names[i]] for i in rows])
    copies = [(rows[group[0]], rows[k]) for group in groups for k in group[1:]]
    if copies:
        places = [_place(content, k, f"same as {content.file_names[first]}") for first, k in copies]
        what = f"{content.name}: {len(copies)} of {len(rows)} images are the same file as another"
        yield finding("image-twice", content.name, what, places=places)


def find_leaks(train: DatasetContent, test: DatasetContent, looks: Mapping[str, ImageLook]) -> Iterator[Finding]:
    """Pictures of ``test`` that are in ``train``, or look like one that is."""
    train_rows, test_rows = train.local_files, test.local_files
    train_looks = [looks[train.file_names[i]] for i in train_rows]
    test_looks = [looks[test.file_names[i]] for i in test_rows]
    same = _same_bytes(train_looks, test_looks)
    of = f"of {len(test_rows)} images of {test.name}"
    if same:
        places = [
            _place(test, test_rows[j], f"same as {train.file_names[train_rows[i]]}") for j, i in sorted(same.items())
        ]
        yield finding("leak-exact", test.name, f"{len(same)} {of} are in {train.name} too", places=places)
    near = {j: pair for j, pair in find_near(train_looks, test_looks).items() if j not in same}
    if near:
        places = [
            _place(test, test_rows[j], f"like {train.file_names[train_rows[i]]} (correlation {correlation:.2f})")
            for j, (i, correlation) in sorted(near.items(), key=lambda item: -item[1][1])
        ]
        what = f"{len(near)} {of} look like an image of {train.name}"
        yield finding("leak-near", test.name, what, places=places)


def _same_bytes(train: Sequence[ImageLook], test: Sequence[ImageLook]) -> dict[int, int]:
    """Index of a test image -> index of a training image with the same bytes."""
    known = {look.digest: i for i, look in enumerate(train) if look.digest}
    return {j: known[look.digest] for j, look in enumerate(test) if look.digest in known}


def _place(content: DatasetContent, i: int, value: str) -> dict:
    return {"file": content.file_names[i], "image_id": content.image_ids[i], "value": value}
