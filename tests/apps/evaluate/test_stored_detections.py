"""Stored detections say of which set and settings they are, and programs refuse or run again what does not fit."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from export_tools import build
from PIL import Image
from tiny_coco import HEIGHT, WIDTH, changed, make_coco

from retina_cli.main import main
from retina_plugin.apps.evaluate import inputs
from retina_plugin.data.register import register_config_datasets
from retina_plugin.errors import SetupError
from retina_plugin.evaluation.boxes import read_truth
from retina_plugin.evaluation.origin import origin_path, read_origin, settings_of, write_origin
from retina_plugin.evaluation.predictions import read_detections

pytest_plugins = ("tiny_sets",)

RESULTS = "coco_instances_results.json"
OTHER = {
    "boxes": changed("annotations", 0, "bbox", [1, 2, 10, 9]),
    "classes": changed("categories", 0, "name", "wolf"),
    "swapped": make_coco() | {"categories": [{"id": 7, "name": "cat"}, {"id": 5, "name": "dog"}]},
    "sizes": changed("images", 0, "width", 41),
    "fewer": make_coco() | {"annotations": make_coco()["annotations"][:2]},
    "crowd": changed("annotations", 0, "iscrowd", 1),
}


def detections(number: int) -> list[dict]:
    return [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9 - a["id"] / 10}
        for a in make_coco()["annotations"][:number]
    ]


@pytest.fixture
def store(tmp_path, monkeypatch, tiny_cfg):
    """store(path, truth, number) writes results with their origin; the folder has truth.json and images/."""
    monkeypatch.chdir(tmp_path)
    Path("truth.json").write_text(json.dumps(make_coco()))
    Path("images").mkdir()
    for image in make_coco()["images"]:
        Image.new("RGB", (WIDTH, HEIGHT), (90, 10, 200)).save(f"images/{image['file_name']}")

    def write(path, truth="truth.json", number=3, weights="", settings=None):
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(detections(number)))
        settings = settings_of(tiny_cfg) if settings is None else settings
        write_origin(path, read_truth(truth), data_set="custom_val", settings=settings, weights=weights)
        return path

    return write


def shuffled():
    """The same set in another order of records, with other file names and one more field."""
    content = make_coco()
    for part in content.values():
        part.reverse()
    for image in content["images"]:
        image["file_name"] = f"elsewhere/{image['file_name']}"
    return content | {"info": {"year": 2026}}


@pytest.mark.parametrize("kind", OTHER)
def test_detections_on_another_set_are_refused(store, capsys, kind):
    found = store("found.json")
    Path("other.json").write_text(json.dumps(OTHER[kind]))
    words = ["--ground-truth", "other.json"]
    for command in (["evaluate", "--predictions", str(found)], ["compare", str(found), str(found)]):
        assert main([*command, *words]) == 2
        said = capsys.readouterr().err
        assert "error: found.json has the detections on custom_val (2 images, 3 boxes of cat, dog)" in said
        assert "other.json is another set" in said and not Path("output").exists()
    # The remedy that the message names.
    assert f"remove {origin_path(found)}" in said
    origin_path(found).unlink()
    assert len(read_detections(found, read_truth("other.json"))) == 3


def test_the_same_set_in_another_file_is_accepted(store):
    found = store("found.json")
    Path("other.json").write_text(json.dumps(shuffled()))
    assert len(read_detections(found, read_truth("other.json"))) == 3


def test_results_that_were_changed_are_of_no_known_set(store, caplog):
    found = store("found.json")
    found.write_text(json.dumps(detections(2)))
    assert read_origin(found) is None
    assert "found.json was changed after the evaluation that found.origin.json describes" in caplog.text


@pytest.mark.parametrize("content", ["", "[]", "[1]", "{}", '{"fingerprint": 1}', "null", "[" * 9999])
def test_an_origin_of_another_form_is_refused(store, capsys, content):
    found = store("found.json")
    origin_path(found).write_text(content)
    assert main(["evaluate", "--predictions", str(found), "--ground-truth", "truth.json"]) == 2
    assert "found.origin.json is not" in capsys.readouterr().err or content.startswith("[[")


def test_an_origin_with_a_value_of_another_type_is_refused(store, capsys):
    found = store("found.json")
    content = json.loads(origin_path(found).read_text())
    for key in content:
        origin_path(found).write_text(json.dumps(content | {key: [7]}))
        assert main(["evaluate", "--predictions", str(found), "--ground-truth", "truth.json"]) == 2
        assert "found.origin.json is not what an evaluation writes" in capsys.readouterr().err


def reordered(**more):
    """The same set with its classes in another order, under other ids."""
    content, ids = make_coco(), {5: 2, 7: 1}
    for annotation in content["annotations"]:
        annotation["category_id"] = ids[annotation["category_id"]]
    names = {"dog": 1, "cat": 2} | more
    return content | {"categories": [{"id": i, "name": name} for name, i in names.items()]}


@pytest.mark.parametrize("more", [{}, {"pets": 0}, {"bird": 3}], ids=["order", "unused_first", "unused_last"])
def test_classes_are_matched_by_their_names(store, capsys, more):
    """Detections of an evaluation, with the ids of its weights, on the file whose classes have another order."""
    found = store("found.json", number=2)
    Path("other.json").write_text(json.dumps(reordered(**more)))
    assert main(["compare", str(found), str(store("all.json")), "--ground-truth", "other.json"]) == 0
    said = capsys.readouterr().out
    assert "AP50 75.2 (A) and 100.0 (B): a difference of +24.8. 2 images are too few" in said
    rows = Path("output/comparison/differences.csv").read_text().splitlines()[3:]
    assert [row.split(",")[0] for row in rows] == [
        *("pets" for _ in range("pets" in more)),
        "dog",
        "cat",
        *(["bird"] if "bird" in more else []),
    ]
    # And what the last line says to run.
    assert "--predictions all.json --ground-truth other.json" in said
    assert main(["evaluate", "--predictions", "all.json", "--ground-truth", "other.json"]) == 0


def test_detections_of_a_class_that_the_set_lacks_are_left_out(store, tiny_cfg):
    content = make_coco()
    content["categories"].append({"id": 9, "name": "pets"})
    Path("pets.json").write_text(json.dumps(content))
    found = Path("found.json")
    found.write_text(json.dumps([*detections(3), detections(1)[0] | {"category_id": 9}]))
    write_origin(found, read_truth("pets.json"), data_set="custom_val", settings=settings_of(tiny_cfg), weights="")
    assert len(read_detections(found, read_truth("truth.json"))) == 3
    assert len(read_detections(found, read_truth("pets.json"))) == 4


@pytest.mark.parametrize("more", [{}, {"pets": 0}])
def test_runs_on_one_set_with_classes_in_another_order(store, tiny_cfg, clean_catalog, capsys, more):
    for name, content in (("one", make_coco()), ("two", reordered(**more))):
        Path(f"{name}.json").write_text(json.dumps(content))
        ids = {c["name"]: c["id"] for c in content["categories"]}
        run = run_of(store, tiny_cfg, name, json_file=f"{name}.json")
        results = run / "inference/custom_val" / RESULTS
        entries = detections(3)
        for entry in entries:
            entry["category_id"] = ids[{7: "dog", 5: "cat"}[entry["category_id"]]]
        results.write_text(json.dumps(entries))
        write_origin(
            results, read_truth(f"{name}.json"), data_set="custom_val", settings=settings_of(tiny_cfg), weights=""
        )
    assert main(["compare", "one", "two"]) == 0
    assert ap_of(capsys.readouterr().out).startswith("AP 100.0 (A) and 100.0 (B): a difference of +0.0")
    rows = Path("output/comparison/differences.csv").read_text().splitlines()[3:]
    assert [row.split(",")[0] for row in rows] == ["cat", "dog"]


@pytest.mark.parametrize("where", ["run", "evaluation"])
def test_folders_are_compared_whose_classes_have_another_order(store, tiny_cfg, clean_catalog, capsys, where):
    """A folder of YOLO files lists dog, cat; the weights of A know cat, dog, and those of B dog, cat."""
    folder = build("ultralytics_images_train", Path("pets")).path
    tiny_cfg.DATASETS.VAL_PATH = [str(folder)]
    register_config_datasets(tiny_cfg)
    place = "inference" if where == "run" else "inference_eval_only"
    truth = read_truth(MetadataCatalog.get("custom_val").json_file)
    for name, ids in (("A", {"cat": 1, "dog": 2}), ("B", {"dog": 1, "cat": 2})):
        own = truth.with_classes(ids)
        results = Path(name, place, "custom_val", RESULTS)
        results.parent.mkdir(parents=True)
        entries = [
            {"image_id": own.image_ids[i], "category_id": own.class_ids[k], "bbox": box, "score": 0.9}
            for i, k, box in zip(own.images.tolist(), own.classes.tolist(), own.boxes.tolist(), strict=True)
        ]
        results.write_text(json.dumps(entries))
        write_origin(results, own, data_set="custom_val", settings=settings_of(tiny_cfg), weights="")
        (results.parents[2] if where == "run" else results.parents[1]).joinpath("config.yaml").write_text(
            tiny_cfg.dump()
        )
    assert main(["compare", "A", "B"]) == 0
    said = capsys.readouterr().out
    assert "AP 100.0 (A) and 100.0 (B): a difference of +0.0. 4 images are too few" in said
    assert said.endswith("Next: look at output/comparison/index.html\n")  # neither has a model to evaluate
    assert json.loads(Path("output/comparison/comparison.json").read_text())["ground_truth"] == "pets"
    # Another folder: the sides and their folders are named.
    tiny_cfg.DATASETS.VAL_PATH = [str(build("labelimg_voc", Path("cells")).path)]
    next(Path("B").rglob("config.yaml")).write_text(tiny_cfg.dump())
    next(Path("B").rglob("*.origin.json")).unlink()
    next(Path("B").rglob(RESULTS)).write_text("[]")
    assert main(["compare", "A", "B"]) == 2
    said = capsys.readouterr().err
    assert "different ground truth, A on pets and B on cells: 4 and 9 image ids" in said and "/tmp" not in said


def run_of(store, tiny_cfg, name, weights=b"weights", json_file="truth.json"):
    """A run that was evaluated on truth.json, whose config.yaml names it."""
    tiny_cfg.DATASETS.VAL_JSON, tiny_cfg.DATASETS.VAL_IMAGES = json_file, "images"
    store(f"{name}/inference/custom_val/{RESULTS}")
    Path(name, "config.yaml").write_text(tiny_cfg.dump())
    if weights:
        Path(name, "model_final.pth").write_bytes(weights)
    return Path(name)


def ap_of(said: str) -> str:
    return next(line for line in said.splitlines() if line.startswith("AP "))


def test_compare_takes_the_detections_of_the_right_set(store, tiny_cfg, clean_catalog, capsys):
    """Two runs tested on their own set, then on another: each comparison takes those of its set."""
    Path("other.json").write_text(json.dumps(OTHER["boxes"]))
    for name in ("one", "two"):
        run = run_of(store, tiny_cfg, name)
        number = 3 if name == "one" else 2
        store(f"{name}/inference_eval_only/custom_val/{RESULTS}", "other.json", number, str(run / "model_final.pth"))
    words = ["--samples", "3", "--output", "out"]
    assert main(["compare", "one", "two", *words]) == 0
    assert ap_of(capsys.readouterr().out).startswith("AP 100.0 (A) and 100.0 (B)")
    assert main(["compare", "one", "two", *words, "--ground-truth", "other.json"]) == 0
    assert not ap_of(capsys.readouterr().out).startswith("AP 100.0")
    page = Path("out/index.html").read_text()
    assert "inference_eval_only" in page


@pytest.mark.parametrize("what", ["set", "settings", "weights"])
def test_a_model_is_run_again_whose_detections_do_not_fit(store, tiny_cfg, clean_catalog, monkeypatch, caplog, what):
    run = run_of(store, tiny_cfg, "one")
    Path("other.json").write_text(json.dumps(OTHER["boxes"]))
    (run / "other.pth").write_bytes(b"others")
    stored, took = run / "inference/custom_val" / RESULTS, []
    monkeypatch.setattr(inputs, "run_model", lambda config, weights, output, opts: took.append(weights) or ["", ""])

    def load():
        return inputs.load_detections(run, ground_truth=None, images=None, output=Path("out"))

    assert load().source == str(stored) and not took
    if what == "set":
        store(stored, "other.json")
    elif what == "settings":
        store(stored, settings=settings_of(tiny_cfg) | {"INPUT.MIN_SIZE_TEST": 32})
    else:
        store(stored, weights=str(run / "other.pth"))
    with pytest.raises(SetupError, match="DATASETS.TEST has 2 sets"):  # of the two that run_model gives above
        load()
    assert took == ["one/model_final.pth"] and "running model_final.pth" in caplog.text


def test_an_evaluation_stores_where_its_detections_come_from(store, tiny_cfg, clean_catalog, capsys):
    tiny_cfg.MODEL.RETINANET.NUM_CLASSES = 2
    tiny_cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    tiny_cfg.INPUT.MIN_SIZE_TEST = 64
    run = run_of(store, tiny_cfg, "one", weights=b"")
    torch.save({"model": build_model(tiny_cfg).state_dict()}, run / "model_final.pth")
    Path("other.json").write_text(json.dumps(OTHER["boxes"]))
    store(run / "inference/custom_val" / RESULTS, "other.json")
    assert main(["compare", "one", "one/model_final.pth", "--samples", "3"]) == 0
    assert "a difference of +0.0" in capsys.readouterr().out  # both were run
    results = Path("output/comparison/A/inference_eval_only/custom_val", RESULTS)
    origin = read_origin(results)
    assert origin.fingerprint == read_truth("truth.json").fingerprint() and origin.weights == "one/model_final.pth"
    assert origin.settings["INPUT.MIN_SIZE_TEST"] == 64
    assert main(["evaluate", "--predictions", str(results), "--ground-truth", "other.json"]) == 2


def test_different_settings_are_said(store, capsys):
    for name, side in (("a.json", 800), ("b.json", 32)):
        store(name, settings={"INPUT.MIN_SIZE_TEST": side, "INPUT.MAX_SIZE_TEST": 1333})
    assert main(["compare", "a.json", "b.json", "--ground-truth", "truth.json", "--samples", "3"]) == 0
    line = "INPUT.MIN_SIZE_TEST is 800 (A) and 32 (B)"
    assert line in capsys.readouterr().out.splitlines()
    assert f"<p>{line}.</p>" in Path("output/comparison/index.html").read_text()


def test_compare_refuses_where_there_is_no_model_to_run(store, tiny_cfg, clean_catalog, capsys):
    run = run_of(store, tiny_cfg, "one", weights=b"")
    Path("other.json").write_text(json.dumps(OTHER["boxes"]))
    store(run / "inference/custom_val" / RESULTS, "other.json")
    assert main(["compare", "one", "one"]) == 2
    said = capsys.readouterr().err
    assert (
        "one has no detections on truth.json (one/inference/custom_val" in said and "no model_final.pth to run" in said
    )


def test_a_copied_run_keeps_its_detections(store, tiny_cfg, clean_catalog, capsys):
    run = run_of(store, tiny_cfg, "one")
    store(run / "inference/custom_val" / RESULTS, weights=str(run / "model_final.pth"))
    shutil.copytree(run, "moved/there")
    assert main(["compare", "moved/there", "one", "--samples", "3"]) == 0
