"""COCO sets by path: the layouts of the tools that write them, and that nothing in them is changed."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.data.datasets.lvis import register_lvis_instances
from own_folders import CLASSES, SCENES, WRITERS, draw_images, write_coco, write_voc, write_yolo
from PIL import Image

from retina_cli.main import main
from retina_plugin.config.keys import get_retina_cfg
from retina_plugin.data.checks import check_datasets, check_sets
from retina_plugin.data.dataset_content import load_content
from retina_plugin.data.formats import read_boxes
from retina_plugin.data.register import SHIPPED_SETS, fill_num_classes, register_config_datasets
from retina_plugin.errors import SetupError
from retina_plugin.evaluation.evaluator import build_evaluator
from retina_plugin.prepare import prepare

pytest_plugins = ("tiny_sets",)
pytestmark = pytest.mark.usefixtures("clean_catalog")

CONFIGS = Path(__file__).parents[2] / "configs"
TRAIN, VAL, TEST = SCENES[:3], SCENES[3:4], SCENES[4:]
OF_PART = {"train": TRAIN, "val": VAL, "test": TEST}


def coco(scenes=SCENES, prefix: str = "", **fields) -> dict:
    """A file with what real ones have: ids that do not count from 1, masks, a crowd, fields of the tool's own."""
    annotations = []
    for image_id, (_, _, boxes) in enumerate(scenes):
        for x1, y1, x2, y2, k in boxes:
            width, height = x2 - x1, y2 - y1
            annotations.append({
                "id": 900 + 7 * len(annotations), "image_id": 701 + image_id, "category_id": 90 - CLASSES.index(k),
                "bbox": [x1, y1, width, height], "area": 0.4 * width * height, "iscrowd": int(len(annotations) == 3),
                "segmentation": [[x1, y1, x2, y1, x1, y2]], "attributes": {"occluded": False},
            })  # fmt: skip
    images = [
        {"license": 4, "file_name": prefix + n, "height": h, "width": w, "id": 701 + i, "date_captured": "2020"}
        for i, (n, (w, h), _) in enumerate(scenes)
    ]
    categories = [{"supercategory": "animal", "id": 90 - i, "name": name} for i, name in enumerate(CLASSES)]
    return {"info": {"year": 2020}, "licenses": [], "images": images, "annotations": annotations,
            "categories": categories, **fields}  # fmt: skip


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def lay_out(root: Path, images: dict[str, str], files: dict[str, str], prefix: str = "") -> Path:
    """Write pictures and JSON files: part -> folder, part -> file."""
    for part, folder in images.items():
        draw_images(root / folder, OF_PART[part])
        write(root / files[part], coco(OF_PART[part], prefix.format(part=part)))
    return root


def standard(pattern: str, names: dict[str, str], file: str) -> dict[str, dict[str, str]]:
    return {
        "images": {part: pattern.format(name) for part, name in names.items()},
        "files": {part: file.format(name) for part, name in names.items()},
    }


BOTH = {"train": "train", "val": "val"}
LAYOUTS = {
    "cocodataset": standard("{}2017", BOTH, "annotations/instances_{}2017.json"),
    "ultralytics": standard("images/{}2017", BOTH, "annotations/instances_{}2017.json"),
    "roboflow": standard("{}", {"train": "train", "val": "valid", "test": "test"}, "{}/_annotations.coco.json"),
    "roboflow_without_valid": standard("{}", {"train": "train", "test": "test"}, "{}/_annotations.coco.json"),
    "cvat_project": standard("images/{}", {"train": "Train", "val": "Validation"}, "annotations/instances_{}.json"),
    "datumaro": standard("images/{}", {**BOTH, "test": "test"}, "annotations/instances_{}.json"),
    "plain": standard("images", BOTH, "annotations/{}.json"),
    "mmdetection": standard("{}", BOTH, "annotations/{}.json"),
    "fiftyone": standard("{}/data", {"train": "train", "val": "validation"}, "{}/labels.json"),
    "kaggle": standard("{}", BOTH, "{}_annotations.json"),
    "balloon": standard("{}", BOTH, "{}/annotation_coco.json"),
    "names_with_folders": {**standard("images/{}", BOTH, "annotations/instances_{}.json"), "prefix": "images/{part}/"},
    "absolute_names": {**standard("images/{}", BOTH, "annotations/instances_{}.json"), "prefix": "/srv/{part}/"},
    "names_of_windows": {**standard("images/{}", BOTH, "annotations/{}.json"), "prefix": "C:\\data\\{part}\\"},
}  # fmt: skip


