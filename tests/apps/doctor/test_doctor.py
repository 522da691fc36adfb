"""``retina doctor``: every finding provoked, none on a good set, exit status, JSON, and its page of documentation."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

import retina_plugin
from benchmarks.memory import peak_bytes
from retina_cli.main import main
from retina_plugin.apps.analysis.anchor_layout import build_detector
from retina_plugin.apps.doctor.environment import Devices, Packages, find_device_faults, find_package_faults
from retina_plugin.apps.doctor.memory import estimate_memory, largest_input
from retina_plugin.config.load import load_config
from retina_plugin.data.class_names import config_class_names
from retina_plugin.data.register import register_config_datasets
from retina_plugin.errors import EXIT_SETUP, SetupError
from retina_plugin.findings_catalog import CATALOG, catalog_table
from retina_plugin.training.trainer import RetinaTrainer
from retina_plugin.weights.checkpointer import build_checkpointer
from retina_plugin.weights.manifest import build_manifest

pytest_plugins = ("tiny_sets", "doctor_sets")

ROOT = Path(retina_plugin.__file__).parent.parent
NAN = float("nan")


def test_a_good_set_gets_no_word(good_set, examine):
    status, found, content, said = examine(good_set())
    assert (status, found) == (0, [])
    assert content["training_makes_sense"] and content["counts"]["error"] == 0
    assert content["data"]["custom_train"]["boxes_by_class"] == {"cat": 20, "dog": 20}
    assert content["schedule"] == {"iterations": 20, "images_per_batch": 2, "epochs": 10.0}
    assert content["anchors"]["boxes"] == 40 and content["memory"]["images"] == 2
    assert "Training works and makes sense" in said.out and "cat       20 ####" in said.out


def edit(split, path, value):
    """A change of one value in the training (0) or test (1) set."""

    def change(*contents):
        *keys, last = path
        node = contents[split]
        for key in keys:
            node = node[key]
        node[last] = value

    return change


def both(key, value):
    def change(train, val):
        train[key] = val[key] = value

    return change


DATA = [
    ("box-not-finite", 1, edit(0, ("annotations", 1, "bbox"), [1, NAN, 5, 5]), "[1, nan, 5, 5]"),
    ("box-inverted", 1, edit(0, ("annotations", 1, "bbox"), [50, 50, -20, 5]), "(the first: [50, 50, -20, 5]"),
    ("box-empty", 0, edit(0, ("annotations", 1, "bbox"), [9, 9, 0, 20]), "annotation id 1002"),
    ("box-empty", 1, lambda t, v: [a.update(bbox=[9, 9, 0, 20]) for a in t["annotations"][:5]], "5 of 40 boxes"),
    ("box-outside", 1, edit(1, ("annotations", 1, "bbox"), [200, 9, 10, 20]), "val: 1 of 8 boxes (the first"),
    ("box-sticks-out", 0, edit(0, ("annotations", 1, "bbox"), [80, 9, 20, 20]), "will be clipped"),
    ("box-tiny", 0, edit(0, ("annotations", 1, "bbox"), [9, 9, 3, 20]), "3.8 px"),
    ("box-twice", 0, edit(0, ("annotations", 2, "bbox"), [0, 0, 16, 20]), "1 of 40 boxes repeat"),
    ("box-two-classes", 0, edit(0, ("annotations", 1, "bbox"), [0, 0, 16, 20]), "box of another class"),
    ("record-unusable", 1, edit(0, ("annotations", 1, "bbox"), [1, 2]), "must have bbox [x, y, width, height]"),
    ("record-unusable", 1, edit(0, ("annotations", 1, "category_id"), 9), "category_id 9"),
    ("record-doubtful", 0, edit(0, ("annotations", 1, "image_id"), 77), "belong to no image"),
    ("classes-differ", 1, both("categories", [{"id": i, "name": str(i)} for i in (1, 2, 3)]), "NUM_CLASSES 3"),
    ("no-boxes", 1, edit(0, ("annotations",), []), "nothing to learn from"),
    ("data-unusable", 1, edit(0, ("images",), []), "needs a list of images"),
    ("image-without-boxes", 0, lambda t, v: [a.update(image_id=1) for a in t["annotations"][10:20]], "1 of 4 images"),
    ("image-unreadable", 1, edit(0, ("images", 1, "width"), 97), "is 96x64, but on record 97x64"),
    ("image-unreadable", 1, edit(0, ("images", 1, "file_name"), "no.png"), "no.png, image id 2, is missing"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "status", "change", "text"), DATA, ids=[f"{c}-{i}" for i, (c, *_) in enumerate(DATA)]
)
def test_data_provoke_a_finding(good_set, examine, check, status, change, text):
    found_status, found, _, said = examine(good_set(change))
    named = [f for f in found if f["check"] == check]
    assert named, [f["check"] for f in found]
    assert found_status == status and text in said.out
    assert (named[0]["severity"] == "error") == (status == 1)
    assert f"[{check}]" in said.out and named[0]["where"].startswith("custom_")


NO_TEST = ["DATASETS.VAL_JSON", "", "DATASETS.VAL_IMAGES", "", "DATASETS.TEST", "()"]
CONFIG = [
    ("config-value", 1, ["SOLVER.BASE_LR", "-1"], "SOLVER.BASE_LR must be in (0, inf), got -1.0"),
    ("config-value", 1, ["MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.RETINANET.CLS_LOSS_NAME", "OHEMLoss"],
     "is Detectron2's RetinaNet, which does not read it"),
    ("lr-high", 0, ["SOLVER.BASE_LR", "0.1"], "Set SOLVER.BASE_LR 0.00125"),
    ("lr-low", 0, ["SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", "1e-6"], "is low for IMS_PER_BATCH 2"),
    ("warmup-beyond-end", 0, ["SOLVER.WARMUP_ITERS", "21"], "BASE_LR is never reached"),
    ("warmup-long", 0, ["SOLVER.WARMUP_ITERS", "12"], "is over half of SOLVER.MAX_ITER 20"),
    ("steps-beyond-end", 0, ["SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR", "SOLVER.STEPS", "(30,)"], "never happen"),
    ("schedule-short", 0, ["SOLVER.MAX_ITER", "1", "SOLVER.WARMUP_ITERS", "0"], "shows 0.50 of the training images"),
    ("schedule-long", 0, ["SOLVER.MAX_ITER", "900"], "shows each training image 450 times"),
    ("evaluated-at-end", 0, ["TEST.EVAL_PERIOD", "0"], "scored at its end only"),
    ("no-positive-label", 0, ["MODEL.RETINANET.IOU_LABELS", "[0, -1, -1]"], "has no 1"),
    ("frozen-bn-from-scratch", 0, ["MODEL.RESNETS.NORM", "FrozenBN"], "diverges"),
    ("anchor-twice", 0, ["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[1.0, 1.0]]"], "stand there twice"),
    ("anchor-sizes-flat", 0, ["MODEL.ANCHOR_GENERATOR.NAME", "DefaultAnchorGenerator",
                              "MODEL.ANCHOR_GENERATOR.SIZES", "[32, 64]"], "one flat list"),
    ("other-head-key", 0, ["MODEL.ROI_HEADS.NUM_CLASSES", "7"], "has no effect on RetinaNet"),
    ("test-size-apart", 0, ["INPUT.MIN_SIZE_TEST", "160", "INPUT.MAX_SIZE_TEST", "500"], "scales test images by 2.50"),
    ("images-enlarged", 0, ["INPUT.MIN_SIZE_TRAIN", "(140,)", "INPUT.MIN_SIZE_TEST", "140", "INPUT.MAX_SIZE_TRAIN",
                            "300", "INPUT.MAX_SIZE_TEST", "300"], "2.2 times"),
    ("detections-few", 0, ["TEST.DETECTIONS_PER_IMAGE", "3"], "2 of 2 images have more boxes (up to 4)"),
    ("memory", 1, ["SOLVER.IMS_PER_BATCH", "2000000"], "A training step with 2000000 images"),
    ("weights-unusable", 1, ["MODEL.WEIGHTS", "absent.pth"], "absent.pth is not a file"),
    ("weights-remote", 0, ["MODEL.WEIGHTS", "https://example.org/a.pth"], "which was not fetched"),
    ("boxes-unreached", 0, ["MODEL.ANCHOR_GENERATOR.BASE_SIZE", "64"], "overlap every anchor by less than"),
    ("class-without-boxes", 0, NO_TEST, "no box of 1 class"),
    ("class-rare", 0, [], "1 classes have fewer than 10 boxes: dog (1)"),
    ("nothing-evaluated", 0, NO_TEST, "DATASETS.TEST is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "status", "opts", "text"), CONFIG, ids=[check for check, *_ in CONFIG])
def test_config_provokes_a_finding(good_set, examine, check, status, opts, text):
    def change(train, val):
        left = {"class-rare": 1, "class-without-boxes": 0}.get(check, 20)
        dogs = [a for a in train["annotations"] if a["category_id"] == 2]
        for annotation in dogs[left:]:
            annotation["category_id"] = 1

    found_status, found, _, said = examine(good_set(change), *opts)
    named = [f for f in found if f["check"] == check]
    assert named, [f["check"] for f in found]
    assert named[0]["remedy"] or named[0]["severity"] == "error" or ":" in named[0]["what"]
    assert found_status == status and text in said.out, said.out


def test_several_faults_come_in_one_call_and_the_worst_first(good_set, examine):
    def change(train, val):
        for annotation in train["annotations"][:7]:
            annotation["bbox"] = [9, 9, 0, 5]
        train["annotations"][9]["bbox"] = [80, 9, 20, 20]

    status, found, content, said = examine(good_set(change), "SOLVER.BASE_LR", "-1", "INPUT.RANDOM_FLIP", "up")
    assert status == 1 and content["counts"]["error"] == 3
    assert [f["check"] for f in found[:3]] == ["config-value", "config-value", "box-empty"]
    assert found[2]["count"] == 7 and len(found[2]["places"]) == 7
    assert said.out.count("box [9, 9, 0, 5]") == 5 and "and 2 more" in said.out
    assert said.out.index("3 ERRORS") < said.out.index("[box-sticks-out]") < said.out.index("Do not train yet: 3")


def test_mistakes_of_the_command_line_end_with_status_2(good_set, examine):
    config = good_set()
    for words, text in (
        (["SOLVER.BASE_LRR", "1"], "There is no config key SOLVER.BASE_LRR"),
        (["--jobs", "0"], "--jobs must be >= 1, got 0"),
        (["DATASETS.VAL_IMAGES", ""], "DATASETS.VAL_IMAGES is empty"),
    ):
        status, _, content, said = examine(config, *words)
        assert (status, content, said.out) == (2, {}, "") and said.err.startswith("error: ") and text in said.err
    assert examine("absent.yaml")[0] == 2


def test_weights_are_set_against_the_detector(good_set, examine, tmp_path):
    config = good_set()
    cfg = load_config(config, [])
    model = RetinaTrainer.build_model(cfg)
    state = model.state_dict()
    torch.save({"model": state}, tmp_path / "whole.pth")
    torch.save({"model": {k: v for k, v in state.items() if "backbone" in k}}, tmp_path / "backbone.pth")
    torch.save({"model": {k: v for k, v in state.items() if "head" in k}}, tmp_path / "head.pth")
    assert examine(config, "MODEL.WEIGHTS", tmp_path / "whole.pth")[:2] == (0, [])

    status, (found,), _, _ = examine(config, "MODEL.WEIGHTS", tmp_path / "backbone.pth")
    assert (status, found["check"]) == (0, "weights-in-part")
    assert {place["value"].split(".")[0] for place in found["places"]} == {"head"}

    status, (found,), _, _ = examine(config, "MODEL.WEIGHTS", tmp_path / "head.pth")
    assert (status, found["check"]) == (1, "weights-nothing-loaded")

    (tmp_path / "config.yaml").write_text(cfg.dump())
    assert examine(config, "MODEL.WEIGHTS", tmp_path / "whole.pth")[:2] == (0, [])
    other = ["MODEL.ANCHOR_GENERATOR.BASE_SIZE", "2.5"]
    status, (found,), _, _ = examine(config, *other, "MODEL.WEIGHTS", tmp_path / "whole.pth")
    assert (status, found["check"]) == (0, "weights-other-config")
    assert "anchor sizes of level 1 are 16, 20.159, 25.398 in the checkpoint and 20, 25.198, 31.748" in found["what"]
    assert examine(config, *other, "MODEL.LOAD", "ignore_manifest", "MODEL.WEIGHTS", tmp_path / "whole.pth")[1] == []

    more = ["MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE", "4", "MODEL.WEIGHTS", tmp_path / "whole.pth"]
    status, found, _, _ = examine(config, *more)
    assert status == 1 and "head.cls_score.weight has shape" in found[0]["what"]


def test_a_manifest_is_read_as_a_training_reads_it(good_set, examine, tmp_path):
    config = good_set()
    cfg = load_config(config, [])
    model = RetinaTrainer.build_model(cfg)
    manifest = build_manifest(cfg, model, None) | {"classes": ["dog", "cat"]}
    torch.save({"model": model.state_dict(), "manifest": manifest}, tmp_path / "other.pth")
    # Beside weights with a manifest of their own it says nothing.
    (tmp_path / "config.yaml").write_text(cfg.dump().replace("BASE_SIZE: 2.0", "BASE_SIZE: 3.0"))
    weights = ["MODEL.WEIGHTS", str(tmp_path / "other.pth")]
    for opts, text in (
        (["MODEL.ANCHOR_GENERATOR.BASE_SIZE", "2.5"], "was trained for something else: MODEL.ANCHOR_GENERATOR: anchor"),
        (["INPUT.FORMAT", "RGB"], "INPUT.FORMAT is BGR in the checkpoint and RGB in the config"),
        ([], "class 0 is 'dog' in the checkpoint and 'cat' in the data"),
    ):
        status, (found,), _, _ = examine(config, *opts, *weights)
        assert (status, found["check"]) == (1, "weights-unusable") and text in found["what"]
        cfg = load_config(config, [*opts, *weights])
        register_config_datasets(cfg)
        DatasetCatalog.get("custom_train")  # reads the names of its classes
        with pytest.raises(SetupError) as caught:
            build_checkpointer(cfg, RetinaTrainer.build_model(cfg), classes=config_class_names(cfg)).load(weights[1])
        assert str(caught.value).rstrip(".") == found["what"]
    for word in ("by_class_name", "ignore_manifest"):
        assert examine(config, "MODEL.LOAD", word, *weights)[:2] == (0, [])


def test_better_anchors_come_ready_to_paste(good_set, examine):
    status, found, content, _ = examine(good_set(), "MODEL.ANCHOR_GENERATOR.BASE_SIZE", "5.0", fit=True)
    (found,) = [f for f in found if f["check"] == "anchors-better"]
    pasted = yaml.safe_load(found["remedy"].partition("under MODEL:  ")[2])["ANCHOR_GENERATOR"]
    assert status == 0 and pasted["BASE_SIZE"] > 0 and pasted["SCALES_PER_OCTAVE"] >= 1 and pasted["ASPECT_RATIOS"][0]
    assert content["anchors"]["proposal"]["yaml"].startswith("# fitted anchors")


PACKAGES = Packages(
    python=(3, 11),
    versions={
        "torch": "2.14.1", "torchvision": "0.29.1", "numpy": "2.4.6", "Pillow": "13.0.0", "fvcore": "0.1",
        "iopath": "0.1", "pycocotools": "2.0", "hotcoco": None, "setuptools": "80.0",
    },
    torchvision_needs=("numpy", "torch (>=2.14.0)"),
    detectron2="0.7",
    old_names=(),
    has_pkg_resources=True,
)  # fmt: skip


def versions(**changed):
    return {"versions": {**PACKAGES.versions, **changed}}


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, []),
        (versions(torchvision="0.28.0"), [("torch-mismatch", "torchvision", "0.29, from the index")]),
        (versions(torch="2.13.0"), [("torch-mismatch", "torchvision", r"\(torchvision needs torch>=2.14.0\)")]),
        (versions(torch="2.14.1+cpu", torchvision="0.29.1+cu130"), [("torch-mismatch", "torchvision", "not built")]),
        (versions(torch="2.14.1+cpu", torchvision="0.29.1+cpu"), []),
        (versions(numpy=None), [("package-missing", "numpy", "pip install numpy")]),
        ({"detectron2": None}, [("package-missing", "detectron2", "make setup")]),
        ({"python": (3, 14)}, [("python-untested", "Python", "3.14")]),
        ({"has_pkg_resources": False}, [("pkg-resources", "setuptools", "setuptools<81")]),
        ({"old_names": (r"Image\.LINEAR",)}, [("old-names", "detectron2", "Image.LINEAR, which Pillow 13")]),
        ({"old_names": (r"Image\.LINEAR",), **versions(Pillow="9.5.0")}, []),
        ({"old_names": (r"np\.(int|float|object)\b(?!\d)",)}, [("old-names", "detectron2", "np.int, which numpy")]),
    ],
)  # fmt: skip
def test_packages_provoke_a_finding(changed, found):
    given = list(find_package_faults(replace(PACKAGES, **changed)))
    assert [(f.check, f.where) for f in given] == [pair[:2] for pair in found]
    for finding, (_, _, text) in zip(given, found, strict=True):
        assert re.search(text, str(finding)), str(finding)


DEVICES = Devices(True, True, True, "13.0", (("H100", 80 * 2**30),), False, True)


@pytest.mark.parametrize(
    ("changed", "device", "deformable", "found"),
    [
        ({}, "cuda", True, []),
        ({"gpus": ()}, "cpu", False, []),
        ({"gpus": (), "cuda_build": None}, "cuda", False, [("no-gpu", "torch was built without CUDA")]),
        (
            {"gpus": ()},
            "cuda:1",
            False,
            [("no-gpu", r"torch \(CUDA 13.0\) sees no GPU \(an NVIDIA driver")],
        ),
        ({"has_nms": False}, "cpu", False, [("operator-missing", "nms is not compiled at all")]),
        ({"nms_on_gpu": False}, "cuda", False, [("operator-missing", "nms is not compiled for the GPU")]),
        ({"has_detectron2_operators": False}, "cpu", False, [("detectron2-operators", "Nothing to do")]),
        ({"has_detectron2_operators": False}, "cpu", True, [("operator-missing", "deformable convolutions need them")]),
    ],
)
def test_devices_provoke_a_finding(changed, device, deformable, found):
    given = list(find_device_faults(replace(DEVICES, **changed), device, deformable=deformable))
    assert [f.check for f in given] == [check for check, _ in found]
    for finding, (_, text) in zip(given, found, strict=True):
        assert re.search(text, str(finding)), str(finding)


def test_a_package_that_cannot_be_imported_is_a_finding():
    code = """
