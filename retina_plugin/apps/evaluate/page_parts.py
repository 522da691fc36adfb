"""Parts that the pages of a judgement share: the document, tables that sort, and text that stays text."""

import base64
import re
import unicodedata
from collections.abc import Sequence
from html import escape

from ..report.html_style import CSS

__all__ = ["Cell", "count", "document", "figure_grid", "html_table", "number", "page_text", "picture", "section"]

DASH = "\N{EN DASH}"  # for what is not known
Cell = str | int | float | None
NUMBER = re.compile(r"[+-]?\d")

MORE_CSS = """
th button { all: unset; cursor: pointer; }
th button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
th button::after { content: " \\2195"; color: var(--quiet); }
th[aria-sort=ascending] button::after { content: " \\2191"; color: var(--accent); }
th[aria-sort=descending] button::after { content: " \\2193"; color: var(--accent); }
.tall { max-height: 32rem; overflow-y: auto; }
.tall thead th { position: sticky; top: 0; z-index: 2; background: var(--card); }
.matrix table { width: auto; }
.matrix td { min-width: 3rem; background: color-mix(in srgb, var(--accent) calc(var(--share, 0) * 45%), transparent); }
.matrix td.same { font-weight: 700; }
.matrix thead th { max-width: 9rem; overflow: hidden; text-overflow: ellipsis; }
figcaption { color: var(--ink); font-size: 0.88rem; font-weight: 600; margin-bottom: 0.2rem; overflow-wrap: anywhere; }
thead th[data-kind=text] { text-align: left; }
td.text { text-align: left; white-space: normal; min-width: 11rem; }
.pictures { display: grid; gap: 1.4rem; }
.pair { display: grid; gap: 0.4rem; grid-template-columns: repeat(2, minmax(0, 1fr)); }
@media (max-width: 40rem) { .pair { grid-template-columns: minmax(0, 1fr); } }
.pair img { display: block; width: 100%; height: auto; border-radius: 0.3rem; }
.numbers { display: grid; gap: 0.7rem; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); }
.numbers div { background: var(--card); border: 1px solid var(--rule); border-radius: 0.6rem; padding: 0.6rem 0.8rem; }
.numbers dt { color: var(--quiet); font-size: 0.8rem; font-weight: 600; }
.numbers dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
"""
# Sorts a table by the column whose heading is pressed: numbers by data-value, largest first, what is unknown last.
SCRIPT = """
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), body = head.closest("table").tBodies[0];
    const up = head.getAttribute("aria-sort") === (head.dataset.kind === "text" ? null : "descending");
    const value = (row) => row.cells[head.cellIndex].dataset.value;
    const order = (a, b) => head.dataset.kind === "text" ? a.localeCompare(b) : a - b;
    const rows = [...body.rows].sort((first, second) => {
      const a = value(first), b = value(second);
      if (a === "" || b === "") return (a === "") - (b === "");
      return up ? order(a, b) : order(b, a);
    });
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows);
  });
}
"""


def page_text(text: object) -> str:
    """Escaped for HTML; characters that steer a terminal or the direction of writing become a visible mark."""
    seen = (
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c
        for c in str(text)
    )
    return escape("".join(seen))


def number(value: Cell, digits: int = 1) -> str:
    """A cell's text: a dash for None."""
    if value is None:
        return DASH
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def count(number_: int, noun: str) -> str:
    """ "1 image", "2 images", "2 boxes"."""
    plural = "es" if noun.endswith(("s", "x")) else "s"
    return f"{number_} {noun}{'' if number_ == 1 else plural}"


def document(title: str, kicker: str, lead: str, links: dict[str, str], sections: Sequence[str], footer: str) -> str:
    """A whole page without any outside link.

    Args:
        title, kicker, footer: plain text; lead: HTML; links: id of a section -> its name.
    """
    navigation = "".join(f'<a href="#{anchor}">{page_text(name)}</a>' for anchor, name in links.items())
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',  # else a browser asks for one and logs that there is none
            f"<title>{page_text(title)}</title>\n<style>{CSS}{MORE_CSS}</style>\n</head>\n<body>",
            f'<header id="top"><p class="kicker">{page_text(kicker)}</p><h1>{page_text(title)}</h1>{lead}</header>',
            f'<nav aria-label="Sections"><div><a href="#top">top</a>{navigation}</div></nav>\n<main>',
            *sections,
            f"</main>\n<footer>{page_text(footer)}</footer>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        ]
    )


def section(anchor: str, title: str, *content: str) -> str:
    """Args: title plain text; content HTML."""
    return f'<section class="study" id="{anchor}"><h2>{page_text(title)}</h2>{"".join(content)}</section>'


def html_table(
    label: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, digits: Sequence[int] = (), sortable=False
) -> str:
    """A table that scrolls by itself, so that the page need not; text in its first column, names escaped.

    Args:
        digits: decimals of each column after the first; 1 where there is none.
        sortable: headings are buttons; a long table scrolls in a box.
    """
    head = []
    is_text = [any(isinstance(row[i], str) and not NUMBER.match(row[i]) for row in rows) for i in range(len(columns))]
    for i, name in enumerate(columns):
        text = f'<button type="button">{page_text(name)}</button>' if sortable else page_text(name)
        head.append(f'<th scope="col" data-kind="{"text" if is_text[i] or not i else "number"}">{text}</th>')
    body = []
    for first, *rest in rows:
        cells = [f'<th scope="row" data-value="{page_text(first)}">{page_text(first)}</th>']
        for i, value in enumerate(rest):
            text = value if isinstance(value, str) else number(value, digits[i] if i < len(digits) else 1)
            raw = "" if value is None else value if isinstance(value, str) else f"{value:.6g}"
            quiet = ' class="quiet"' if value is None else ""
            quiet = ' class="text"' if isinstance(value, str) and not NUMBER.match(value) else quiet
            cells.append(f'<td data-value="{page_text(raw)}"{quiet}>{page_text(text)}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    kind = "scroll tall" if sortable else "scroll"
    return (
        f'<div class="{kind}" tabindex="0" role="region" aria-label="{page_text(label)}"><table><thead><tr>'
        f"{''.join(head)}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def figure_grid(figures: Sequence[tuple[str, str]]) -> str:
    """Figures beside each other: pairs of an <svg> and a caption over it in plain text."""
    items = "".join(
        f"<figure>{f'<figcaption>{page_text(caption)}</figcaption>' if caption else ''}{svg}</figure>"
        for svg, caption in figures
    )
    return f'<div class="figures">{items}</div>'


def picture(file: bytes, description: str) -> str:
    """A JPEG inside the page."""
    data = base64.b64encode(file).decode("ascii")
    return f'<img alt="{page_text(description)}" src="data:image/jpeg;base64,{data}">'
