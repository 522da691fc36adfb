"""The report as one HTML page: no script, no outside link, plots drawn into it."""

import re
from html import escape

from ..report.html_style import CSS
from ..report.plot_style import Panel, inline_svg
from .report_content import Report, StudyPart, protocol_facts
from .tables import Table, failures, reported_table, seed_table, study_table
from .verdict import pairs_sentence

__all__ = ["html_page"]

NUMBER = re.compile(r"[+\N{MINUS SIGN}<]? ?\d")
LEGEND = (
    "Mean ± sample standard deviation over n finished seeds, AP in points of 0 to 100. Δ AP and its p are against the "
    "row marked reference. Paper Δ is the same difference in the paper's figures. "
    "A dash: undefined (no box of that size, no test) or not given."
)


def html_page(report: Report) -> str:
    """The whole page; every text from a file is escaped."""
    links = "".join(
        f'<a href="#{_anchor(part)}">{escape(part.summary.study.name.replace("_", " "))}</a>' for part in report.parts
    )
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',  # else a browser asks for one and logs that there is none
            f"<title>Study report: RetinaNet and focal loss</title>\n<style>{CSS}</style>\n</head>\n<body>",
            _head(report),
            f'<nav aria-label="Studies"><div><a href="#top">overview</a>{links}</div></nav>\n<main>',
            _cards(report),
            _warnings(report),
            _protocol(report),
            *(_study(part) for part in report.parts),
            "</main>\n<footer>Every figure on this page is read from the run records or, where it says so, from the "
            "paper (arXiv 1708.02002). The same figures: report.md, results.json and a CSV file for each study, in "
            "this folder.</footer>\n</body>\n</html>\n",
        ]
    )


def _anchor(part: StudyPart) -> str:
    return "study-" + re.sub(r"[^A-Za-z0-9_-]", "-", part.summary.study.name)


def _head(report: Report) -> str:
    return (
        '<header id="top"><p class="kicker">Study report</p><h1>RetinaNet and focal loss: the paper’s ablations</h1>'
        f'<div class="claims"><section><h2>What this shows</h2><p>{escape(report.shows)}</p></section>'
        f"<section><h2>What it does not show</h2><p>{escape(report.hides)}</p></section></div></header>"
    )


def _cards(report: Report) -> str:
    cards = []
    for part in report.parts:
        study, rows = part.summary.study, part.summary.rows
        count = f"{sum(row.n > 0 for row in rows)} of {len(rows)} rows, {sum(row.n for row in rows)} runs"
        table = f"{escape(study.paper_table)} · " if study.paper_table else ""
        cards.append(
            f'<a class="card" href="#{_anchor(part)}"><span class="kicker">{table}{count}</span>'
            f"<strong>{escape(study.title)}</strong><span>{escape(part.verdict)}</span></a>"
        )
    return f'<section aria-label="Verdicts"><h2>At a glance</h2><div class="cards">{"".join(cards)}</div></section>'


def _warnings(report: Report) -> str:
    if not report.warnings:
        return ""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in report.warnings)
    return f'<section class="warnings"><h2>Warnings</h2><ul>{items}</ul></section>'


def _protocol(report: Report) -> str:
    facts = [*protocol_facts(report.folder), ("Tests", report.test)]
    items = "".join(f"<div><dt>{escape(title)}</dt><dd>{escape(text)}</dd></div>" for title, text in facts)
    commands = _details("Commands", _code(report.commands)) if report.commands else ""
    return f'<section><h2>How it was made</h2><dl class="facts">{items}</dl>{commands}</section>'


def _study(part: StudyPart) -> str:
    summary = part.summary
    study = summary.study
    table = f' <span class="table-name">{escape(study.paper_table)}</span>' if study.paper_table else ""
    parts = [f'<section class="study" id="{_anchor(part)}"><h2>{escape(study.title)}{table}</h2>']
    if study.question:
        parts.append(f'<p class="claim"><span class="kicker">The paper’s claim</span>{escape(study.question)}</p>')
    parts.append(
        f'<p class="verdict"><span class="kicker">Verdict</span>{escape(part.verdict)} '
        f'<span class="aside">{escape(pairs_sentence(summary))}</span></p>'
    )
    parts += [_figures(part.panels, _anchor(part)), _table(study_table(summary), study.title)]
    parts.append(f'<p class="aside">{LEGEND}</p>')
    if study.reported:
        parts.append(_table(reported_table(summary), "Reported by the paper, not run"))
    if part.discussion:
        parts.append(f'<div class="discussion"><h3>Discussion</h3>{_paragraphs(part.discussion)}</div>')
    if part.curves:
        parts.append(f"<h3>Learning curves</h3>{_figures(part.curves, _anchor(part))}")
    stopped = failures(summary)
    if stopped.lines:
        parts.append(f"<h3>Runs without a figure</h3>{_table(stopped, 'Runs without a figure', is_text=True)}")
    parts.append(_details("AP by seed", _table(seed_table(summary), "AP by seed")))
    if commands := _run_commands(part):
        parts.append(_details("Commands of the runs", _code(commands)))
    return "\n".join(parts) + "</section>"


def _run_commands(part: StudyPart) -> list[str]:
    runs = [run for row in part.summary.rows for run in row.row.runs]
    return list(dict.fromkeys(str(run.record["command"]) for run in runs if run.record.get("command")))


def _figures(panels: list[Panel], anchor: str) -> str:
    figures = "".join(f"<figure>{inline_svg(panel, f'{anchor}-{panel.name}')}</figure>" for panel in panels)
    return f'<div class="figures">{figures}</div>' if figures else ""


def _table(table: Table, label: str, *, is_text: bool = False) -> str:
    """In a container of its own that scrolls (and takes the keyboard's focus), so that the page need not."""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in table.header)
    rows = []
    for line in table.lines:
        first, *rest = line.cells
        cells = "".join(f"<td{_cell_class(cell)}>{escape(cell)}</td>" for cell in rest)
        rows.append(f'<tr class="{line.kind}"><th scope="row">{escape(first)}</th>{cells}</tr>')
    kind = "scroll words" if is_text else "scroll"
    return (
        f'<div class="{kind}" tabindex="0" role="region" aria-label="{escape(label)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell_class(cell: str) -> str:
    known = {"beyond": "beyond", "within": "within", "diverged": "bad", "failed": "bad"}
    return f' class="{known[cell]}"' if cell in known else "" if NUMBER.match(cell) else ' class="quiet"'


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{escape(part.strip())}</p>" for part in re.split(r"\n\s*\n", text) if part.strip())


def _details(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def _code(commands: list[str]) -> str:
    return f'<pre tabindex="0"><code>{escape(chr(10).join(commands))}</code></pre>'
