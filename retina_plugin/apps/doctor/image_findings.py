"""Findings about image files: unusable files, copies, and images that are in both training and test sets."""

from collections.abc import Iterator, Mapping

from ...data.checks import check_headers
from ...data.dataset_content import DatasetContent
from ...findings import Finding, finding
from .fingerprint import ImageScan
from .near_duplicates import find_near, group_exact

__all__ = ["find_image_faults", "find_leaks"]


def find_image_faults(content: DatasetContent, scans: Mapping[str, ImageScan]) -> Iterator[Finding]:
    """Find unusable files and copies within a set; ``scans`` maps a file name to its scan."""
    rows = content.local_files
    yield from check_headers(content, {i: scans[content.file_names[i]].header for i in rows})
    groups = group_exact([scans[content.file_names[i]] for i in rows])
    copies = [(rows[group[0]], rows[k]) for group in groups for k in group[1:]]
    # One file under two ids is found where the records are read.
    copies = [(first, k) for first, k in copies if content.file_names[first] != content.file_names[k]]
    if copies:
        places = [content.place(k, value=f"same as {content.file_names[first]}") for first, k in copies]
        what = f"{content.name}: {len(copies)} of {len(rows)} images are the same file as another"
        yield finding("image-twice", content.name, what, places=places)


def find_leaks(train: DatasetContent, test: DatasetContent, scans: Mapping[str, ImageScan]) -> Iterator[Finding]:
    """Find images of ``test`` that are in ``train`` too, or that look like one of its images."""
    train_rows, test_rows = train.local_files, test.local_files
    train_scans = [scans[train.file_names[i]] for i in train_rows]
    test_scans = [scans[test.file_names[i]] for i in test_rows]
    known = {scan.digest: i for i, scan in enumerate(train_scans) if scan.digest}
    same = {j: known[scan.digest] for j, scan in enumerate(test_scans) if scan.digest in known}  # test -> train index
    of = f"of {len(test_rows)} images of {test.name}"
    if same:
        places = [
            test.place(test_rows[j], value=f"same as {train.file_names[train_rows[i]]}")
            for j, i in sorted(same.items())
        ]
        yield finding("leak-exact", test.name, f"{len(same)} {of} are in {train.name} too", places=places)
    near = {j: pair for j, pair in find_near(train_scans, test_scans).items() if j not in same}
    if near:
        places = [
            test.place(test_rows[j], value=f"like {train.file_names[train_rows[i]]} (correlation {correlation:.2f})")
            for j, (i, correlation) in sorted(near.items(), key=lambda item: -item[1][1])
        ]
        what = f"{len(near)} {of} look like an image of {train.name}"
        yield finding("leak-near", test.name, what, places=places)
