"""``retina evaluate`` and ``retina compare``: from files, folders and weights to pages, and what they refuse."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image
from tiny_coco import HEIGHT, WIDTH, changed, make_coco

from retina_cli import compare as compare_cli
from retina_cli.main import main

pytest_plugins = ("tiny_sets",)


PLAIN = ["--predictions", "found.json", "--ground-truth", "truth.json"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder to be in, with truth.json, found.json (one right of three boxes), better.json and images/."""
    monkeypatch.chdir(tmp_path)
    content = make_coco()
    (tmp_path / "images").mkdir()
    for image in content["images"]:
        Image.new("RGB", (WIDTH, HEIGHT), (90, 10, 200)).save(tmp_path / "images" / image["file_name"])
    found = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9 - a["id"] / 10}
        for a in content["annotations"]
    ]
    for name, what in (("truth", content), ("found", found[:1]), ("better", found)):
        (tmp_path / f"{name}.json").write_text(json.dumps(what))
    return tmp_path


def test_evaluate_predictions(files, capsys):
    arguments = [*PLAIN, "--images", "images"]
    assert main(["evaluate", *arguments, "--output", "out"]) == 0
    said = capsys.readouterr().out
    # dog: one of two boxes found, cat: none. AP = (51 / 101 + 0) / 2.
    assert "AP 25.2, AP50 25.2, AP75 25.2" in said
    # Without its missed boxes dog has AP 100, and cat is no class any more: 100 - 25.2.
    assert "missed 74.8 (2)" in said and "to all false positives 0.0" in said
    page = (files / "out" / "index.html").read_text()
    assert "found.json against truth.json" in page and page.count('src="data:image/jpeg;base64,') == 4
    content = json.loads((files / "out" / "evaluation.json").read_text())
    assert (content["images"][0]["missed"], content["num_boxes"], content["num_detections"]) == (1, 3, 1)
    assert str(files) not in page
    assert "interval" not in said and "2 images are too few" in page