def names(found) -> list[str]:
    for image in found.images:
        assert Image.open(image.path).size == (image.width, image.height)
    return sorted(image.path.name for image in found.images)


def scene_names(scenes) -> list[str]:
    return [name for name, _, _ in scenes]


@pytest.mark.parametrize("kind", LAYOUTS)
def test_parts_of_a_layout_are_followed(tmp_path, kind):
    root = lay_out(tmp_path / "set", **LAYOUTS[kind])
    parts = LAYOUTS[kind]["files"]
    val = VAL if "val" in parts else TEST  # what is not trained on
    assert names(read_boxes(root, subset="train")) == scene_names(TRAIN)
    assert names(read_boxes(root, subset="val")) == scene_names(val)
    assert names(read_boxes(root)) == [name for part in parts for name in scene_names(OF_PART[part])]
    cfg = get_retina_cfg()
    cfg.DATASETS.TRAIN_PATH = cfg.DATASETS.VAL_PATH = str(root)
    register_config_datasets(cfg, tmp_path / "run")
    fill_num_classes(cfg)
    summary = check_datasets(cfg, train=True)
    assert {n: s.images for n, s in summary.sets.items()} == {"custom_train": len(TRAIN), "custom_val": len(val)}
    # By the file itself the images are found too.
    assert names(read_boxes(root / parts["train"])) == scene_names(TRAIN)


def test_test_part_that_stands_in_for_validation_is_said(tmp_path):
    root = lay_out(tmp_path, **LAYOUTS["roboflow_without_valid"])
    assert [r.what for r in read_boxes(root, subset="val").remarks] == [
        "no part is for validation: the test part is taken"
    ]


@pytest.mark.parametrize(
    ("file", "images", "prefix"),
    [
        ("annotations/instances_default.json", "images/default", ""),  # a task of CVAT
        ("annotations/instances_default.json", "images", ""),
        ("result.json", "images", "images\\"),  # Label Studio
        ("annotations.json", "JPEGImages", "JPEGImages/"),  # labelme2coco.py
        ("via_export_coco.json", ".", ""),
        ("labels.json", "data", ""),
        ("a/b/boxes.json", "a/pictures", ""),
    ],
)  # fmt: skip
def test_images_of_one_file_are_found(tmp_path, file, images, prefix):
    draw_images(tmp_path / images)
    write(tmp_path / file, coco(prefix=prefix))
    for path in (tmp_path, tmp_path / file):
        assert names(read_boxes(path)) == scene_names(SCENES)


@pytest.mark.parametrize("folder", ["images", "photos"])
def test_folder_with_most_images_counts_and_those_that_lack_are_named(tmp_path, folder):
    write(tmp_path / "boxes.json", coco())
    draw_images(tmp_path / folder, SCENES[1:])
    draw_images(tmp_path / "old", SCENES[:1])
    with pytest.raises(SetupError, match=rf"1 image cannot be used: .*{folder}/a.png is missing"):
        read_boxes(tmp_path)


def test_other_files_of_cocodataset_are_no_parts(tmp_path):
    root = lay_out(tmp_path, **LAYOUTS["cocodataset"])
    for kind in ("captions", "person_keypoints", "stuff"):
        write(root / f"annotations/{kind}_train2017.json", coco(TRAIN))
    write(root / "annotations/results.json", [])
    assert names(read_boxes(root, subset="train")) == scene_names(TRAIN)


