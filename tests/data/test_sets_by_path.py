"""Data sets given by path: what is registered, with which classes, and which keys are refused."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from export_tools import build
from own_folders import SCENES, WRITERS, write_coco, write_csv, write_labelme, write_voc, write_yolo

from retina_plugin.config.keys import get_retina_cfg
from retina_plugin.config.load import load_config
from retina_plugin.data.checks import check_datasets
from retina_plugin.data.register import fill_num_classes, register_boxes, register_config_datasets
from retina_plugin.errors import SetupError
from retina_plugin.starting_config import choose_config

pytest_plugins = ("tiny_sets",)


@pytest.fixture(autouse=True)
def clean(clean_catalog):
    """Each test registers anew."""


def make_cfg(**keys):
    cfg = get_retina_cfg()
    cfg.MODEL.RETINANET.NUM_CLASSES = 0
    for key, value in keys.items():
        is_list = isinstance(value, (list, tuple)) or key.endswith("_PATH")
        cfg.DATASETS[key] = value if is_list else type(cfg.DATASETS[key])(value)
    return cfg


def registered_names(name: str) -> list[str]:
    return sorted(record["file_name"].rsplit("/", 1)[1] for record in DatasetCatalog.get(name))


@pytest.mark.parametrize("kind", WRITERS)
def test_folder_of_any_format_is_split_and_registered(tmp_path, kind):
    cfg = make_cfg(TRAIN_PATH=WRITERS[kind](tmp_path / "set"), VAL_FRACTION=0.4)
    register_config_datasets(cfg, tmp_path / "run")
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("custom_train",), ("custom_val",))
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["custom_train.json", "custom_val.json"]
    train, val = registered_names("custom_train"), registered_names("custom_val")
    assert len(val) == 2 and sorted(train + val) == [name for name, _, _ in SCENES]
    fill_num_classes(cfg)
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 2
    record = next(record for record in DatasetCatalog.get("custom_train") if record["annotations"])
    expected = next(boxes for name, _, boxes in SCENES if record["file_name"].endswith(name))
    x1, y1, x2, y2, class_name = expected[0]
    assert record["annotations"][0]["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=1e-3)
    assert MetadataCatalog.get("custom_train").thing_classes[record["annotations"][0]["category_id"]] == class_name


def test_split_by_fraction_says_that_the_set_has_its_own(tmp_path, caplog):
    write_voc(tmp_path / "set")
    cfg = make_cfg(TRAIN_PATH=tmp_path / "set", VAL_FRACTION=0.4)
    with caplog.at_level(logging.INFO):
        register_config_datasets(cfg, tmp_path / "run")
    assert "its own split" not in caplog.text
    (tmp_path / "set/ImageSets/Main").mkdir(parents=True)
    (tmp_path / "set/ImageSets/Main/val.txt").write_text("d\ne\n")
    with caplog.at_level(logging.INFO):
        register_config_datasets(cfg, tmp_path / "run")
    assert "its own split is not used" in caplog.text and "ImageSets/Main/val.txt" in caplog.text


def test_same_folder_for_both_uses_the_parts_that_it_names(tmp_path):
    write_voc(tmp_path)
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\nb\nc\n")
    (tmp_path / "ImageSets/Main/val.txt").write_text("d\ne\n")
    register_config_datasets(make_cfg(TRAIN_PATH=tmp_path, VAL_PATH=tmp_path))
    assert (registered_names("custom_train"), registered_names("custom_val")) == (
        ["a.png", "b.png", "c.png"],
        ["d.png", "e.png"],
    )
    shutil.rmtree(tmp_path / "ImageSets")
    with pytest.raises(SetupError, match="has the same images to train and to validate on, and says of no part"):
        register_config_datasets(make_cfg(TRAIN_PATH=tmp_path, VAL_PATH=tmp_path))


@pytest.mark.parametrize("name", ["roboflow_voc_train_test", "ultralytics_train_test", "roboflow_yolo_train_test"])
def test_set_of_a_train_and_a_test_folder_is_validated_on_the_test_folder(tmp_path, caplog, name):
    export = build(name, tmp_path)
    register_config_datasets(make_cfg(TRAIN_PATH=tmp_path, VAL_PATH=tmp_path))
    assert registered_names("custom_train") == sorted(export.parts["train"])
    assert registered_names("custom_val") == sorted(export.parts["test"])
    assert "custom_val: no part is for validation: the test part is taken" in caplog.text
    caplog.clear()
    register_config_datasets(make_cfg(TRAIN_PATH=tmp_path, VAL_FRACTION=0.4))
    assert "its own split is not used" in caplog.text


def test_part_that_was_not_exported_is_drawn_from_the_rest(tmp_path, caplog):
    build("roboflow_yolo", tmp_path)
    for part in ("valid", "test"):
        shutil.rmtree(tmp_path / part)
    assert choose_config(tmp_path).values["DATASETS.VAL_FRACTION"] == 0.2
    register_config_datasets(make_cfg(TRAIN_PATH=tmp_path, VAL_FRACTION=0.4))
    assert "data.yaml names ../valid/images, which does not exist" in caplog.text
    with pytest.raises(SetupError, match=r"data.yaml names \.\./valid/images, which does not exist .*: correct it"):
        register_config_datasets(make_cfg(TRAIN_PATH=tmp_path, VAL_PATH=tmp_path))


def test_json_without_a_partner_can_be_split(tmp_path):
    root = write_coco(tmp_path)
    cfg = make_cfg(TRAIN_JSON=root / "boxes.json", TRAIN_IMAGES=root / "images", VAL_FRACTION=0.2)
    register_config_datasets(cfg)
    assert (len(registered_names("custom_train")), len(registered_names("custom_val"))) == (4, 1)


def test_classes_are_common_to_train_and_val(tmp_path):
    dogs = [scene for scene in SCENES if all(box[4] == "dog" for box in scene[2])]
    cats = [scene for scene in SCENES if any(box[4] == "cat" for box in scene[2])]
    register_config_datasets(
        make_cfg(TRAIN_PATH=write_labelme(tmp_path / "1", dogs), VAL_PATH=write_voc(tmp_path / "2", cats))
    )
    for name in ("custom_train", "custom_val"):
        assert MetadataCatalog.get(name).thing_classes == ["cat", "dog"]
    # A file of names comes first, and its order stays.
    register_config_datasets(
        make_cfg(TRAIN_PATH=write_labelme(tmp_path / "3", dogs), VAL_PATH=write_yolo(tmp_path / "4", cats))
    )
    assert MetadataCatalog.get("custom_train").thing_classes == ["dog", "cat"]


@pytest.mark.parametrize("given", [("cat", "cow", "dog"), ("names.txt",)])
def test_classes_by_name_or_file(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("cat\ncow\ndog\n")
    register_config_datasets(make_cfg(TRAIN_PATH=write_voc(tmp_path / "set"), CLASSES=given))
    assert MetadataCatalog.get("custom_train").thing_classes == ["cat", "cow", "dog"]


def test_several_folders_are_one_set(tmp_path):
    dogs = [scene for scene in SCENES if all(box[4] == "dog" for box in scene[2])]
    (tmp_path / "my.yaml").write_text(f"""
