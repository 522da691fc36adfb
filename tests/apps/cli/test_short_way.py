"""The short way: a folder alone is enough for doctor, train, evaluate and predict, and a run's folder for weights."""

import argparse
import shutil
from pathlib import Path

import pytest
import torch
from export_tools import CLASSES, build

from retina_cli import leading_path
from retina_cli.main import main
from retina_cli.train import choose_for_folder
from retina_plugin import starting_config
from retina_plugin.config.load import config_difference, load_config
from retina_plugin.config.shipped import find_config
from retina_plugin.errors import SetupError
from retina_plugin.prepare import prepare
from retina_plugin.starting_config import choose_config

SHORT = ["SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "0", "DATALOADER.NUM_WORKERS", "0"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build("labelimg_voc", Path("pets"))
    return "pets"


def test_from_a_folder_to_detections_elsewhere_in_three_commands(folder, tmp_path, monkeypatch, capsys):
    assert main(["train", folder, *SHORT]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    kept = Path("output/pets/chosen.yaml").read_text()
    assert kept in said and "TRAIN_PATH: pets" in kept and "# " in kept
    assert main(["train", "--resume", folder, *SHORT]) == 0  # the same words with --resume go on with that config
    assert main(["evaluate", "output/pets", "--pictures", "0"]) == 0, capsys.readouterr().err
    # Another machine: the run alone, without the folder it was trained on.
    photos = tmp_path / "there" / "photos"
    build("labelimg_voc", tmp_path / "again")
    photos.mkdir(parents=True)
    for image in (tmp_path / "again").rglob("*.jpg"):
        shutil.copy(image, photos / image.name)
    shutil.move("output/pets", tmp_path / "there" / "model")
    shutil.rmtree(tmp_path / "pets")
    monkeypatch.chdir(tmp_path / "there")
    assert main(["predict", "model", "photos", "--score", "0", "--no-draw"]) == 0, capsys.readouterr().err
    names = Path("predictions/predictions.csv").read_text()
    assert any(name in names for name in CLASSES)


@pytest.mark.parametrize("key", ["VAL_JSON", "VAL_PATH"])
def test_set_of_other_classes_is_not_scored(folder, key, capsys):
    assert main(["train", folder, *SHORT]) == 0
    build("cvat_coco", Path("others"))
    (path,) = Path("others").rglob("*.json")
    text = path.read_text().replace('"dog"', '"horse"').replace('"cat"', '"cow"')
    path.write_text(text)
    images = next(Path("others").rglob("*.jpg")).parent
    words = [f"DATASETS.{key}", str(path), "DATASETS.VAL_IMAGES", str(images)]
    assert main(["evaluate", "output/pets", *words]) == 2
    assert "has other classes than the data: class 0 is 'cat' in the checkpoint and 'horse'" in capsys.readouterr().err


def test_doctor_examines_a_folder(folder, capsys):
    assert main(["doctor", folder, "--no-images", "--no-fit", "--no-cache", "--jobs", "1"]) in (0, 1)
    assert "retina_R18_FPN_scratch.yaml" in capsys.readouterr().out


def test_evaluate_takes_another_folder(folder, capsys):
    assert main(["evaluate", "none.pth", folder]) == 2
    assert "none.pth does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train"], "give a folder of images with boxes, or --config-file"),
        (["train", "nowhere"], "nowhere does not exist: give a folder"),
        (["doctor"], "give a folder of images with boxes"),
        (["train", "photos"], "photos has 1 image and no boxes. Draw the boxes first"),
        (["train", "--config-file", "configs/retina_R50_FPN.yaml", "SEED"], "must be KEY VALUE pairs, got 1 words"),
    ],
)
def test_words_that_name_no_set_are_refused(folder, words, said, capsys):
    Path("photos").mkdir()
    shutil.copy(next(Path(folder).rglob("*.jpg")), "photos/a.png")
    assert main(words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folder", "output"),
    [("pets", "pets"), ("pets/", "pets"), ("my pets.v1i", "my pets.v1i"), ("a/data.yaml", "a")],
)
def test_output_has_the_name_of_the_folder(tmp_path, monkeypatch, folder, output):
    monkeypatch.chdir(tmp_path)
    place = Path(folder)
    (place if place.suffix != ".yaml" else place.parent).mkdir()
    if place.suffix == ".yaml":
        place.write_text("")
    monkeypatch.setattr(starting_config, "choose_config", lambda *_: starting_config.StartingConfig("a.yaml", {}, {}))
    args = argparse.Namespace(opts=[folder], config_file="")
    choose_for_folder(args)
    assert args.opts == ["OUTPUT_DIR", f"output/{output}"] and args.config_file == "a.yaml"