def test_files_that_make_no_one_set_are_named(tmp_path):
    draw_images(tmp_path / "images")
    for name in ("first", "second"):
        write(tmp_path / f"{name}.json", coco())
    with pytest.raises(SetupError, match="one COCO JSON file, got first.json, second.json: name one in"):
        read_boxes(tmp_path)


def test_convert_changes_nothing(tmp_path):
    draw_images(tmp_path / "images")
    content = coco()
    write(tmp_path / "boxes.json", content)
    assert main(["convert", str(tmp_path / "boxes.json"), "--output", str(tmp_path / "out.json")]) == 0
    assert json.loads((tmp_path / "out.json").read_text()) == content


def test_split_keeps_the_records(tmp_path):
    draw_images(tmp_path / "images")
    content = coco()
    write(tmp_path / "boxes.json", content)
    words = ["convert", str(tmp_path / "boxes.json"), "--output", str(tmp_path / "o.json"), "--split", "0.4"]
    assert main(words) == 0
    parts = [json.loads((tmp_path / f"o_{part}.json").read_text()) for part in ("train", "val")]
    for kind in ("images", "annotations"):
        records = sorted((record for part in parts for record in part[kind]), key=lambda record: record["id"])
        assert records == content[kind] and all(part[kind] for part in parts)
    assert all(part["categories"] == content["categories"] and part["info"] == content["info"] for part in parts)


def register(tmp_path, **keys):
    cfg = get_retina_cfg()
    for key, value in keys.items():
        cfg.DATASETS[key] = str(value)
    register_config_datasets(cfg, tmp_path / "converted")
    return cfg


@pytest.mark.parametrize("scored", [True, False])
def test_path_and_json_give_the_same_set(tmp_path, scored):
    """Of boxes that training leaves out too: they are in both, so that an AP is the same."""
    draw_images(tmp_path / "images")
    content = coco()
    content["annotations"][0]["bbox"][2] = 0
    json_file = write(tmp_path / "boxes.json", content)
    prefix = "VAL" if scored else "TRAIN"
    registered = []
    for key in ("PATH", "JSON"):
        register(tmp_path, **{f"{prefix}_{key}": json_file, f"{prefix}_IMAGES": tmp_path / "images"})
        registered.append(load_content(f"custom_{prefix.lower()}", for_training=not scored, for_test=scored))
    by_path, by_json = registered
    assert by_path.boxes.tolist() == by_json.boxes.tolist() and len(by_path.boxes) == 5  # without the crowd
    for field in ("file_names", "image_ids", "annotation_ids", "class_names"):
        assert getattr(by_path, field) == getattr(by_json, field)
    assert json.loads((tmp_path / f"converted/custom_{prefix.lower()}.json").read_text()) == content


def test_join_keeps_ids_that_differ(tmp_path):
    contents = []
    for part, scenes in ((1, TRAIN), (2, VAL)):
        draw_images(tmp_path / f"{part}/images", scenes)
        contents.append(coco(scenes))
        for record in contents[-1]["images"]:
            record["id"] += 1000 * part
        for record in contents[-1]["annotations"]:
            record["image_id"] += 1000 * part
            record["id"] += 1000 * part
        write(tmp_path / f"{part}/boxes.json", contents[-1])
    cfg = get_retina_cfg()
    cfg.DATASETS.TRAIN_PATH = [str(tmp_path / part) for part in "12"]
    register_config_datasets(cfg, tmp_path / "converted")
    joined = json.loads((tmp_path / "converted/custom_train.json").read_text())
    assert joined["annotations"] == contents[0]["annotations"] + contents[1]["annotations"]
    assert [image["id"] for image in joined["images"]] == [1701, 1702, 1703, 2701]
    assert joined["categories"] == contents[0]["categories"]