import importlib.machinery, sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name == "torch" else None
    def create_module(self, spec):
        raise OSError("libcudart.so.13: cannot open shared object file")
    def exec_module(self, module):
        pass
sys.meta_path.insert(0, Broken())
from retina_cli.main import main
sys.exit(main(["doctor", "--config-file", "configs/quickstart.yaml"]))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (result.returncode, result.stderr) == (1, "")
    assert "[import-fails] libcudart.so.13: cannot open" in result.stdout and "Do not train yet" in result.stdout


@pytest.mark.parametrize(("height", "width", "bound"), [(128, 192, "update"), (320, 448, "activations")])
def test_memory_estimate_is_near_the_measured_peak(good_set, height, width, bound):
    config = good_set()
    cfg = load_config(config, ["SOLVER.IMS_PER_BATCH", "4"])
    need = estimate_memory(cfg, build_detector(cfg, config)[0], height, width)
    assert (need.update > need.activations + need.loss) == (bound == "update")
    model = RetinaTrainer.build_model(cfg).train()
    optimizer = RetinaTrainer.build_optimizer(cfg, model)
    instances = Instances(
        (height, width), gt_boxes=Boxes(torch.tensor([[9.0, 9, 60, 50]])), gt_classes=torch.tensor([1])
    )
    image = {"image": torch.zeros(3, height, width, dtype=torch.uint8), "instances": instances}

    def step():
        with EventStorage():
            loss = sum(model([image] * 4).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()  # makes the gradients and the moments
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    moments = [value for state in optimizer.state.values() for value in state.values() if value.dim()]
    kept = 4 * sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers(), *gradients, *moments))
    assert need.state == pytest.approx(kept, rel=0.01)
    measured = kept + peak_bytes(step)
    assert 0.95 < need.total / measured < 1.05, (need, measured)


