"""HTML and Markdown pages from Jinja2 templates; every text that a page is given is escaped by itself.

A template is named by its path below ``apps``. Those of HTML extend ``report/page.html.j2``, a whole page without any
outside link, and use the macros of ``report/parts.html.j2``.
"""

import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ...errors import count

__all__ = ["DASH", "Cell", "Table", "number", "render", "visible"]

DASH = "\N{EN DASH}"  # an unknown value
Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """A table for HTML and Markdown. The first cell of a row is its heading; None is unknown."""

    label: str  # read aloud by a screen reader
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    digits: Sequence[int] = ()  # decimals of floats by column, from the second on; 1 where missing
    text: Collection[int] = (0,)  # columns of words, left-aligned
    row_classes: Sequence[str] = ()  # CSS class of each row
    cell_classes: Mapping[str, str] = field(default_factory=dict)  # text of a cell -> its CSS class
    sortable: bool = False  # headings are buttons; a long table scrolls in a box of its own

    def cells(self, row: Sequence[Cell]) -> Iterator[tuple[str, Cell, str]]:
        """Text, value to sort by and CSS class of each cell after the first."""
        for i, value in enumerate(row[1:], 1):
            text = number(value, self.digits[i - 1] if i <= len(self.digits) else 1)
            kind = "text" if i in self.text else "" if any(c.isdigit() for c in text[:3]) else "quiet"
            raw = "" if value is None else value if isinstance(value, str) else f"{value:.6g}"
            yield text, raw, self.cell_classes.get(text, kind)


def render(template: str, **content: Any) -> str:
    """Fill a template (``*.html.j2`` or ``*.md.j2``).

    Every value that a template prints is shown as text: escaped for its language, with control characters replaced by a
    visible mark and None by a dash. Only ``Markup`` is printed as it stands.

    Raises:
        jinja2.UndefinedError: the template prints a name that ``content`` lacks.
    """
    return _environment(is_html=template.endswith(".html.j2")).get_template(template).render(content)


@cache
def _environment(*, is_html: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1]),
        autoescape=is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=visible if is_html else markdown_text,
    )
    environment.filters |= {"number": number, "count": count, "visible": visible}
    return environment


def visible(value: Any) -> Any:
    """Replace characters that steer a terminal or the direction of writing by a visible mark; None is a dash."""
    if value is None:
        return DASH
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in hidden else c for c in value)


def markdown_text(value: Any) -> Any:
    """Escape Markdown's marks and HTML's; white space, line feeds included, becomes one space."""
    if isinstance(value, Markup):
        return value
    text = visible(" ".join(str(visible(None) if value is None else value).split()))
    for mark in "\\`*_|[]":
        text = text.replace(mark, "\\" + mark)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def number(value: Cell, digits: int = 1) -> str:
    """Write a float with ``digits`` decimals, None as a dash, and all else as it is."""
    if value is None:
        return DASH
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