def test_ids_that_occur_twice_are_counted_anew_in_a_join(tmp_path):
    for part, scenes in (("a", TRAIN), ("b", VAL)):
        draw_images(tmp_path / part / "images", scenes)
        write(tmp_path / part / "boxes.json", coco(scenes))
    write_voc(tmp_path / "voc", TEST)
    cfg = get_retina_cfg()
    cfg.DATASETS.TRAIN_PATH = [str(tmp_path / part) for part in ("a", "b", "voc")]
    register_config_datasets(cfg, tmp_path / "converted")
    joined = json.loads((tmp_path / "converted/custom_train.json").read_text())
    assert sorted(image["id"] for image in joined["images"]) == [1, 2, 3, 4, 5]
    by_id = {image["id"]: image for image in joined["images"]}
    content = load_content("custom_train", for_training=True, for_test=False)
    assert len(content.boxes) == 5 and content.findings == []  # and a crowd
    for annotation in joined["annotations"]:
        assert annotation["bbox"][0] + annotation["bbox"][2] <= by_id[annotation["image_id"]]["width"]


def test_annotation_id_0_is_counted_anew(tmp_path):
    """pycocotools never counts the annotation with id 0 as found; Roboflow's and Label Studio's begin there."""
    write_coco(tmp_path)
    content = json.loads((tmp_path / "boxes.json").read_text())
    for annotation in content["annotations"]:
        annotation["id"] -= 1
    write(tmp_path / "boxes.json", content)
    found = read_boxes(tmp_path).to_coco(list(CLASSES))
    assert [a["id"] for a in found["annotations"]] == list(range(1, 7))
    assert found["images"] == content["images"]  # image ids from 0 on stay


@pytest.mark.parametrize(
    ("own", "wanted", "ids"),
    [
        ({"dog": 18}, ["cat", "dog"], [1, 18]),
        ({"dog": 1}, ["cat", "dog", "cow"], [0, 1, 2]),
        ({"dog": 5, "cow": 7}, ["dog", "cat", "cow"], [5, 6, 7]),
        ({"dog": 5, "cow": 6}, ["dog", "cat", "cow"], [1, 2, 3]),
        ({"dog": 2, "cat": 1}, ["dog", "cat"], [1, 2]),
    ],
)  # fmt: skip
def test_category_ids_stay_where_the_order_of_the_classes_allows(tmp_path, own, wanted, ids):
    draw_images(tmp_path / "images", TRAIN[2:])
    content = coco(TRAIN[2:], categories=[{"id": i, "name": n, "supercategory": "x"} for n, i in own.items()])
    content["annotations"][0]["category_id"] = own["dog"]
    write(tmp_path / "boxes.json", content)
    found = read_boxes(tmp_path, classes=wanted).to_coco(wanted)
    assert [(c["name"], c["id"]) for c in found["categories"]] == list(zip(wanted, ids, strict=True))
    assert [a["category_id"] for a in found["annotations"]] == [ids[wanted.index("dog")]]


@pytest.mark.parametrize("way", ["same", "relative", "link", "in_the_folder", "forced"])
def test_convert_never_writes_over_what_it_reads(tmp_path, capsys, monkeypatch, way):
    monkeypatch.chdir(tmp_path)
    root = write_coco(tmp_path / "set")
    file, source, target = root / "boxes.json", str(root / "boxes.json"), str(root / "boxes.json")
    before = file.read_bytes()
    if way == "relative":
        target = "set/../set/boxes.json"
    elif way == "link":
        (tmp_path / "link.json").symlink_to(file)
        target = "link.json"
    elif way == "in_the_folder":
        source = str(root)
    words = ["convert", source, "--images", str(root / "images"), "--output", target]
    assert main([*words, "--force"] if way == "forced" else words) == 2
    assert (
        file.read_bytes() == before
        and "would overwrite what is read, or part of it: give another name" in capsys.readouterr().err
    )


def test_convert_replaces_only_what_is_coco_json(tmp_path, capsys):
    root = write_coco(tmp_path / "set")
    target = tmp_path / "out.json"
    words = ["convert", str(root), "--output", str(target)]
    for _ in range(2):
        assert main(words) == 0
    target.write_text('{"keys": "of another program"}')
    assert main(words) == 2 and "Add --force" in capsys.readouterr().err
    assert target.read_text() == '{"keys": "of another program"}'
    assert main([*words, "--force"]) == 0 and json.loads(target.read_text())["images"]


# The sets that a shipped config names


