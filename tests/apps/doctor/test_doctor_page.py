"""The HTML page of ``retina doctor``: everything that the text says, and no text from a file as markup."""

import re

from retina_cli.main import main
from retina_plugin.apps.doctor.report import Report
from retina_plugin.findings import ERROR, NOTE, WARNING, Finding

pytest_plugins = ("tiny_sets", "doctor_sets")

HOSTILE = '"><img src=x onerror=alert(1)>\x1b[31m\u202e'
BINS = {"0-4": 0, "4-8": 3, "8-16": 1, ">=16": 0}


def make_report() -> Report:
    report = Report(HOSTILE)
    places = [{"file": f"{i}{HOSTILE}.jpg", "bbox": [1, 2, 3, 4]} for i in range(7)]
    report.add([
        Finding(NOTE, "old-names", "numpy", "old names", ""),
        Finding(WARNING, "boxes-tiny", HOSTILE, f"first line {HOSTILE}\nsecond line", "Draw them anew", tuple(places)),
        Finding(ERROR, "config-value", "SOLVER", "SOLVER.MAX_ITER must be at least 1, got 0", "Raise it"),
    ])  # fmt: skip
    report.data[HOSTILE] = {
        "images": 4, "images_with_boxes": 3, "boxes": 4, "boxes_by_class": {HOSTILE: 3, "cat": 1},
        "box_side_px_after_resize": BINS, "box_height_by_width": BINS, "boxes_per_image": BINS,
        "image_sizes": {f"{i}x8": 1 for i in range(8)},
    }  # fmt: skip
    return report


def test_page_says_what_the_text_says():
    report = make_report()
    page, text = report.as_html(), report.as_text()
    assert re.findall(r'<section class="part" id="([^"]+)"', page) == ["error", "warning", "note", "set-0"]
    for words in (
        "Do not train yet: 1 error to fix first.", "SOLVER.MAX_ITER must be at least 1, got 0", "second line",
        "Raise it", "Draw them anew", "box [1, 2, 3, 4]", "and 2 more", "and 3 more",
        "4 images, 3 with boxes; 4 boxes", "px after the resize",
    ):  # fmt: skip
        assert words in page and words in text
    assert 'style="width: 100.0%"' in page and 'style="width: 33.3%"' in page  # of 3 and 1 boxes
    assert "0-4" not in page and ">=16" not in page  # bins before the first box and after the last


def test_names_from_files_are_text():
    page = make_report().as_html()
    assert "&lt;img src=x onerror=alert(1)&gt;" in page and "<img" not in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", page)
    assert "<script" not in page and "@import" not in page


def test_a_report_without_findings_is_a_page_too():
    page = Report("my.yaml").as_html()
    assert "Training works and makes sense" in page and "<h1>my.yaml</h1>" in page


def test_command_writes_the_page(good_set, tmp_path, capsys):
    arguments = ["doctor", "--config-file", good_set(), "--no-images", "--no-fit", "--html"]
    assert main([*arguments, str(tmp_path / "new" / "page.html"), "--jobs", "1"]) == 0
    page = (tmp_path / "new" / "page.html").read_text()
    assert "Training works" in page and "custom_train" in page and "cat" in page
    (tmp_path / "file").write_text("")
    assert main([*arguments, str(tmp_path / "file" / "page.html")]) == 2
    assert "--html" in (said := capsys.readouterr().err) and "cannot be written" in said