DATASETS:
  TRAIN_PATH: [{write_voc(tmp_path / "farm", dogs)}, {write_labelme(tmp_path / "lab")}]
  VAL_PATH: {write_yolo(tmp_path / "road")}
""")
    cfg = load_config(str(tmp_path / "my.yaml"), [])
    register_config_datasets(cfg)
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("custom_train",), ("custom_val",))
    records = DatasetCatalog.get("custom_train")
    folders = [record["file_name"].removeprefix(f"{tmp_path}/").split("/")[0] for record in records]
    assert folders == ["farm"] * len(dogs) + ["lab"] * 5
    # Classes of a names file, here of the validation set, come first.
    assert MetadataCatalog.get("custom_train").thing_classes == ["dog", "cat"]
    # The config of a run is read again on --resume.
    (tmp_path / "again.yaml").write_text(cfg.dump())
    assert load_config(str(tmp_path / "again.yaml"), []).DATASETS.TRAIN_PATH == cfg.DATASETS.TRAIN_PATH


def test_several_folders_are_split_as_one_set(tmp_path):
    paths = [write_voc(tmp_path / "farm"), write_csv(tmp_path / "lab")]
    register_config_datasets(make_cfg(TRAIN_PATH=paths, VAL_FRACTION=0.3))
    names = [{record["file_name"] for record in DatasetCatalog.get(f"custom_{part}")} for part in ("train", "val")]
    assert [len(part) for part in names] == [7, 3] and not names[0] & names[1]


def test_several_folders_in_two_places_keep_their_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_voc(tmp_path / "a/farm"), write_labelme(tmp_path / "b/lab")
    register_config_datasets(make_cfg(TRAIN_PATH=["a/farm", str(tmp_path / "b/lab")]))
    assert all(Path(record["file_name"]).is_file() for record in DatasetCatalog.get("custom_train"))


def test_image_in_two_of_the_paths_is_refused(tmp_path):
    root = write_voc(tmp_path / "set")
    with pytest.raises(SetupError, match=r"set and .*set both have the image .*a.png: name each folder once\."):
        register_config_datasets(make_cfg(TRAIN_PATH=[root, root]))


def test_register_boxes_registers_a_set_of_any_format(tmp_path):
    assert register_boxes("farm", write_voc(tmp_path / "voc")) == ["cat", "dog"]
    both = [write_yolo(tmp_path / "yolo"), write_labelme(tmp_path / "lm")]
    assert register_boxes("road", both, classes=["dog", "cat"]) == ["dog", "cat"]
    assert MetadataCatalog.get("road").thing_classes == ["dog", "cat"]
    assert (len(DatasetCatalog.get("farm")), len(DatasetCatalog.get("road"))) == (5, 10)
    with pytest.raises(SetupError, match="A data set 'farm' is registered already: give this one another name"):
        register_boxes("farm", tmp_path / "voc")
    with pytest.raises(SetupError, match="no does not exist: give the folder or file"):
        register_boxes("town", tmp_path / "no")
    root = write_labelme(tmp_path / "empty", [(name, size, []) for name, size, _ in SCENES])
    with pytest.raises(SetupError, match="has no box in any image"):
        register_boxes("town", root)


def test_changed_files_are_seen_by_a_later_call(tmp_path):
    root = write_yolo(tmp_path / "set")
    cfg = make_cfg(TRAIN_PATH=root)
    register_config_datasets(cfg, tmp_path / "run")
    assert len(DatasetCatalog.get("custom_train")[1]["annotations"]) == 1
    (root / "data.yaml").write_text("names: [dog, cat, cow]")
    (root / "labels/b.txt").write_text("2 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.25 0.25\n")
    register_config_datasets(cfg, tmp_path / "run")
    assert MetadataCatalog.get("custom_train").thing_classes == ["dog", "cat", "cow"]
    assert len(DatasetCatalog.get("custom_train")[1]["annotations"]) == 2


def test_missing_training_set_does_not_keep_from_evaluating(tmp_path, caplog):
    cfg = make_cfg(TRAIN_PATH=tmp_path / "not_here", VAL_PATH=write_yolo(tmp_path / "set"))
    register_config_datasets(cfg)
    fill_num_classes(cfg)
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 2 and len(registered_names("custom_val")) == 5
    with pytest.raises(SetupError, match="custom_train: .*/not_here does not exist: give the folder or file"):
        DatasetCatalog.get("custom_train")


def test_set_without_any_box_is_refused(tmp_path):
    root = write_labelme(tmp_path / "set", [(name, size, []) for name, size, _ in SCENES])
    with pytest.raises(SetupError, match=r"^.*/set has no box in any image: there is no class to learn\.$"):
        register_config_datasets(make_cfg(TRAIN_PATH=root))


def test_log_tells_what_was_left_out(tmp_path, caplog):
    root = write_yolo(tmp_path)
    (root / "labels/b.txt").unlink()
    with caplog.at_level(logging.INFO):
        register_config_datasets(make_cfg(TRAIN_PATH=root))
    assert f"custom_train: 5 images of {root}" in caplog.messages
    assert (
        f"custom_train: image without a label file taken as one without objects ({root}/images/b.png)"
        in caplog.messages
    )
    assert any(m.startswith("custom_train: 2 images without objects are left out of training") for m in caplog.messages)


REFUSED = [
    ({"FORMAT": "pascal"}, "DATASETS.FORMAT must be one of auto, coco, voc, yolo, labelme, csv, got 'pascal'."),
    ({"VAL_FRACTION": 20.0}, "DATASETS.VAL_FRACTION must be in [0, 1), got 20: 0.2 is a fifth."),
    ({"VAL_FRACTION": 0.2}, "DATASETS.VAL_FRACTION needs DATASETS.TRAIN_PATH, the set to split."),
    ({"TRAIN_PATH": "{set}", "VAL_PATH": "{set}", "VAL_FRACTION": 0.2},
     "DATASETS.VAL_FRACTION is 0.2, but DATASETS.VAL_PATH names a set to validate on: give one of them."),
    ({"TRAIN_PATH": "{set}", "TRAIN_JSON": "a.json"},
     "DATASETS.TRAIN_PATH and DATASETS.TRAIN_JSON are both set: give one of them."),
    ({"TRAIN_PATH": "{set}/no"},
     "DATASETS.TRAIN_PATH is {set}/no, which does not exist: give the folder or file of the boxes."),
    ({"TRAIN_PATH": "{set}", "CLASSES": ("a", "a")},
     "DATASETS.CLASSES must be different names, or a file of them, got ('a', 'a')."),
    ({"TRAIN_PATH": "{set}", "CLASSES": ("no.txt",)}, "no.txt does not exist."),
    ({"TRAIN_PATH": "{set}", "VAL_FRACTION": 0.2, "SPLIT_GROUP": "camera"},
     "The group of a split must be folder, column:NAME or regex:PATTERN, got 'camera'."),
    ({"TRAIN_PATH": ["{set}", "{set}/no"]},
     "DATASETS.TRAIN_PATH names {set}/no, which does not exist: give the folder or file of the boxes."),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "message"), REFUSED, ids=lambda value: str(value)[:60])
def test_declaration_is_refused(tmp_path, keys, message):
    write_yolo(tmp_path / "set")
    filled = json.loads(json.dumps(keys).replace("{set}", str(tmp_path / "set")))
    with pytest.raises(SetupError) as caught:
        register_config_datasets(make_cfg(**{**filled, **({"CLASSES": keys["CLASSES"]} if "CLASSES" in keys else {})}))
    assert str(caught.value) == message.replace("{set}", str(tmp_path / "set"))


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(SetupError, match=r"run/custom_train.json, the COCO form of .*, cannot be written: "):
        register_config_datasets(make_cfg(TRAIN_PATH=write_yolo(tmp_path / "set")), tmp_path / "run")


def test_config_of_an_earlier_run_is_read_and_own_sets_are_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("DATASETS: {OWN: [], TRAIN_PATH: '', VAL_PATH: cells}\n")
    cfg = load_config(str(tmp_path / "config.yaml"), [])
    assert (cfg.DATASETS.TRAIN_PATH, cfg.DATASETS.VAL_PATH) == ((), ("cells",))
    assert "OWN" not in cfg.DATASETS
    with pytest.raises(SetupError, match=r"DATASETS.OWN was removed: list the paths .*register_boxes\(name, path\)"):
        load_config(str(tmp_path / "config.yaml"), ["DATASETS.OWN", "[{'name': 'a', 'path': 'b'}]"])


def roboflow(folder: Path) -> tuple[Path, Path]:
    """The folder of a part of Roboflow's COCO, and its JSON file; its category 0 is the group of the others."""
    part = build("roboflow_coco", folder).path / "train"
    return part, part / "_annotations.coco.json"