def test_shipped_sets_are_those_of_the_configs():
    nodes = [(yaml.safe_load(file.read_text()) or {}).get("DATASETS", {}) for file in CONFIGS.rglob("*.yaml")]
    named = {name for node in nodes for key in ("TRAIN", "TEST") for name in node.get(key, ())}
    assert named == set(SHIPPED_SETS)


def checked(opts: dict, **options):
    """A training's or an evaluation's preparation, with the base config of COCO."""
    words = [word for key, value in opts.items() for word in (key, str(value))]
    return prepare(str(CONFIGS / "retina_R18_FPN_scratch.yaml"), words, use="run", **options)


@pytest.mark.parametrize("by", ["PATH", "JSON"])
def test_own_training_set_alone_trains_and_says_so_once(tmp_path, caplog, by):
    root = write_coco(tmp_path / "set")
    opts = {
        "MODEL.RETINANET.NUM_CLASSES": 0,
        "MODEL.WEIGHTS": "",
        "TEST.EVAL_PERIOD": 5,
        "OUTPUT_DIR": tmp_path / "run",
    }
    opts |= {f"DATASETS.TRAIN_{by}": root / "boxes.json", "DATASETS.TRAIN_IMAGES": root / "images"}
    prepared = checked(opts)
    assert prepared.cfg.DATASETS.TEST == () and prepared.cfg.MODEL.RETINANET.NUM_CLASSES == 2
    said = [
        message
        for message in (*caplog.messages, *prepared.warnings)
        if "nothing to validate" in message or "TEST" in message
    ]
    assert len(said) == 1 and "DATASETS.VAL_FRACTION 0.2" in said[0]
    assert "coco_2017" not in caplog.text


@pytest.mark.parametrize("by", ["PATH", "JSON"])
def test_own_test_set_alone_counts_its_classes(tmp_path, by):
    root = write_coco(tmp_path / "set")
    opts = {"MODEL.RETINANET.NUM_CLASSES": 0, "MODEL.WEIGHTS": "", "OUTPUT_DIR": tmp_path / "run"}
    opts |= {f"DATASETS.VAL_{by}": root / "boxes.json", "DATASETS.VAL_IMAGES": root / "images"}
    prepared = checked(opts, split="test")
    assert prepared.cfg.DATASETS.TRAIN == () and prepared.cfg.MODEL.RETINANET.NUM_CLASSES == 2
    assert list(prepared.data.sets) == ["custom_val"]


def test_set_of_the_users_own_registration_stays(tmp_path):
    root = write_coco(tmp_path / "set")
    register_coco_instances("mine", {}, str(root / "boxes.json"), str(root / "images"))
    cfg = get_retina_cfg()
    cfg.DATASETS.TRAIN_PATH, cfg.DATASETS.TEST = str(root), ("mine",)
    register_config_datasets(cfg, tmp_path / "run")
    assert cfg.DATASETS.TEST == ("mine",)


def test_shipped_set_does_not_stay_beside_one_that_the_user_has_registered(tmp_path):
    root = write_coco(tmp_path / "set")
    register_coco_instances("mine", {}, str(root / "boxes.json"), str(root / "images"))
    cfg = get_retina_cfg()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("mine",), ("coco_2017_val",)
    register_config_datasets(cfg, tmp_path / "run")
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("mine",), ())


# Classes of a detector that is evaluated


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("by", ["PATH", "JSON"])
def test_test_set_with_some_of_the_classes_gets_those_of_the_weights(tmp_path, by, num_classes):
    root = write_coco(tmp_path / "set")
    torch.save({"model": {"a": torch.zeros(1)}, "manifest": {"classes": ["cow", "cat", "dog"]}}, tmp_path / "model.pth")
    opts = {"MODEL.RETINANET.NUM_CLASSES": num_classes, "MODEL.WEIGHTS": tmp_path / "model.pth"}
    opts |= {f"DATASETS.VAL_{by}": root / "boxes.json", "DATASETS.VAL_IMAGES": root / "images"}
    prepared = checked(opts | {"OUTPUT_DIR": tmp_path / "run"}, split="test")
    assert prepared.cfg.MODEL.RETINANET.NUM_CLASSES == 3
    assert prepared.data.sets["custom_val"].class_names == ("cow", "cat", "dog")
    content = load_content("custom_val", for_training=False, for_test=True)
    assert content.class_counts == {1: 2, 2: 4}


