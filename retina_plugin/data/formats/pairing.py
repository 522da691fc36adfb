"""The image that an annotation means, for all formats: one tolerance for names, one limit on files without a partner.

Names are compared without regard to letter case, Unicode form and the kind of slash; of a path from another machine the
end counts, and a name may lack its suffix or have another one.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from ...errors import SetupError
from ..images import IMAGE_SUFFIXES, read_sizes
from .box_set import AnnotatedImage, BoxSet, Remark
from .files import list_files
from .parts import part_of, pick_part

__all__ = [
    "IMAGES_REMEDY", "IMAGE_WORDS", "ImageIndex", "NotAnAnnotation", "belong_together", "check_pairs", "common_end",
    "find_folder", "find_pairs", "fold", "fold_parts", "images_in_use",
]  # fmt: skip

IMAGES_REMEDY = "give their folder (DATASETS.TRAIN_IMAGES / VAL_IMAGES)."
# A guard: beyond this share the names follow two rules, and images would pass as images without objects.
MAX_UNPAIRED_SHARE = 0.1
_SHOWN = 3
_LONGEST = 100  # characters of a name in a message
# Words in the names of folders that say what is in them, not which part of the set.
IMAGE_WORDS = ("jpegimages", "images", "image", "imgs", "img", "photos", "pictures")
_ANNOTATION_WORDS = "annotations annotation labels label anns ann xmls xml jsons json txt".split()


def fold(name: str) -> str:
    """A name as it is compared."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.replace("\\", "/")).casefold())


def fold_parts(path: str) -> list[str]:
    """The folders and the name of a path as they are compared, without steps; [""] for none."""
    return [part for part in fold(path).split("/") if part not in ("", ".", "..")] or [""]


def common_end(first: Sequence[str], second: Sequence[str]) -> int:
    """The number of folded parts at the end that two paths have in common."""
    return len(os.path.commonprefix([first[::-1], second[::-1]]))


def images_in_use(index: "ImageIndex", annotated: Collection[Path]) -> list[Path]:
    """The images of folders that have annotated ones, or whose name says that they hold images.

    Others are masks, previews, plots. Without annotated images, all.
    """
    folders = {path.parent for path in annotated}

    @cache
    def is_in_use(folder: Path) -> bool:
        names = folder.relative_to(index.folder).parts if folder.is_relative_to(index.folder) else ()
        words = (word for name in names for word in re.split("[^a-z]+", fold(name)))
        return not folders or folder in folders or any(word in IMAGE_WORDS for word in words)

    return [path for path in index.files if path.parent in folders or is_in_use(path.parent)]


def find_folder(folder: Path, words: Sequence[str]) -> Path | None:
    """The folder directly in ``folder`` with the first of these names, in any letter case."""
    with os.scandir(folder) as entries:
        names = {fold(entry.name): entry.name for entry in entries if entry.is_dir()}
    return next((folder / names[word] for word in words if word in names), None)


class NotAnAnnotation(SetupError):
    """A file with the suffix of annotations and something else in it."""