def test_leading_path_is_the_first_of_an_odd_number_of_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert leading_path(["SEED", "1"]) == ("", ["SEED", "1"])
    assert leading_path(["data", "SEED", "1"]) == ("data", ["SEED", "1"])
    assert leading_path(["SEED", "1", "VERSION"]) == ("", ["SEED", "1", "VERSION"])
    Path("SETS").mkdir()
    assert leading_path(["SETS", "SEED", "1"]) == ("SETS", ["SEED", "1"])


def test_chosen_yaml_sets_what_the_choice_says(folder, tmp_path):
    chosen = choose_config(folder)
    (tmp_path / "my.yaml").write_text(chosen.as_yaml())
    by_file, by_words = load_config(tmp_path / "my.yaml"), load_config(find_config(chosen.base), chosen.opts)
    assert config_difference(by_file, by_words) == {}
    assert by_file.MODEL.RETINANET.NUM_CLASSES == 0 and by_file.DATASETS.VAL_FRACTION == 0.2


def test_own_split_of_the_folder_is_kept(tmp_path):
    build("roboflow_yolo", tmp_path / "set")
    chosen = choose_config(tmp_path / "set")
    assert chosen.values["DATASETS.VAL_PATH"] == chosen.values["DATASETS.TRAIN_PATH"]
    assert "DATASETS.VAL_FRACTION" not in chosen.values


def test_validation_of_the_command_line_is_not_chosen_too(folder, tmp_path):
    build("labelimg_voc", tmp_path / "val")
    opts = ["DATASETS.VAL_PATH", str(tmp_path / "val")]
    chosen = choose_config(folder, opts)
    assert "DATASETS.VAL_FRACTION" not in chosen.values
    cfg = prepare(find_config(chosen.base), [*chosen.opts, *opts], use="model").cfg
    assert cfg.DATASETS.TEST == ("custom_val",)


def test_folder_without_a_box_is_refused(tmp_path):
    build("labelimg_yolo_two_folders", tmp_path / "set")
    for file in (tmp_path / "set").rglob("*.txt"):
        if file.stem not in ("classes", "predefined_classes"):
            file.write_text("")
    with pytest.raises(SetupError, match="set has no box in any image to train on"):
        choose_config(tmp_path / "set")


def test_gpu_with_imagenet_weights_takes_the_papers_detector(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(starting_config, "get_cache_dir", lambda: str(tmp_path))
    assert choose_config(folder).base == starting_config.SMALL
    weights = tmp_path / "detectron2/ImageNetPretrained/MSRA/R-50.pkl"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"")
    chosen = choose_config(folder)
    assert chosen.base == starting_config.PRETRAINED
    cfg = load_config(find_config(chosen.base), chosen.opts)
    assert cfg.SOLVER.BASE_LR == pytest.approx(0.005) and max(cfg.SOLVER.STEPS) < cfg.SOLVER.MAX_ITER


def test_image_size_keeps_small_objects_visible(tmp_path):
    from PIL import Image

    (tmp_path / "images").mkdir()
    for name, box in (("a", 24), ("b", 24)):
        Image.new("RGB", (1200, 900)).save(tmp_path / "images" / f"{name}.jpg")
        (tmp_path / "images" / f"{name}.txt").write_text(f"0 0.5 0.5 {box / 1200} {box / 900}\n")
    (tmp_path / "images" / "classes.txt").write_text("bird\n")
    values = choose_config(tmp_path / "images").values
    # 24 px of 900 take 600 px to keep 16; a CPU takes 512 at most.
    assert values["INPUT.MIN_SIZE_TEST"] == 512 and values["INPUT.MAX_SIZE_TEST"] >= 512 * 4 / 3
