"""The files of a report: figures in each form, escaping, nothing from outside, nothing written on an error."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from study_records import StudyMaker, stopped_record

from retina_plugin.apps.report.pages import markdown_text
from retina_plugin.apps.study.report import write_report
from retina_plugin.apps.study.tables import signed
from retina_plugin.errors import SetupError

EVIL = '<script>alert("1")</script> & | more'


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """Folder of the report of one study with a diverged row, a missing run and markup in every text."""
    maker = StudyMaker(tmp_path_factory.mktemp("study"))
    reported = [{"label": "SSD513", "AP": 31.2, "time_ms": 125, "source": "Table 2"}]
    maker.add_study("alpha", title=EVIL, question=EVIL, reference="a", plot="none", reported=reported)
    maker.add_row("alpha", "a", [30.0, 32.0], {"AP": 30.2, "APS": 12.5, "source": "1a"}, label=EVIL)
    maker.add_row("alpha", "b", [35.0, 36.0, "missing"], 31.1)
    maker.add_row("alpha", "c", [stopped_record("diverged", EVIL)])
    folder = maker.write()
    (folder / "discussion.md").write_text(f"## alpha\n\nFirst {EVIL}\n\nSecond.\n")
    output = folder / "report"
    written = write_report(folder, output)
    assert sorted(written) == sorted(path for path in output.rglob("*") if path.is_file())  # no temporary left
    return output


def test_a_study_of_ones_own_says_nothing_of_the_paper(tmp_path):
    maker = StudyMaker(tmp_path)
    maker.plan["settings"]["fraction"] = 1 / 30
    maker.add_study("mine", title="Two sizes of images", paper_table="not in the paper", reference="small")
    maker.add_row("mine", "small", [30.0, 31.0])
    maker.add_row("mine", "large", [33.0, 34.0])
    write_report(maker.write(), tmp_path / "report")
    page, text = ((tmp_path / "report" / name).read_text() for name in ("index.html", "report.md"))
    assert "<h1>Two sizes of images</h1>" in page and text.startswith("# Two sizes of images\n")
    table = page.split('aria-label="Two sizes of images"')[1].split("</table>")[0]
    assert "paper" not in table and re.findall('<th scope="col"[^>]*>([^<]+)</th>', table)[:7] == [
        "setting", "n", "AP", "Δ AP", "p (Holm)", "seed noise", "AP50"
    ]  # fmt: skip
    words = re.sub("<style>.*?</style>", "", page, flags=re.DOTALL)
    assert not re.search("paper", words + text, re.IGNORECASE) and "Question" in page
    assert "<dt>Share of the schedule</dt><dd>3.33 %</dd>" in page
    # Together with a table of the paper it is the paper's page.
    maker.add_study("alpha", reference="a")
    maker.add_row("alpha", "a", [30.0], 30.2)
    write_report(maker.write(), tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "the paper’s ablations</h1>" in page and page.count("paper AP") == 1
    with pytest.raises(SetupError, match="--rows b is no row of mine, alpha: choose from small, large, a"):
        write_report(tmp_path, tmp_path / "report", ["b"])


class Page(HTMLParser):
    """Tags left open, ids, addresses and the text of each table row."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.ids, self.addresses, self.tags, self.rows = [], [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.addresses += [found[key] for key in ("href", "src", "xlink:href") if key in found]
        if tag not in ("meta", "link", "path", "use", "rect", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        depth = len(self.open)
        self.handle_starttag(tag, attrs)
        del self.open[depth:]

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_csv_has_the_figures_in_full(report):
    rows = list(csv.DictReader((report / "alpha.csv").open(encoding="utf-8")))
    assert [(row["kind"], row["status"], row["n"]) for row in rows] == [
        ("row", "finished", "2"), ("row", "finished", "2"), ("row", "diverged", "0"), ("reported", "", ""),
    ]  # fmt: skip
    a, b, c, reported = rows
    assert (a["label"], float(a["AP_mean"]), float(a["AP_std"])) == (EVIL, 31.0, pytest.approx(2**0.5))
    assert (a["AP_difference"], a["paper_AP"], a["paper_APs"], a["source"]) == ("", "30.2", "12.5", "1a")
    # t = 4.5 / sqrt(2/2 + 0.5/2) = 4.02492 at (5/4)^2 / (1 + 1/16) = 1.470588 degrees: p = 0.09171
    assert (float(b["AP_difference"]), float(b["p_welch"])) == (4.5, pytest.approx(0.09171, abs=5e-6))
    assert (c["AP_mean"], c["AP_difference"]) == ("", "")
    assert (reported["label"], reported["paper_AP"], reported["paper_time_ms"]) == ("SSD513", "31.2", "125")


def test_json_has_figures_tests_and_runs(report):
    study = json.loads((report / "results.json").read_text())["studies"]["alpha"]
    b = study["rows"][1]
    assert (b["metrics"]["AP"], b["difference"], b["beyond_noise"]) == (
        {"mean": 35.5, "std": pytest.approx(0.5**0.5)},
        4.5,
        False,
    )
    assert [run["status"] for run in b["runs"]] == ["finished", "finished", "not finished"]
    assert (study["ordering"], study["pairs"]) == (None, {"total": 1, "tested": 1, "within_noise": 1})


def test_page_has_the_table_and_the_failed_row(report):
    page = Page((report / "index.html").read_text(encoding="utf-8"))
    rows = {tuple(row[:5]) for row in page.rows}
    assert {
        ("b (not finished with seed 2)", "2", "35.5 ± 0.7", "+4.5", "0.092"),
        ("c", "0", "diverged", "–", "–"),
    } <= rows
    assert ["c", "0", "diverged", EVIL] in page.rows
    assert ["b", "2", "not finished", "not started"] in page.rows
    assert ["SSD513", "31.2"] in [row[:2] for row in page.rows]
    assert ["b", "35.00", "36.00", "not finished", "+4.5 ± 0.7 (n = 2)"] in page.rows  # 5 and 4


def test_page_begins_with_what_may_be_concluded(report):
    text = (report / "index.html").read_text(encoding="utf-8")
    assert text.index("What this shows") < text.index("What it does not show") < text.index("At a glance")
    assert (report / "report.md").read_text(encoding="utf-8").splitlines()[2].startswith("**What it shows.**")


def test_page_stands_alone_and_is_well_formed(report):
    text = (report / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert page.addresses and all(address.startswith(("#", "data:,")) for address in page.addresses)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert "script" not in page.tags and "svg" in page.tags and "@import" not in text


def test_text_from_files_is_never_markup(report):
    page = (report / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;alert(" in page
    markdown = (report / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    tables = [line for line in markdown.splitlines() if line.startswith("| ")]
    counts = {len(re.findall(r"(?<!\\)\|", line)) for line in tables if "script" in line}
    assert counts == {14, 5, 6}  # 13 columns, 4 of the failures, 5 of the seeds: the label's own bar opens none


def test_control_characters_reach_no_page(tmp_path):
    maker = StudyMaker(tmp_path)
    maker.add_study("alpha", title="a\x1b[31mb", reported=[{"label": "S\u202eSD", "AP": 31.2}])
    maker.add_row("alpha", "a", [30.0], 31.0, label="x\u202ey\x07")
    write_report(maker.write(), tmp_path / "report")
    for name in ("index.html", "report.md"):
        text = (tmp_path / "report" / name).read_text(encoding="utf-8")
        assert "x\N{REPLACEMENT CHARACTER}y" in text and "S\N{REPLACEMENT CHARACTER}SD" in text
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", text)


def test_discussion_is_shown_in_paragraphs(report):
    assert "<p>Second.</p>" in (report / "index.html").read_text(encoding="utf-8")
    assert "\nSecond.\n" in (report / "report.md").read_text(encoding="utf-8")


def test_pictures_that_the_text_links_to_are_there(report):
    links = re.findall(r"\]\(([^)#]+)\)", (report / "report.md").read_text(encoding="utf-8"))
    assert "overview.png" in links and all((report / link).is_file() for link in links)
    assert (report / "overview.png").read_bytes().startswith(b"\x89PNG") and (report / "overview.svg").is_file()


def test_bad_input_writes_nothing(tmp_path):
    with pytest.raises(SetupError, match="no study.json"):
        write_report(tmp_path, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_output_that_is_a_file_is_refused(tmp_path):
    maker = StudyMaker(tmp_path)
    maker.add_study("alpha", plot="none")
    maker.add_row("alpha", "a", [30.0])
    (tmp_path / "report").write_text("")
    with pytest.raises(SetupError, match="report cannot be written .* Give --output another folder"):
        write_report(maker.write(), tmp_path / "report")


def test_name_with_a_mark_and_label_like_a_formula(tmp_path):
    maker = StudyMaker(tmp_path)
    maker.add_study("box_loss")
    maker.add_row("box_loss", "a", [30.0], label=r"cost $\notacommand$")
    write_report(maker.write(), tmp_path / "report")
    markdown = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "](#box_loss)" in markdown and '<a id="box_loss"></a>' in markdown
    assert r"$\notacommand$" in (tmp_path / "report" / "plots" / "box_loss_ours.svg").read_text(encoding="utf-8")


def test_small_differences_have_no_sign():
    assert [signed(value) for value in (1.25, -0.34, 0.04, -0.04, None)] == ["+1.2", "−0.3", "0.0", "0.0", "–"]


def test_markdown_escapes_what_would_be_a_mark():
    assert markdown_text("a|b *c*\n<d> [e]") == r"a\|b \*c\* &lt;d&gt; \[e\]"
