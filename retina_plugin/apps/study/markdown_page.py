"""The report as Markdown: what the HTML page says, for reading in a repository."""

from .report_content import Report, StudyPart, protocol_facts
from .tables import Table, failures, reported_table, seed_table, study_table
from .verdict import pairs_sentence

__all__ = ["markdown_page"]


def markdown_page(report: Report) -> str:
    """The whole report; plots are linked as files beside it."""
    lines = ["# Study report", "", f"**What it shows.** {escape(report.shows)}", ""]
    lines += [f"**What it does not show.** {escape(report.hides)}", "", "![All studies at a glance](overview.png)", ""]
    lines += [f"- [{escape(part.summary.study.title)}](#{part.summary.study.name}): {escape(part.verdict)}"
              for part in report.parts]  # fmt: skip
    if report.warnings:
        lines += ["", "## Warnings", "", *(f"- {escape(warning)}" for warning in report.warnings)]
    lines += ["", "## How it was made", ""]
    lines += [f"- {title}: {escape(text)}" for title, text in protocol_facts(report.folder)]
    lines += [f"- {escape(report.test)}", "", *_code(report.commands)]
    for part in report.parts:
        lines += _study(part)
    return "\n".join(lines) + "\n"


def _study(part: StudyPart) -> list[str]:
    summary = part.summary
    study = summary.study
    table = f" ({escape(study.paper_table)})" if study.paper_table else ""
    # A study's name needs no escape (results.py), and as an attribute bears none.
    lines = ["", f'<a id="{study.name}"></a>', "", f"## {escape(study.title)}{table}", ""]
    if study.question:
        lines += [f"Claim of the paper: {escape(study.question)}", ""]
    lines += [f"**{escape(part.verdict)}** {escape(pairs_sentence(summary))}", ""]
    lines += [f"![{escape(panel.description)}](plots/{study.name}_{panel.name}.png)" for panel in part.panels]
    lines += ["", *_table(study_table(summary)), ""]
    if study.reported:
        lines += [*_table(reported_table(summary)), ""]
    if part.discussion:
        lines += [escape(paragraph) + "\n" for paragraph in part.discussion.split("\n\n")]
    stopped = failures(summary)
    if stopped.lines:
        lines += ["Runs without a figure:", "", *_table(stopped), ""]
    return lines + ["AP by seed:", "", *_table(seed_table(summary))]


def _table(table: Table) -> list[str]:
    rule = [":--"] + ["--:"] * (len(table.header) - 1)
    rows = [table.header, rule, *(line.cells for line in table.lines)]
    return [f"| {' | '.join(escape(cell) for cell in row)} |" for row in rows]


def _code(commands: list[str]) -> list[str]:
    return ["```", *(command.replace("```", "") for command in commands), "```"] if commands else []


def escape(text: str) -> str:
    """As words, not as markup: a reason or a label may hold anything."""
    text = " ".join(str(text).split())
    for mark in "\\`*_|[]":
        text = text.replace(mark, "\\" + mark)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
