"""The studies as data: index, files and the paper's figures agree with one another."""

import re
from dataclasses import replace

import pytest
import yaml

from retina_plugin.apps.study.index import ABLATIONS, load_studies, paper_figures
from retina_plugin.errors import SetupError

STUDIES = load_studies()
ROWS = [(study, row) for study in STUDIES.values() for row in study.rows]
KEYS = {  # a parameter of paper_tables.csv -> the key of a config that holds it
    "gamma": "MODEL.RETINANET.FOCAL_LOSS_GAMMA",
    "alpha": "MODEL.RETINANET.FOCAL_LOSS_ALPHA",
    "n_scales": "MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE",
    "batch_size": "MODEL.RETINANET.OHEM.BATCH_SIZE",
    "nms_thr": "MODEL.RETINANET.OHEM.NMS_THRESH",
    "beta": "MODEL.RETINANET.FOCAL_STAR.BETA",
    "scale": "INPUT.MIN_SIZE_TEST",
    "low_quality_match_min_iou": "MODEL.RETINANET.LOW_QUALITY_MIN_IOU",
}


def parameters_of(source: str) -> dict[str, str]:
    from retina_plugin.apps.study.index import _tables

    table, row = source.split(": ", 1)
    (record,) = [r for r in _tables() if (r["table"], r["row_key"]) == (table, row)]
    return dict(part.split("=", 1) for part in record["parameters"].split(";"))


def test_studies_are_those_of_the_paper_and_ours():
    assert list(STUDIES) == [
        "alpha", "gamma", "gamma_alpha", "anchors", "ohem", "scale", "focal_star", "prior", "normalizer",
        "precision", "low_quality", "two_stage",
    ]  # fmt: skip
    assert [len(STUDIES[name].rows) for name in ("alpha", "gamma", "anchors", "ohem", "scale", "focal_star")] == [
        7, 7, 7, 10, 10, 4,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reference", "ap", "ap50", "ap75"),
    [
        ("1a/alpha=0.75", 31.1, 49.4, 33.0),
        ("1b/gamma=2", 34.0, 52.5, 36.5),
        ("1c/sc=2/ar=3", 34.2, 53.1, 36.5),
        ("1d/OHEM/128/0.5", 32.8, 50.3, 35.1),
        ("1d/FL/n/a/n/a", 36.0, 54.9, 38.7),
        ("1e/R-101-800", 37.8, 57.5, 40.8),
        ("3/FL*/gamma=4/beta=0", 33.9, 51.8, 36.4),
    ],
)
def test_paper_figures_are_the_papers(reference, ap, ap50, ap75):
    figures = paper_figures(reference)
    assert (figures["AP"], figures["AP50"], figures["AP75"]) == (ap, ap50, ap75)


def test_paper_figures_have_sizes_and_time_where_the_paper_prints_them():
    assert paper_figures("1e/R-50-400")["APS"] == 11.2 and paper_figures("1e/R-50-400")["time_ms"] == 64
    assert paper_figures("1a/alpha=0.5")["time_ms"] is None


def test_every_row_of_tables_1_and_3_is_in_a_study():
    from retina_plugin.apps.study.index import _tables

    shown = {row.paper["source"] for _, row in ROWS if row.paper}
    expected = {f"{r['table']}: {r['row_key']}" for r in _tables() if r["table"] in ("1a", "1b", "1c", "1d", "1e", "3")}
    assert len(expected) == 45 and expected <= shown


@pytest.mark.parametrize(
    ("study", "row"), [pair for pair in ROWS if pair[1].paper], ids=lambda value: getattr(value, "name", value)
)
def test_row_changes_what_the_papers_row_says(study, row):
    parameters = parameters_of(row.paper["source"])
    # CE has no gamma of its own, FL*'s stands under another key, and "no low-quality matches" is a switch.
    skipped = {
        "alpha": {"gamma"},
        "focal_star": {"gamma", "alpha"},
        "prior": {"gamma", "alpha"},
        "low_quality": {"low_quality_match_min_iou"} if row.name == "low_quality_off" else set(),
    }.get(study.name, set())
    stated = {name: float(text) for name, text in parameters.items() if re.fullmatch(r"[\d.]+", text)}
    shared = [name for name in KEYS if name in stated and KEYS[name] in row.changes and name not in skipped]
    assert shared or study.name in ("prior", "focal_star", "two_stage") or row.name in ("low_quality_off", "ohem_fl")
    assert {name: row.changes[KEYS[name]] for name in shared} == {name: stated[name] for name in shared}