def test_classes_that_the_weights_lack_are_refused_by_name(tmp_path):
    root = write_coco(tmp_path / "set")
    torch.save({"model": {"a": torch.zeros(1)}, "manifest": {"classes": ["cat"]}}, tmp_path / "model.pth")
    opts = {"MODEL.RETINANET.NUM_CLASSES": 1, "MODEL.WEIGHTS": tmp_path / "model.pth", "DATASETS.VAL_PATH": root}
    with pytest.raises(SetupError, match=r"custom_val has 2 classes \(dog, cat\). The detector cannot find") as error:
        checked(opts | {"OUTPUT_DIR": tmp_path / "run"}, split="test")
    assert "or 0" not in str(error.value)


def test_sets_of_other_classes_are_told_the_list_that_helps(tmp_path):
    for part, scenes in (("train", SCENES), ("val", SCENES[1:2])):
        root = write_coco(tmp_path / part, scenes)
        content = json.loads((root / "boxes.json").read_text())
        if part == "val":
            content["categories"] = content["categories"][1:]
            write(root / "boxes.json", content)
    opts = {"MODEL.RETINANET.NUM_CLASSES": 0, "MODEL.WEIGHTS": "", "OUTPUT_DIR": tmp_path / "run"}
    for key in ("TRAIN", "VAL"):
        root = tmp_path / key.lower()
        opts |= {f"DATASETS.{key}_JSON": root / "boxes.json", f"DATASETS.{key}_IMAGES": root / "images"}
    with pytest.raises(SetupError, match="only in custom_train: dog. Give both the same list") as error:
        checked(opts)
    classes = str(error.value).split('CLASSES "')[1].removesuffix('".')
    assert checked(opts | {"DATASETS.CLASSES": classes}).cfg.MODEL.RETINANET.NUM_CLASSES == 2


def test_classes_of_the_weights_do_not_rename_those_of_a_yolo_set(tmp_path):
    """A list in DATASETS.CLASSES would: there a class is a number."""
    root = write_yolo(tmp_path / "set")
    torch.save({"model": {"a": torch.zeros(1)}, "manifest": {"classes": ["cat", "dog"]}}, tmp_path / "model.pth")
    opts = {"MODEL.RETINANET.NUM_CLASSES": 2, "MODEL.WEIGHTS": tmp_path / "model.pth", "DATASETS.VAL_PATH": root}
    checked(opts | {"OUTPUT_DIR": tmp_path / "run"}, split="test")
    content = load_content("custom_val", for_training=False, for_test=True)
    assert content.class_names == ["cat", "dog"] and content.class_counts == {0: 2, 1: 4}


# What is likely not meant


def boxes_file(tmp_path, change) -> Path:
    """The folder of a COCO set whose content ``change`` has changed."""
    root = write_coco(tmp_path / "set")
    content = json.loads((root / "boxes.json").read_text())
    change(content)
    write(root / "boxes.json", content)
    return root


def findings(tmp_path, root: Path, key: str) -> list[str]:
    cfg = register(tmp_path, **{f"TRAIN_{key}": root / "boxes.json", "TRAIN_IMAGES": root / "images"})
    fill_num_classes(cfg)
    return [f"{each.what} {each.remedy}" for each in check_sets(cfg, {}, train=True, open_images=True)]


@pytest.mark.parametrize("key", ["PATH", "JSON"])
def test_file_under_two_image_ids_is_said(tmp_path, key):
    root = boxes_file(tmp_path, lambda content: content["images"].append({**content["images"][0], "id": 99}))
    said = findings(tmp_path, root, key)
    assert sum("1 of 6 images are the same file as another" in each and "such as a.png" in each for each in said) == 1


