"""What the program's own commands wrote is no data: left out beside data, and refused by name."""

import json
import shutil
from pathlib import Path

import pytest
from export_tools import build

from retina_plugin.data.formats import read_boxes
from retina_plugin.data.formats.files import list_files
from retina_plugin.errors import SetupError
from retina_plugin.starting_config import choose_config

RESULTS = {
    "retina predict": ["predictions.json", "predictions.csv", "drawn/a.jpg"],
    "retina train": ["config.yaml", "config.1.yaml", "last_checkpoint", "run_record.json", "curves.png", "log.txt",
                     "datasets/custom_train.json", "inference/coco_instances_results.json"],
    "retina evaluate": ["evaluation.json", "eval_record.json", "ap.csv", "images.csv", "index.html"],
    "retina compare": ["comparison.json", "differences.csv", "index.html"],
}  # fmt: skip
COCO = {
    "info": {"description": "retina_plugin 1.0, retina predict"},
    "images": [{"id": 1, "file_name": "a.jpg", "width": 96, "height": 64}],
    "categories": [{"id": 0, "name": "dog"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 0, "bbox": [1, 1, 9, 9], "area": 81, "score": 0.5}],
}


def write_results(folder: Path, command: str, photo: Path) -> None:
    for name in RESULTS[command]:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.suffix in (".jpg", ".png"):
            shutil.copy(photo, place)
        elif place.suffix == ".json":
            place.write_text(json.dumps(COCO))
        elif place.suffix == ".yaml":
            place.write_text("MODEL: {}\n")
        else:
            place.write_text("file,frame,class,label,score,x1,y1,x2,y2\na.jpg,,0,dog,0.5,1,1,9,9\n")


@pytest.mark.parametrize("where", ["", "found", "runs/first"])
@pytest.mark.parametrize("command", RESULTS)
@pytest.mark.parametrize("name", ["labelimg_voc", "roboflow_coco", "ultralytics_images_train"])
def test_results_beside_data_are_left_out(tmp_path, name, command, where):
    export = build(name, tmp_path / "set")
    folder = export.path if export.path.is_dir() else export.path.parent
    before = read_boxes(folder)
    photos = list_files(folder, (".jpg",))
    write_results(folder / where, command, photos[0])
    assert list_files(folder, (".jpg", ".png")) == photos
    after = read_boxes(folder)
    assert after.images == before.images and after.class_names == before.class_names


@pytest.mark.parametrize("command", RESULTS)
def test_results_are_refused_by_name(tmp_path, command):
    photo = list_files(build("labelimg_voc", tmp_path / "set").path, (".jpg",))[0]
    folder = tmp_path / "results"
    write_results(folder, command, photo)
    names = ["", *(["predictions.json", "predictions.csv", "drawn"] if command == "retina predict" else [])]
    for name in names:
        for read in (read_boxes, choose_config):
            with pytest.raises(SetupError, match=f"is a result of `{command}`, not annotated data: name the folder"):
                read(folder / name)


def test_a_coco_set_that_is_called_predictions_is_data(tmp_path):
    export = build("labelstudio_coco", tmp_path / "set")
    (export.path / "result.json").rename(export.path / "predictions.json")
    assert read_boxes(export.path).class_counts.total() == sum(map(len, export.boxes.values()))


@pytest.mark.parametrize(
    ("tool", "inside", "beside"),
    [("labelstudio_yolo", "images", "labels"), ("labelstudio_voc", "images", "Annotations")],
)
def test_a_folder_of_images_beside_its_labels_names_the_folder_above(tmp_path, monkeypatch, tool, inside, beside):
    folder = build(tool, tmp_path / "my_set").path
    for given, above in ((folder / inside, folder), (Path("my_set") / inside, "my_set")):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SetupError) as error:
            choose_config(given)
        assert f"{beside} is beside it: name the folder above, {above}." in str(error.value)
    monkeypatch.chdir(folder / inside)
    with pytest.raises(SetupError, match=f"name the folder above, {folder}"):
        choose_config(".")
    shutil.rmtree(folder / beside)
    with pytest.raises(SetupError, match="no boxes. Draw the boxes first"):
        choose_config(folder / inside)