def test_readme_of_the_ablations_has_the_same_figures():
    lines = re.findall(
        r"^\| \[(\w[\w.]*)\].*\| (\S+) \| (\S+) \| (\S+) \|$", (ABLATIONS / "README.md").read_text(), re.M
    )
    by_name = {row.name: row for _, row in ROWS}
    assert len(lines) >= 49
    for name, *figures in lines:
        paper = by_name[name].paper
        expected = [paper[metric] if paper else None for metric in ("AP", "AP50", "AP75")]
        printed = [float(figure) if re.fullmatch(r"[\d.]+", figure) else None for figure in figures]
        assert printed == expected, name


def test_rows_of_a_study_set_the_same_keys():
    for study in STUDIES.values():
        keys = {tuple(sorted(row.changes)) for row in study.rows}
        assert len(keys) == 1, study.name
        values = [repr(sorted(row.changes.items())) for row in study.rows]
        assert len(set(values)) == len(values), f"{study.name}: two rows are the same"


def test_row_says_the_bases_value_where_another_row_changes_it():
    gamma_2 = next(row for row in STUDIES["gamma"].rows if row.name == "gamma_2")  # its file changes nothing
    assert gamma_2.changes == {"MODEL.RETINANET.FOCAL_LOSS_ALPHA": 0.25, "MODEL.RETINANET.FOCAL_LOSS_GAMMA": 2.0}
    assert gamma_2.x == {"gamma": 2.0}


# --- A user's own ---


@pytest.fixture
def own(tmp_path):
    def write(index: dict | None = None, rows=("own_0.5", "own_10", "own_2")):
        (tmp_path / "own").mkdir()
        for name in rows:
            value = float(name.split("_")[1])
            (tmp_path / "own" / f"{name}.yaml").write_text(f"MODEL: {{RETINANET: {{FOCAL_LOSS_GAMMA: {value}}}}}\n")
        if index is not None:
            (tmp_path / "index.yaml").write_text(yaml.safe_dump(index))
        return tmp_path

    return write


def test_folder_without_an_entry_is_a_study_in_natural_order(own):
    study = load_studies(folder=own())["own"]
    assert [row.name for row in study.rows] == ["own_0.5", "own_2", "own_10"] and study.reference == "own_0.5"
    assert study.rows[0].paper == {}
    # A file without _BASE_ changes what it says and nothing else.
    assert study.rows[0].changes == {"MODEL.RETINANET.FOCAL_LOSS_GAMMA": 0.5}


def test_entry_names_rows_and_reference(own):
    index = {"own": {"title": "Mine", "reference": "own_2", "rows": {"own_2": {"label": "two", "paper": "1b/gamma=2"}}}}
    study = load_studies(["own"], own(index))["own"]
    assert study.rows[0].label == "two" and study.rows[0].paper["AP"] == 34.0 and study.title == "Mine"


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"own": {"rows": {"own_7": {}}}}, "own_7, for which there is no file"),
        ({"own": {"reference": "own_7"}}, "reference 'own_7', which is none of its rows"),
        ({"own": {"colour": "red"}}, "unknown key 'colour'"),
        ({"own": {"rows": {"own_2": {"papier": 1}}}}, "unknown key 'papier'"),
        ({"own": {"plot": "pie"}}, "plot 'pie'"),
        ({"own": {"rows": {"own_2": {"paper": "9z/none"}}}}, "'9z/none' is not a TABLE/ROW"),
    ],
)
def test_index_that_does_not_fit_is_refused(own, index, message):
    with pytest.raises(SetupError, match=message):
        load_studies(folder=own(index))


def test_unknown_study_lists_the_known():
    with pytest.raises(SetupError, match="unknown study gama: choose from alpha, gamma"):
        load_studies(["gama"])


def test_folder_that_is_missing_is_refused(tmp_path):
    with pytest.raises(SetupError, match="is not a folder"):
        load_studies(folder=tmp_path / "nowhere")


def test_listing_says_the_same_without_reading_the_configs():
    listed = load_studies(with_changes=False)
    assert list(listed) == list(STUDIES) and len(listed) > 8
    for name, study in STUDIES.items():
        assert replace(listed[name], rows=[]) == replace(study, rows=[])
        for row, short in zip(study.rows, listed[name].rows, strict=True):
            assert (short.name, short.label, short.paper) == (row.name, row.label, row.paper)
