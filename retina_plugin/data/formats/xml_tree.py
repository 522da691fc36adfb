"""Reads XML with line numbers, safely: it refuses document types (and so entities) and limits size and depth."""

import codecs
import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from ...errors import SetupError
from ..image_paths import open_named

__all__ = ["Element", "read_xml"]

# Guards: an annotation of a thousand boxes has 300 kB and a depth of 4.
MAX_BYTES = 16 * 2**20
MAX_DEPTH = 50
MAX_ELEMENTS = 250_000


@dataclass
class Element:
    """A tag, its text without the spaces around it, its line and its child tags."""

    tag: str
    line: int
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def find(self, tag: str) -> "Element | None":
        """The first child of this tag."""
        return next((child for child in self.children if child.tag == tag), None)

    def find_all(self, tag: str) -> list["Element"]:
        return [child for child in self.children if child.tag == tag]


# Encodings of more than one byte that annotation tools write; expat has UTF-8, UTF-16 and those of one byte.
_ENCODINGS = ("gb2312", "gbk", "gb18030", "big5", "big5hkscs", "shift_jis", "cp932", "euc_jp", "euc_kr", "cp949")


def _decode(path: Path, content: bytes) -> tuple[bytes, str | None]:
    """The content as UTF-8 with that encoding's name, where its declared one is of the list above; else as it is."""
    declared = re.match(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.-]+)["']""", content)
    try:
        name = codecs.lookup(declared[1].decode("ascii")).name if declared else ""
    except LookupError:
        raise SetupError(
            f"{path}: the encoding {declared[1].decode('ascii')} is not known: save the file as UTF-8."
        ) from None
    if name not in _ENCODINGS:
        return content, None
    try:
        # GB18030 has every character of GB2312 and GBK, beyond which writers of both go.
        return content.decode("gb18030" if name.startswith("gb") else name).encode(), "utf-8"
    except UnicodeDecodeError:
        raise SetupError(f"{path} is not text in {name}, the encoding that it declares: save it as UTF-8.") from None


def read_xml(path: Path) -> Element:
    """The root element of an XML file.

    Raises:
        SetupError: it cannot be read, is not well-formed, has a DOCTYPE, or is beyond the bounds.
    """
    with open_named(path, MAX_BYTES, "it is not the annotation of one image.") as file:
        content = file.read(MAX_BYTES + 1)
    if not content.strip():
        raise SetupError(f"{path} is empty: an image without objects has an <annotation> without <object>.")

    content, encoding = _decode(path, content)
    parser = expat.ParserCreate(encoding)
    parser.buffer_text, parser.buffer_size = True, 2**20  # else a text of a million parts is put together one by one
    top = Element("", 0)
    open_elements = [top]
    count = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if count > MAX_ELEMENTS:
            raise SetupError(f"{path}:{parser.CurrentLineNumber}: it has more than {MAX_ELEMENTS} tags.")
        if len(open_elements) > MAX_DEPTH:
            raise SetupError(f"{path}:{parser.CurrentLineNumber}: tags are nested more than {MAX_DEPTH} deep.")
        element = Element(tag, parser.CurrentLineNumber)
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def end(tag: str) -> None:
        element = open_elements.pop()
        element.text = element.text.strip()

    def add_text(text: str) -> None:
        open_elements[-1].text += text

    def refuse_doctype(*declaration: object) -> None:
        raise SetupError(
            f"{path}:{parser.CurrentLineNumber}: a DOCTYPE is not accepted, it can hold entities: remove it."
        )

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, add_text
    parser.StartDoctypeDeclHandler = refuse_doctype
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # LookupError: an encoding that Python does not have
        if isinstance(error, SetupError):
            raise
        reason = expat.ErrorString(error.code) if isinstance(error, expat.ExpatError) else str(error)
        raise SetupError(f"{path}:{parser.ErrorLineNumber}: is not well-formed XML: {reason}.") from None
    return top.children[0]