@pytest.mark.parametrize("kind", ["PATH", "JSON"])
def test_supercategory_without_boxes_is_no_class(tmp_path, caplog, kind):
    part, file = roboflow(tmp_path)
    keys = {"TRAIN_PATH": part} if kind == "PATH" else {"TRAIN_JSON": file, "TRAIN_IMAGES": part}
    cfg = make_cfg(**keys)
    register_config_datasets(cfg, tmp_path / "run")
    fill_num_classes(cfg)
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 2
    assert MetadataCatalog.get("custom_train").thing_classes == ["dog", "cat"]
    assert sum("'pets' is the supercategory of all others" in message for message in caplog.messages) == 1
    cfg = make_cfg(**keys, CLASSES=["pets", "dog", "cat"])  # the classes of an earlier training
    register_config_datasets(cfg, tmp_path / "again")
    fill_num_classes(cfg)
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["annotations"][0].update(category_id=0),  # it has a box
        lambda data: data["categories"][1].update(supercategory="other"),  # it is not the group of all
        lambda data: [each.update(supercategory="") for each in data["categories"]],
    ],
)
def test_other_categories_0_are_classes(tmp_path, change):
    part, file = roboflow(tmp_path)
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))
    for keys in ({"TRAIN_PATH": part}, {"TRAIN_JSON": file, "TRAIN_IMAGES": part}):
        cfg = make_cfg(**keys)
        register_config_datasets(cfg, tmp_path / "run")
        fill_num_classes(cfg)
        assert cfg.MODEL.RETINANET.NUM_CLASSES == 3


