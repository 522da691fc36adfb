"""``study report``: from a study folder to a page, a Markdown text, tables and plots."""

import json
from pathlib import Path

from ...errors import SetupError
from ...files import write_whole
from .curve_plots import draw_overview
from .html_page import html_page
from .markdown_page import markdown_page
from .report_content import Report, build_report, results_json
from .results import read_study_folder
from .tables import csv_text

__all__ = ["write_report"]


def write_report(study_dir: Path, output: Path) -> list[Path]:
    """Write the report of a study folder.

    Args:
        study_dir: folder of ``study.json`` and of the runs; it is only read.
        output: folder, made if it is absent; files of an earlier report in it are replaced.

    Returns:
        the files: index.html, report.md, results.json, ``<study>.csv``, overview and ``plots/`` as PNG and SVG.

    Raises:
        SetupError: the study folder cannot be reported (``read_study_folder``), or ``output`` cannot be written.
    """
    report = build_report(read_study_folder(Path(study_dir)))
    contents = _contents(report)
    try:
        return [_write(Path(output) / name, content) for name, content in contents.items()]
    except OSError as error:
        raise SetupError(f"{output} cannot be written ({error.strerror}). Give --output another folder.") from error


def _contents(report: Report) -> dict[str, str | bytes]:
    """File name -> content, all made before anything is written; the pages come last, for they link to the rest."""
    overview = draw_overview([part.summary for part in report.parts])
    files: dict[str, str | bytes] = {"overview.png": overview.png, "overview.svg": overview.svg}
    for part in report.parts:
        name = part.summary.study.name
        files[f"{name}.csv"] = csv_text(part.summary)
        for panel in part.panels + part.curves:
            files[f"plots/{name}_{panel.name}.png"] = panel.png
            files[f"plots/{name}_{panel.name}.svg"] = panel.svg
    files["results.json"] = json.dumps(results_json(report), indent=2, allow_nan=False) + "\n"
    files["report.md"] = markdown_page(report)
    files["index.html"] = html_page(report)
    return files


def _write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
    return path