class ImageIndex:
    """Images by name, to find the one that an annotation means."""

    def __init__(self, folder: Path, files: Sequence[Path] | None = None):
        """
        Args:
            folder: where the names of images start.
            files: the images; by default those of the folder and its subfolders.

        Raises:
            SetupError: it is not a folder.
        """
        if not folder.is_dir():
            raise SetupError(f"The image folder {folder} {'is a file' if folder.exists() else 'does not exist'}.")
        self.folder = folder
        self.files = list_files(folder, IMAGE_SUFFIXES) if files is None else list(files)
        self._by_name: dict[str, list[Path]] = {}
        for path in self.files:
            for key in {fold(path.name), fold(path.stem)}:
                self._by_name.setdefault(key, []).append(path)

    def __contains__(self, image: Path) -> bool:
        return image in self._by_name.get(fold(image.name), [])

    def find(self, name: str, annotation: Path | None = None) -> Path | None:
        """The image of this name, or of this relative or absolute path; None if there is none, or more than one.

        Args:
            annotation: the file that names it. Paths start from its folder too, and of several images of one name in
                different folders the one in the folder that belongs to it counts.
        """
        name = name.strip().replace("\\", "/")
        for parent in (self.folder, *([annotation.parent] if annotation else [])):
            # os.path.isfile: Path.is_file raises where a name is too long.
            if name and not os.path.isabs(name) and os.path.isfile(place := os.path.normpath(parent / name)):
                return Path(place)
        *folders, last = fold_parts(name)
        stem, suffix = os.path.splitext(last)
        found = self._by_name.get(last) or (self._by_name.get(stem) if suffix in IMAGE_SUFFIXES else None) or []
        if len(found) > 1:
            # On most file systems A.jpg is not a.jpg.
            found = [path for path in found if path.name == name.rsplit("/", 1)[-1]] or found
            common = {path: common_end(fold_parts(str(path.parent)), folders) for path in found}
            found = [path for path in found if common[path] == max(common.values())]
        if len(found) > 1 and annotation:
            found = [path for path in found if belong_together(path.parent, annotation.parent)]
        if len(found) == 1:
            return found[0]
        return Path(name) if not found and os.path.isabs(name) and os.path.isfile(name) else None

    def find_own(self, annotation: Path, is_unique: bool = True) -> list[Path]:
        """The images with the name of an annotation file, in the folder that belongs to its own; [] if there is none.

        Args:
            is_unique: no other annotation has that name, so that an only image may lie in any folder.
        """
        found = self._by_name.get(fold(annotation.stem), [])
        near = [path for path in found if belong_together(path.parent, annotation.parent)]
        near = [path for path in near if path.parent == annotation.parent] or near
        near = [path for path in near if path.stem == annotation.stem] or near
        if near:
            return near
        nested = [path for path in found if belong_together(path.parent, annotation.parent, self.folder)]
        if len(nested) == 1:
            return nested
        if len(found) != 1 or not is_unique:
            return []
        parts = [part_of(path, self.folder.parent) for path in (annotation, found[0])]
        return found if len({part for part in parts if part}) < 2 else []


@lru_cache(maxsize=10**5)
def belong_together(images: Path, annotations: Path, root: Path | None = None) -> bool:
    """True for two folders whose paths differ in words such as images and labels alone.

    Args:
        root: lets one of them be further down, as truth/video1 beside video1, or within the same folder of ``root``,
            as video1/shots and video1/xml.
    """
    ours, theirs = (os.path.abspath(path).split(os.sep) for path in (images, annotations))
    common = len(os.path.commonprefix([ours, theirs]))
    short, long = sorted((_names_apart(ours[common:]), _names_apart(theirs[common:])), key=len)
    if short == long or root is None:
        return short == long
    is_within = common > len(os.path.abspath(root).split(os.sep))
    return long[len(long) - len(short) :] == short and (bool(short) or is_within)


def _names_apart(folders: Sequence[str]) -> list[str]:
    """Folded names of folders without the words for images and annotations."""
    words = (*IMAGE_WORDS, *_ANNOTATION_WORDS)
    kept = ("_".join(w for w in re.split(r"[\W_]+", fold(name)) if w not in words) for name in folders)
    return [name for name in kept if name]


def check_pairs(
    source: str, orphans: Sequence[object], total: int, annotated: Collection[Path], index: ImageIndex, kind: str
) -> list[Path]:
    """Return the images in use without an annotation; refuse more than MAX_UNPAIRED_SHARE annotations without an image.

    Args:
        orphans: annotation files, or the names of images that they give, without an image.
        total: number of all annotations.
        annotated: images with an annotation.
        kind: of the annotations, for the message.

    Raises:
        SetupError: showing three of each side by side.
    """
    lonely = [image for image in images_in_use(index, annotated) if image not in annotated]
    if len(orphans) <= MAX_UNPAIRED_SHARE * total:
        return lonely
    if not index.files:
        raise SetupError(f"{source}: none of {total} {kind}s has its image in {index.folder}: {IMAGES_REMEDY}")
    shown, others = (", ".join(_show(n, source) for n in names[:_SHOWN]) for names in (orphans, lonely or index.files))
    verb = "have" if len(orphans) > 1 else "has"
    beside = (
        f"{len(lonely)} of {len(index.files)} images no {kind} ({others})" if lonely else f"the images are {others}"
    )
    raise SetupError(
        f"{source}: {len(orphans)} of {total} {kind}s {verb} no image in {index.folder} ({shown}), and {beside}: give "
        f"image and annotation the same name, remove those without the other, or {IMAGES_REMEDY}"
    )