@pytest.mark.parametrize("key", ["VAL_PATH", "VAL_JSON"])
@pytest.mark.parametrize("known", [["cat", "dog"], ["dog", "cat", "cow"]])
def test_evaluated_set_may_list_classes_without_boxes(tmp_path, caplog, key, known):
    part, file = roboflow(tmp_path)
    data = json.loads(file.read_text())
    data["categories"] = [{"id": i, "name": n} for i, n in enumerate(["pets", "dog", "cat", "bird"])]
    file.write_text(json.dumps(data))
    cfg = make_cfg(**{key: part if key == "VAL_PATH" else file, "VAL_IMAGES": part})
    register_config_datasets(cfg, tmp_path / "run", weights_classes=known)
    assert MetadataCatalog.get("custom_val").thing_classes == known
    said = [message for message in caplog.messages if "not evaluated" in message]
    assert len(said) == 1 and "the detector does not know it: pets, bird" in said[0]
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.RETINANET.NUM_CLASSES = "FocalRetinaNet", len(known)
    check_datasets(cfg, train=False)
    data["annotations"][0]["category_id"] = 3  # a box of a class that it cannot find
    file.write_text(json.dumps(data))
    register_config_datasets(cfg, tmp_path / "run2", weights_classes=known)
    with pytest.raises(SetupError, match="but custom_val has 4 classes"):
        check_datasets(cfg, train=False)


@pytest.mark.parametrize("key", ["TRAIN_PATH", "TRAIN_JSON"])
def test_remedy_for_a_class_without_boxes_works(tmp_path, key):
    part, file = roboflow(tmp_path)
    data = json.loads(file.read_text())
    data["categories"].append({"id": 3, "name": "bird", "supercategory": "pets"})
    file.write_text(json.dumps(data))
    keys = {key: part if key == "TRAIN_PATH" else file, "TRAIN_IMAGES": part}
    cfg = make_cfg(**keys)
    register_config_datasets(cfg, tmp_path / "run")
    fill_num_classes(cfg)
    said = "\n".join(check_datasets(cfg, train=True).warnings)
    assert "no box of" in said and "Annotate it, or list the others: DATASETS.CLASSES \"['dog', 'cat']\"." in said
    cfg = make_cfg(**keys, CLASSES=["dog", "cat"])
    register_config_datasets(cfg, tmp_path / "run2")
    fill_num_classes(cfg)
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 2
    assert "no box of" not in "\n".join(check_datasets(cfg, train=True).warnings)
