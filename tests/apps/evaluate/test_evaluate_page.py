"""The pages: self-contained, escaped, complete, and small however many classes there are."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hand_made_boxes import make_found, make_truth
from PIL import Image

from retina_plugin.apps.evaluate.compare_page import comparison_page
from retina_plugin.apps.evaluate.page import evaluation_page
from retina_plugin.apps.evaluate.pictures import draw_image
from retina_plugin.evaluation.comparison import compare
from retina_plugin.evaluation.evaluate import evaluate_detections, write_evaluation

ONE, TWO, FAR = [0, 0, 10, 10], [20, 0, 10, 10], [80, 80, 10, 10]
HOSTILE = ["<script>alert(1)</script>\"'&", "a\x00\x1b[31m\u202eb\n<img src=x onerror=alert(1)>"]
SECTIONS = ["scores", "classes", "errors", "confusion", "curves", "shapes", "calibration", "images"]


def page_of(truth, found, image_root=None, **options):
    evaluation = evaluate_detections(truth, found, limit=100, threshold=0.5)
    return evaluation_page(evaluation, title="A page", image_root=image_root, **options), evaluation


class Tags(HTMLParser):
    """What a browser would follow or run."""

    def __init__(self):
        super().__init__()
        self.links = []

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        assert not [name for name, _ in attributes if name.startswith("on")]


def assert_self_contained(page):
    tags = Tags()
    tags.feed(page)
    assert tags.links and all(link.startswith(("#", "data:")) for link in tags.links)
    assert "@import" not in page and "url(http" not in page
    assert page.count("<script>") == page.count("</script>") == 1
    for tag in ("section", "table", "figure", "div", "tr", "p"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag


def plain_set():
    truth = make_truth([(0, 0, ONE), (0, 1, TWO), (1, 0, ONE)], images=2)
    return truth, make_found([(0, 0, ONE, 0.9), (0, 0, TWO, 0.8), (1, 1, FAR, 0.7)])


def test_page_has_every_section_once():
    page, _ = page_of(*plain_set())
    assert re.findall(r'<section class="part" id="([^"]+)"', page) == SECTIONS
    assert_self_contained(page)
    assert "give the folder of the images with --images" in page
    assert page.count('<svg role="img"') == 3 + 1 + 3  # curves of mean, cat and dog; errors; two bins, reliability


def test_hostile_names_are_text():
    truth = make_truth([(0, 0, ONE), (0, 1, TWO)], classes=HOSTILE, file_names=["<b onclick=x>.jpg"])
    found = make_found([(0, 0, TWO, 0.9), (0, 1, FAR, 0.8)])
    evaluation = evaluate_detections(truth, found, limit=100)
    pages = [
        evaluation_page(evaluation, title=HOSTILE[0], image_root="nowhere"),
        comparison_page(
            compare(evaluation, evaluation, samples=5, seed=0),
            title=HOSTILE[1], sources=tuple(HOSTILE), image_root=None, pictures=3,
        ),
    ]  # fmt: skip
    for page in pages:
        assert_self_contained(page)
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert not re.search(r"<(img|b)\b", page) and "<script>alert" not in page
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", page)


def test_pictures_show_from_the_threshold_on(tmp_path):
    truth, found = plain_set()
    Image.new("RGB", (100, 100), (90, 10, 200)).save(tmp_path / "0.jpg")
    first, second, third = (draw_image(truth, found, 0, str(tmp_path), threshold=t)[1] for t in (0.85, 0.9, 0.8))
    assert first == second != third  # scores 0.9 and 0.8


def test_detections_beyond_the_limit_count_nowhere():
    truth = make_truth([(0, 0, ONE), (0, 0, TWO)])
    evaluation = evaluate_detections(truth, make_found([(0, 0, ONE, 0.9), (0, 1, FAR, 0.8)]), limit=1, threshold=0.5)
    assert evaluation.errors.counts["background"] == 0 and evaluation.confusion.tolist()[-1] == [0, 0, 0]


@pytest.mark.parametrize(
    "truth, found, words",
    [
        ([], [], ["There is no annotated box", "There is no detection", "No annotated box, no curve", "no detections"]),
        ([(0, 0, ONE)], [], ["There is no detection: every box is missed", "No calibration: no detections"]),
        ([], [(0, 0, ONE, 0.9)], ["There is no annotated box", "1 of 1 image"]),
        ([(0, 0, ONE)], [(0, 0, ONE, 7.0)], ["scores outside [0, 1] are not probabilities"]),
        ([(0, 0, ONE, True)], [(0, 0, ONE, 0.9)], ["1 crowd region", "There is no annotated box"]),
    ],
    ids=["nothing", "no detection", "no truth", "odd scores", "only a crowd"],
)
def test_empty_cases_say_so(truth, found, words, tmp_path):
    page, evaluation = page_of(make_truth(truth, classes=["cat"]), make_found(found))
    for text in words:
        assert text in page
    assert_self_contained(page)
    assert "nan" not in re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL).lower()
    assert len(write_evaluation(evaluation, tmp_path)) == 9  # JSON without NaN, or it would have been refused


def test_a_thousand_classes():
    names = [f"class {k}" for k in range(1000)]
    rows = [(k % 50, k, [k % 80, k // 80, 12, 14]) for k in range(1000)]
    truth = make_truth(rows, images=50, classes=names)
    found = make_found([(i, (k + k % 3) % 1000, box, 0.5 + k / 2500) for i, k, box in rows])
    page, _ = page_of(truth, found)
    assert len(page.encode()) < 2e6
    assert page.count('id="pr-') > 0 and "The 24 classes with the most boxes; all are in pr_curves.csv" in page
    assert "The 20 of 1000 classes with the most mistakes are shown" in page
    assert all(f">{name}<" in page for name in names)  # in the table


def test_pictures_of_the_worst_images(tmp_path):
    truth, found = plain_set()
    Image.new("RGB", (100, 100), (90, 10, 200)).save(tmp_path / "0.jpg")
    page, _ = page_of(truth, found, str(tmp_path))
    assert page.count('src="data:image/jpeg;base64,') == 2  # truth and predictions of one; the other is no file
    assert "1 images could not be read" not in page and "1 image could not be read" in page
    assert "0.jpg: 1 missed, 1 wrong detection" in page
    page, _ = page_of(truth, found, str(tmp_path), pictures=0)
    assert "data:image/jpeg" not in page and "could not be read" not in page


def test_files_hold_the_figures(tmp_path):
    _, evaluation = page_of(*plain_set())
    names = [path.name for path in write_evaluation(evaluation, tmp_path)]
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())
    rows = (tmp_path / "confusion.csv").read_text().splitlines()
    assert rows[0] == "truth,predicted,count" and "cat,cat,1" in rows and "dog,cat,1" in rows
    # cat: one of two found: AP 51 / 101 at every IoU; dog: 0.
    classes = (tmp_path / "classes.csv").read_text().splitlines()
    assert classes[1].startswith("cat,2,2,50.4950495,50.4950495,50.4950495,0.9,1,0.5,0.666666667")
    assert classes[2].startswith("dog,1,1,0,0,0,,,,")
    assert len((tmp_path / "pr_curves.csv").read_text().splitlines()) == 1 + 2 * 101


def test_a_box_taken_by_another_class_is_no_background(tmp_path):
    """What the page says of the diagonal: a found box that another class got first."""
    truth = make_truth([(0, 0, ONE), (0, 1, TWO)])
    found = make_found([(0, 1, ONE, 0.9), (0, 0, ONE, 0.8), (0, 0, [26, 0, 10, 10], 0.7), (0, 0, FAR, 0.6)])
    page, evaluation = page_of(truth, found)
    rows = re.findall(r'<tr[^>]*><th scope="row">([^<]+)</th>(.*?)</tr>', page.split("Confusion matrix")[1])
    cells = {name: re.findall(r">(\d*)</td>", row) for name, row in rows[:5]}
    assert cells == {
        "cat": ["", "1", ""], "dog": ["", "", "1"],
        "box already taken": ["1", "", ""], "partly on a box": ["1", "", ""], "background": ["1", "", ""],
    }  # fmt: skip
    assert "detections that got no box, 3 in all" in page and "The diagonal is not the recall" in page
    assert evaluation.class_points[0].recall == 1  # of the cat, whose diagonal is 0
    write_evaluation(evaluation, tmp_path)
    lines = (tmp_path / "confusion.csv").read_text().splitlines()[1:]
    assert lines == [
        "cat,dog,1", "dog,(background),1", "(box already taken),cat,1", "(partly on a box),cat,1", "(background),cat,1"
    ]  # fmt: skip


def test_interval_of_ap_in_small_sets():
    def evaluation_of(images, found, samples=200):
        truth = make_truth([(i, 0, ONE) for i in range(images)], images=images, classes=["cat"])
        return evaluate_detections(
            truth, make_found([(i, 0, ONE, 0.9) for i in range(found)]), limit=100, samples=samples
        )

    evaluation = evaluation_of(20, 10)
    low, high = evaluation.intervals["AP"]
    # The number found among 20 is binomial with p = 0.5: 95 % within 6 and 14.
    assert 25 < low < 40 and 60 < high < 75 and low < evaluation.scores.summary["AP"] < high
    assert evaluation.intervals == evaluation_of(20, 10).intervals  # the same draws
    page = evaluation_page(evaluation, title="", image_root=None)
    assert f"95 % interval: AP {low:.1f} to\n{high:.1f}" in page and "drawn 200 times" in page
    assert evaluation_of(20, 10, samples=0).intervals == {} == evaluation_of(9, 5).intervals
    assert "9 images are too few to say" in evaluation_page(evaluation_of(9, 5), title="", image_root=None)
    assert evaluation_of(1001, 5).intervals == {}
    nothing = evaluate_detections(make_truth([], images=20), make_found([]), limit=100, samples=5)
    assert nothing.intervals == {}


def test_comparison_page_shows_where_each_wins(tmp_path):
    truth, found = plain_set()
    for name in truth.file_names:
        Image.new("RGB", (100, 100), (90, 10, 200)).save(tmp_path / name)
    better = make_found([(0, 0, ONE, 0.9), (0, 1, TWO, 0.8), (1, 0, ONE, 0.7)])
    sides = [evaluate_detections(truth, side, limit=100, threshold=0.5) for side in (found, better)]
    page = comparison_page(
        compare(*sides, samples=20, seed=0), title="T", sources=("a", "b"), image_root=str(tmp_path), pictures=6
    )
    assert_self_contained(page)
    b_wins, a_wins = page.split('id="b-wins"')[1].split('id="a-wins"')
    assert b_wins.count("<img ") == 2 * 4 and a_wins.count("<img ") == 0
    assert "On 2 images B makes fewer mistakes than A" in b_wins
    assert "A makes fewer mistakes on 0 images, B on 2" in page
    assert np.isclose(sides[1].scores.summary["AP"], 100) and "AP 25.2 (A) and 100.0 (B)" in page