def test_ids_of_text_and_numbers_are_told_apart(tmp_path):
    root = boxes_file(tmp_path, lambda content: [a.update(image_id=str(a["image_id"])) for a in content["annotations"]])
    with pytest.raises(SetupError, match="image_id is text and an image's id a number: write both alike"):
        read_boxes(root)


def test_image_ids_of_text_stay(tmp_path):
    def change(content):
        for image in content["images"]:
            image["id"] = f"image {image['id']}"
        for annotation in content["annotations"]:
            annotation["image_id"] = f"image {annotation['image_id']}"

    root = boxes_file(tmp_path, change)
    register(tmp_path, VAL_PATH=root)
    assert load_content("custom_val", for_training=False, for_test=True).image_ids == [f"image {i}" for i in range(5)]


def test_unused_category_with_the_name_of_another_is_left_out(tmp_path):
    """As Roboflow writes a project of one class."""
    twin = {"id": 0, "name": "dog", "supercategory": "none"}
    root = boxes_file(tmp_path, lambda content: content["categories"].insert(0, twin))
    assert read_boxes(root).class_names == list(CLASSES)
    with pytest.raises(SetupError, match="the name 'dog': make it unique, or give the file by DATASETS.TRAIN_PATH"):
        register(tmp_path, TRAIN_JSON=root / "boxes.json", TRAIN_IMAGES=root / "images")
        load_content("custom_train", for_training=True, for_test=False)


@pytest.mark.parametrize("segmentation", [[[]], [[1, 2, 3, 4]], [1, 2, 3, 4, 5, 6], "none", {"counts": [1]}])
def test_box_with_an_unusable_segmentation_is_trained_on(tmp_path, segmentation):
    """Detectron2 would leave it out without a word, or stop with a traceback."""
    root = boxes_file(tmp_path, lambda content: content["annotations"][0].update(segmentation=segmentation))
    register(tmp_path, TRAIN_PATH=root)
    assert len(DatasetCatalog.get("custom_train")[0]["annotations"]) == 2
    said = findings(tmp_path, root, "JSON")
    assert any("does not train on them" in each for each in said)


def test_missing_image_is_a_finding_by_each_key(tmp_path):
    root = boxes_file(tmp_path, lambda content: None)
    (root / "images/b.png").unlink()
    said = [[each for each in findings(tmp_path, root, key) if "b.png is missing" in each] for key in ("PATH", "JSON")]
    assert said[0] == said[1] and "Put the files there" in said[0][0]


@pytest.mark.parametrize("kind", ["voc", "yolo", "csv", "coco"])
def test_doctor_examines_all_else_where_a_set_cannot_be_read(tmp_path, capsys, kind):
    root = WRITERS[kind](tmp_path / "set")
    next(root.rglob("b.png")).write_bytes(b"")
    words = ["--no-fit", "--no-cache", "DATASETS.TRAIN_PATH", str(root), "DATASETS.VAL_FRACTION", "0.2"]
    words += ["MODEL.RETINANET.NUM_CLASSES", "0", "SOLVER.BASE_LR", "-1"]
    assert main(["doctor", "--config-file", str(CONFIGS / "retina_R18_FPN_scratch.yaml"), *words]) == 1
    said = capsys.readouterr().out
    assert "b.png is empty" in said and "SOLVER.BASE_LR" in said


def test_set_of_lvis_without_its_package_names_the_remedy(tmp_path, monkeypatch):
    root = boxes_file(tmp_path, lambda content: None)
    monkeypatch.setitem(sys.modules, "lvis", None)  # an import of it fails
    register_lvis_instances("lvis_of_mine", {}, str(root / "boxes.json"), str(root / "images"))
    with pytest.raises(SetupError, match="No module named 'lvis'|import of lvis") as error:
        load_content("lvis_of_mine", for_training=True, for_test=False)
    assert str(error.value).endswith("Install it: pip install lvis")
    with pytest.raises(SetupError, match="Install it: pip install lvis"):
        build_evaluator(get_retina_cfg(), "lvis_of_mine", str(tmp_path))