def test_largest_input_keeps_orientations_apart(good_set):
    cfg = load_config(good_set(), ["INPUT.MIN_SIZE_TRAIN", "(64,)"])
    from retina_plugin.data.dataset_content import DatasetContent

    content = DatasetContent("a", "a", None, sizes=torch.tensor([[96.0, 64], [64, 100]]).numpy())
    assert largest_input(cfg, [content], 32) == (128, 64)  # 64 x 100, not 100 x 96
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    assert largest_input(cfg, [content], 32) == (128, 96)


def test_every_check_of_the_catalog_is_made_somewhere_and_documented():
    text = "".join(path.read_text() for path in (ROOT / "retina_plugin").rglob("*.py") if path.name != "catalog.py")
    unused = [name for name in CATALOG if f'"{name}"' not in text]
    assert unused == []
    page = (ROOT / "docs" / "doctor.md").read_text()
    begin, end = "<!-- catalog -->\n", "<!-- end of catalog -->"
    assert page.split(begin)[1].split(end)[0].strip() == catalog_table().strip()


def test_json_names_stay(good_set, examine):
    *_, content, _ = examine(good_set(edit(0, ("annotations", 1, "bbox"), [9, 9, 0, 20])))
    assert list(content) == [
        "format", "config_file", "training_makes_sense", "counts", "findings", "environment", "schedule", "memory",
        "data", "anchors",
    ]  # fmt: skip
    (found,) = [f for f in content["findings"] if f["check"] == "box-empty"]
    assert list(found) == ["severity", "check", "where", "what", "remedy", "places", "count"]
    assert list(found["places"][0]) == ["file", "image_id", "annotation_id", "bbox"]
    assert json.dumps(content)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("SOLVER.WARMUP_METHOD", "lin", "SOLVER.WARMUP_METHOD must be one of 'linear', 'constant', got 'lin'"),
        ("MODEL.RESNETS.NUM_GROUPS", 2, "MODEL: the model cannot be built: AssertionError: Must set MODEL.RESNETS.NUM"),
        ("TEST.BEST_METRIC", "bbox/AP-fox", "BEST_METRIC must be a metric of these test sets, got bbox/AP-fox"),
    ],
)
def test_the_doctor_and_the_training_say_the_same(good_set, examine, capsys, key, value, says):
    config = good_set()
    status, found, _, _ = examine(config, "--no-images", key, value)
    assert status == 1 and [says in entry["what"] for entry in found if entry["severity"] == "error"] == [True]
    assert main(["train", "--config-file", config, key, str(value)]) == EXIT_SETUP
    assert says in capsys.readouterr().err