def _show(name: object, source: str) -> str:
    """A path within the set, or a name in an annotation, not longer than a line."""
    inside = isinstance(name, Path) and name.is_relative_to(source)
    text = str(name.relative_to(source) if inside else name)
    return text if len(text) < _LONGEST else f"{text[:_LONGEST]}..."


def find_pairs(
    found: BoxSet,
    files: Sequence[Path],
    index: ImageIndex,
    read: Callable[[Path], tuple[Any, str, str]],
    kind: str,
    subset: str,
    parts_of: Callable[[Path], str | Collection[str]],
) -> Iterator[tuple[Path, Any, AnnotatedImage]]:
    """Find the image of each annotation file, in formats of one file per image.

    The image with the file's own name comes before the one that it names inside.

    Args:
        found: takes the images, in the order of ``files``, and remarks about files without an image.
        read: gives the content of a file, the name of its image and a hint for a remark that the image is not there.
            Raises ``NotAnAnnotation`` for a file of another kind: a few are left out.
        kind: kind of the files, for messages.
        subset: "train" or "val": only that part, if there is one.
        parts_of: the parts of an annotation file; where it tells none of any file, the images' folders count.

    Yields:
        file, content and image; the image has no boxes yet.

    Raises:
        SetupError: files and images do not pair, two files have the same image, or an image cannot be used.
    """
    tells_parts = any(map(parts_of, files))
    if tells_parts:
        files, remarks = pick_part(files, subset, parts_of, found.source)
        found.remarks += remarks
    counts = Counter(fold(file.stem) for file in files)
    pairs, orphans, others = [], [], []
    for file in files:
        try:
            content, name, hint = read(file)
        except NotAnAnnotation as error:
            others.append(error)
            continue
        own = index.find_own(file, counts[fold(file.stem)] == 1)
        named = index.find(name, file) if name else None
        image = named if named in own or not own else own[0] if len(own) == 1 else None
        if image is None:
            orphans.append(file)
            several = f": {own[0].name} and {own[1].name} both have its name" if len(own) > 1 else ""
            text = f"annotation left out: its image is not there{several}{hint}"
            found.remarks.append(Remark(text, str(file)))
            continue
        if named and named != image and named in index:
            text = "annotation names another image of the set inside; the image of the file's own name is taken"
            found.remarks.append(Remark(text, f"{file} names {named.name}"))
        pairs.append((file, content, image))
    if len(others) > MAX_UNPAIRED_SHARE * len(files):
        raise others[0]
    found.remarks += [Remark("file left out, it is no annotation", str(error)) for error in others]
    known = {image for _, _, image in pairs}
    lonely = check_pairs(found.source, orphans, len(files) - len(others), known, index, f"{kind} file")
    if not subset:
        found.remarks += [Remark(f"image left out: it has no {kind} file", str(image)) for image in lonely]
    if not tells_parts:
        pairs, remarks = pick_part(pairs, subset, lambda pair: part_of(pair[2], index.folder), found.source)
        found.remarks += remarks
    sizes = read_sizes((image for _, _, image in pairs), index.folder)
    seen: dict[Path, Path] = {}
    for file, content, place in pairs:
        if place in seen:
            raise SetupError(f"{file}: the image {place} has an annotation already, {seen[place]}: keep one.")
        seen[place] = file
        found.images.append(AnnotatedImage(place, *sizes[place]))
        yield file, content, found.images[-1]