def test_the_line_of_ap_has_its_interval(files, capsys):
    content = make_coco()
    content["images"] = [dict(content["images"][0], id=i, file_name=f"{i}.jpg") for i in range(1, 13)]
    content["annotations"] = [dict(content["annotations"][0], id=i, image_id=i) for i in range(1, 13)]
    Path("truth.json").write_text(json.dumps(content))
    found = [{"image_id": i, "category_id": 7, "bbox": [1, 2, 10, 8], "score": 0.5} for i in range(1, 7)]
    Path("found.json").write_text(json.dumps(found))
    assert main(["evaluate", *PLAIN, "--output", "out"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    low, high = json.loads(Path("out/evaluation.json").read_text())["intervals_95"]["AP"]
    assert low < 50 < high and line.endswith(f"; 95 % interval of AP {low:.1f} to {high:.1f}")


def test_an_earlier_page_is_kept_and_named(files, capsys):
    words = ["--ground-truth", "truth.json", "--output", "out"]
    assert main(["evaluate", "--predictions", "found.json", *words]) == 0
    first = {name: Path("out", name).read_text() for name in ("index.html", "evaluation.json")}
    assert "kept" not in capsys.readouterr().out
    assert main(["evaluate", "--predictions", "found.json", *words]) == 0  # the same page
    assert not Path("out/index.1.html").exists()
    assert main(["evaluate", "--predictions", "better.json", *words]) == 0
    said = capsys.readouterr().out
    assert "kept: out/index.1.html and out/evaluation.1.json, of the page that was in out" in said
    assert first == {f"{name.split('.')[0]}.{name.split('.')[1]}": Path("out", name.replace(".", ".1.")).read_text()
                     for name in first}  # fmt: skip


def test_the_last_line_says_what_to_run_next(files, capsys):
    assert main(["evaluate", *PLAIN]) == 0
    *others, last = capsys.readouterr().out.splitlines()
    assert last == (
        "Next: look at output/evaluation/index.html; against another detector: "
        "retina compare found.json OTHER.json --ground-truth truth.json"
    )
    assert len(others) == 4
    words = last.split("retina ")[1].replace("OTHER.json", "better.json").split()
    assert main([*words, "--samples", "5"]) == 0
    *others, last = capsys.readouterr().out.splitlines()
    assert len(others) == 3 and last.startswith("Next: look at output/comparison/index.html; all about one side: ")
    assert last.endswith("retina evaluate --predictions better.json --ground-truth truth.json")
    assert main(last.split("retina ")[1].split()) == 0


def test_options_of_evaluate(files, capsys):
    arguments = ["--predictions", "better.json", "--ground-truth", "truth.json", "--score-threshold", "0.75"]
    assert main(["evaluate", *arguments, "--title", "Mine & ours", "--max-detections", "1"]) == 0
    page = (files / "output" / "evaluation" / "index.html").read_text()
    assert "<h1>Mine &amp; ours</h1>" in page and "with a score of at least 0.750" in page
    assert 'AR@1<' in page and "AR@100" not in page  # fmt: skip


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give either WEIGHTS, a checkpoint, or --predictions with --ground-truth."),
        (["a.pth", "--predictions", "found.json"], "give either WEIGHTS"),
        (["--predictions", "found.json"], "--predictions found.json needs --ground-truth"),
        ([*PLAIN, "SEED", "1"], "config keys (SEED) say nothing"),
        (["a.pth", "--images", "images"], "--ground-truth and --images go with --predictions"),
        (["a.pth"], "a.pth does not exist"),
        (["--output", "out", "a.pth", "SEED", "1"], "a.pth does not exist"),
        (["truth.json"], "truth.json cannot be read as a checkpoint"),
        ([*PLAIN, "--images", "x"], "--images x is not a folder"),
        (["--predictions", "truth.json", "--ground-truth", "found.json"], "must hold one object with images"),
        ([*PLAIN, "--score-threshold", "2"], "in [0, 1], got 2.0"),
        ([*PLAIN, "--max-detections", "0"], "at least 1, got 0"),
        ([*PLAIN, "--pictures", "-1"], "at least 0, got -1"),
    ],
)  # fmt: skip
def test_evaluate_refuses_in_a_sentence(files, capsys, arguments, message):
    assert main(["evaluate", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and "Traceback" not in said
    assert not (files / "output").exists()


def test_compare_predictions(files, capsys):
    arguments = ["found.json", "better.json", "--ground-truth", "truth.json", "--images", "images"]
    assert main(["compare", *arguments, "--output", "out", "--samples", "50"]) == 0
    assert "AP 25.2 (A) and 100.0 (B): a difference of +74.8" in capsys.readouterr().out
    page = (files / "out" / "index.html").read_text()
    assert "<h1>found.json and better.json</h1>" in page and page.count('src="data:image/jpeg;base64,') == 2 * 4
    content = json.loads((files / "out" / "comparison.json").read_text())
    assert content["seed"] == 0 and content["samples"] == 50
    assert [row["mistakes_B"] for row in content["image_mistakes"]] == [0, 0]
    first = (files / "out" / "comparison.json").read_bytes()
    assert main(["compare", *arguments, "--output", "again", "--samples", "50"]) == 0
    assert (files / "again" / "comparison.json").read_bytes() == first


def make_run(folder: Path, results: str, truth: Path, set_name="custom_val"):
    """What a run leaves: config.yaml and the results of its test set."""
    from retina_plugin import get_retina_cfg

    cfg = get_retina_cfg()
    cfg.DATASETS.VAL_JSON, cfg.DATASETS.VAL_IMAGES = str(truth), str(truth.parent / "images")
    place = folder / "inference" / set_name
    place.mkdir(parents=True)
    (folder / "config.yaml").write_text(cfg.dump())
    (place / "coco_instances_results.json").write_text(results)


def test_compare_runs_on_their_own_test_set(files, clean_catalog, capsys):
    for name, results in (("one", "found.json"), ("two", "better.json")):
        make_run(files / "runs" / name / "seed0", (files / results).read_text(), files / "truth.json")
    assert main(["compare", "runs/one/seed0", "runs/two/seed0", "--samples", "5"]) == 0
    page = (files / "output" / "comparison" / "index.html").read_text()
    assert "<h1>one and two</h1>" in page and page.count('src="data:image/jpeg;base64,') == 2 * 4


def test_compare_refuses_a_run_with_two_test_sets(files, clean_catalog, capsys):
    for name in ("set_a", "set_b"):
        make_run(files / "one", (files / "found.json").read_text(), files / "truth.json", name)
    assert main(["compare", "one", "found.json", "--ground-truth", "truth.json"]) == 2
    assert "one has the results of 2 sets: name one of one/inference/set_a/coco" in capsys.readouterr().err


def test_compare_refuses_runs_on_different_sets(files, clean_catalog, capsys):
    (files / "other.json").write_text(json.dumps(changed("annotations", 0, "bbox", [1, 2, 10, 9])))
    make_run(files / "one", (files / "found.json").read_text(), files / "truth.json")
    make_run(files / "two", (files / "better.json").read_text(), files / "other.json")
    assert main(["compare", "one", "two"]) == 2
    assert "the two sides have different ground truth" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["none", "found.json"], "none does not exist: give a results file"),
        (["found.json", "better.json"], "no run's config.yaml names its ground truth: give --ground-truth."),
        (["images", "found.json"], "images holds neither inference/*/coco_instances_results.json nor model_final.pth"),
        (["found.json", "better.json", "--samples", "0"], "--samples must be at least 1, got 0"),
        (["found.json", "better.json", "--max-detections", "0"], "--max-detections must be at least 1"),
        (["found.json", "better.json", "--images", "x"], "--images x is not a folder"),
        (["found.json", "truth.json", "--ground-truth", "truth.json"], "This looks like ground truth"),
    ],
)
def test_compare_refuses_in_a_sentence(files, capsys, arguments, message):
    assert main(["compare", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said
    assert not (files / "output").exists()


def test_a_checkpoint_is_run_and_judged(files, tiny_cfg, clean_catalog, capsys):
    cfg = tiny_cfg
    cfg.MODEL.RETINANET.NUM_CLASSES = 2
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0  # random weights: scores near the prior of 0.01
    cfg.DATASETS.VAL_JSON, cfg.DATASETS.VAL_IMAGES = "truth.json", "images"
    cfg.INPUT.MIN_SIZE_TEST = 64
    cfg.DATALOADER.NUM_WORKERS = 0
    (files / "run").mkdir()
    (files / "run" / "config.yaml").write_text(cfg.dump())
    torch.save({"model": build_model(cfg).state_dict()}, files / "run" / "model_final.pth")
    assert main(["evaluate", "run/model_final.pth", "--output", "judged"]) == 0
    page = (files / "judged" / "index.html").read_text()
    assert "model_final.pth on custom_val" in page
    content = json.loads((files / "judged" / "evaluation.json").read_text())
    record = json.loads((files / "judged" / "eval_record.json").read_text())
    assert content["num_detections"] > 0
    ap = {row["metric"]: row["percent"] for row in content["ap"]}
    assert ap["AP"] == pytest.approx(record["results"]["bbox"]["AP"], abs=1e-6)
    # The terminal has the figures once, and nothing of Detectron2's or of COCO's tables.
    said = capsys.readouterr().out
    assert (
        said.count("AP50") == 2
        and "Average Precision" not in said
        and "d2.evaluation" not in said
        and "copypaste" not in said
    )
    assert "Start inference" in (files / "judged" / "inference_eval_only" / "log.txt").read_text()
    last = said.splitlines()[-1]
    assert last.startswith(
        "Next: look at judged/index.html; on pictures of your own: retina predict run/model_final.pth "
    )
    assert main([*last.split("retina ")[1].replace("PHOTOS", "images").split(), "--output", "found"]) == 0
    capsys.readouterr()
    # Without WEIGHTS the config's, whether keys follow or not.
    keys = ["MODEL.WEIGHTS", "run/model_final.pth", "TEST.DETECTIONS_PER_IMAGE", "1"]
    assert main(["evaluate", "--config-file", "run/config.yaml", *keys, "--output", "by_key"]) == 0
    assert json.loads((files / "by_key" / "evaluation.json").read_text())["num_detections"] <= 2
    # The run's folder stays as it was, and two checkpoints compare.
    assert sorted(path.name for path in (files / "run").iterdir()) == ["config.yaml", "model_final.pth"]
    assert main(["compare", "run", "run/model_final.pth", "--samples", "3"]) == 0
    assert "a difference of +0.0" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_help_does_without_torch(command):
    code = f"""
import sys
from retina_cli.main import main
try:
    main([{command!r}, "--help"])
except SystemExit as end:
    assert end.code == 0
assert "torch" not in sys.modules and "numpy" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert (result.returncode, result.stderr) == (0, "")
    assert "Examples:" in result.stdout


def test_names_that_tell_paths_apart():
    names = compare_cli.different_names
    assert names(Path("runs/a/seed0"), Path("runs/b/seed0")) == ("a", "b")
    assert names(Path("a.json"), Path("b.json")) == ("a.json", "b.json")
    assert names(Path("x/a.json"), Path("x/a.json")) == ("a.json", "a.json")
    assert names(Path("run"), Path("run/model_final.pth")) == ("run", "run/model_final.pth")
