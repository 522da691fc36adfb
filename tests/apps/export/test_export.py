"""``retina export``: every format, reloaded, finds what PyTorch finds; the refusals; the script without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from tiny_coco import make_coco
from tiny_export import make_config, noise

from benchmarks import export_case
from benchmarks.measurement import Settings
from retina_cli.main import main
from retina_plugin.apps.export import command, onnx_format
from retina_plugin.apps.export.onnx_precision import last_convolutions, network_nodes
from retina_plugin.apps.export.runtime import detections_differ, load_exported
from retina_plugin.errors import SetupError

pytest_plugins = ("tiny_export", "tiny_sets")

# Ten sizes and more, batches among them; the last image has nothing above the threshold.
SIZES = [(1, 128, 160), (3, 129, 97), (1, 64, 200), (1, 33, 31), (2, 20, 250), (1, 300, 280), (1, 97, 65), (1, 200, 64),
         (3, 96, 96), (1, 1, 1), (1, 255, 257)]  # fmt: skip
NAMES = "red,blue,green,black"


@pytest.fixture(scope="module")
def export(checkpoint, tmp_path_factory):
    """Function from a file name and more arguments to the exported file, made once; torch.onnx runs once for all."""
    folder, made = tmp_path_factory.mktemp("exported"), {}

    def traced_already(detector, metadata, *, dtype):
        model = onnx.load(run("a.onnx"))
        onnx.helper.set_model_props(model, dict(metadata))
        return model

    def run(name: str, *words: str) -> Path:
        if name not in made:
            tiny = ["--config-file", str(checkpoint.with_name("config.yaml"))]
            with pytest.MonkeyPatch.context() as patch:
                if {"--half", "--int8"} & set(words):
                    patch.setattr(onnx_format, "to_onnx", traced_already)
                assert (
                    main(["export", str(checkpoint), "--output", str(folder / name), "--classes", NAMES, *tiny, *words])
                    == 0
                )
            made[name] = folder / name
        return made[name]

    return run


@pytest.fixture(scope="module")
def images_folder(tmp_path_factory):
    """Four images on disk, one of them turned by EXIF."""
    folder = tmp_path_factory.mktemp("images")
    for index, (height, width) in enumerate([(120, 90), (64, 64), (50, 130), (200, 100)]):
        image = Image.fromarray(noise(1, height, width)[0].transpose(1, 2, 0))
        exif = image.getexif()
        exif[0x0112] = 6 if index == 3 else 1  # Orientation: 6 is shown turned by 90 degrees
        image.save(folder / f"{index}.png", exif=exif)
    return folder


def reference(detector, images: np.ndarray):
    with torch.no_grad():
        return tuple(output.numpy() for output in detector(torch.from_numpy(images)))


def differ(detector, run, images: np.ndarray, **tolerance) -> str:
    limits = {"max_box": 0.05, "max_score": 1e-4, "threshold": detector.score_thresh, **tolerance}
    return detections_differ(run(images), reference(detector, images), **limits)


@pytest.mark.parametrize("name", ["a.onnx", "a.pt", "a.pt2"])
def test_exported_file_finds_what_pytorch_finds(export, detector, name):
    run = load_exported(export(name))
    assert [(size, differ(detector, run, noise(*size))) for size in SIZES] == [(size, "") for size in SIZES]
    counts = [reference(detector, noise(*size))[3].tolist() for size in SIZES]
    assert [20] in counts and sum(map(sum, counts)) > 60
    dark = np.zeros((1, 3, 100, 120), np.uint8)
    assert reference(detector, dark)[3] == run(dark)[3]


def test_file_of_floats_without_objects(tmp_path, checkpoint):
    path = tmp_path / "strict.pt"
    config = ["--config-file", str(checkpoint.with_name("config.yaml"))]
    words = ["MODEL.RETINANET.SCORE_THRESH_TEST", "0.999", "--input-type", "float32"]
    assert main(["export", str(checkpoint), "--output", str(path), *config, *words]) == 0
    boxes, scores, classes, counts = load_exported(path)(noise(2, 90, 130).astype(np.float32))
    assert counts.tolist() == [0, 0] and not boxes.any() and not scores.any() and (classes == -1).all()
    assert json.loads(path.with_name("strict.pt.json").read_text())["thresholds"]["score"] == 0.999


def test_onnx_file_is_dynamic_and_says_what_it_is(export):
    model = onnx.load(export("a.onnx"))
    onnx.checker.check_model(model, full_check=True)
    (images,) = model.graph.input
    dims = [dim.dim_param or dim.dim_value for dim in images.type.tensor_type.shape.dim]
    assert dims == ["batch", 3, "height", "width"] and images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [output.name for output in model.graph.output] == ["boxes", "scores", "classes", "counts"]
    assert [(domain.domain, domain.version) for domain in model.opset_import] == [("", 18)]
    assert sum(node.op_type == "NonMaxSuppression" for node in model.graph.node) == 1
    text = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(text["classes"]) == NAMES.split(",") and json.loads(text["input"])["channels"] == "BGR"
    assert json.loads(text["resize"]) == {"min_size": 128, "max_size": 200, "filter": "bilinear"}
    assert json.loads(text["thresholds"])["detections_per_image"] == 20 and text["precision"] == "fp32"
    assert json.loads(text["versions"])["torch"] == torch.__version__ and json.loads(text["licence"]) is None
    assert "build_tiny_export_backbone" in text["config"]


def test_onnx_file_holds_no_paths_of_the_machine(export, checkpoint):
    content = export("a.onnx").read_bytes()
    assert str(checkpoint.parent).encode() not in content
    assert b"retina_plugin" in content  # its metadata
    assert str(Path(command.__file__).parents[2]).encode() not in content
    assert str(Path(torch.__file__).parent).encode() not in content


@pytest.mark.parametrize("name", ["a.pt", "a.pt2"])
def test_torch_formats_have_their_metadata_beside_them(export, name):
    path = export(name)
    metadata = json.loads(path.with_name(f"{name}.json").read_text())
    assert metadata["classes"] == NAMES.split(",") and metadata["output"]["padding_class"] == -1


@pytest.mark.parametrize("name", ["a.pt", "a.pt2"])
def test_torch_formats_run_without_the_plugin(export, detector, tmp_path, name):
    path = export(name)
    np.save(tmp_path / "images.npy", noise(2, 111, 77))
    code = f"""
import sys
sys.modules["retina_plugin"] = sys.modules["detectron2"] = None  # importing them fails
import numpy, torch, torchvision
exported = {name.endswith("2")}
path = {str(path)!r}
program = torch.export.load(path).module() if exported else torch.jit.load(path)
outputs = program(torch.from_numpy(numpy.load("images.npy")))
numpy.savez("out.npz", *[output.detach().numpy() for output in outputs])
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found = tuple(np.load(tmp_path / "out.npz").values())
    expected = reference(detector, noise(2, 111, 77))
    assert detections_differ(found, expected, max_box=1e-3, max_score=1e-5, threshold=0.05) == ""
    assert found[3].sum() > 0


def test_safetensors_holds_the_weights_and_their_metadata(export, model):
    from safetensors import safe_open

    with safe_open(export("a.safetensors"), framework="pt") as file:
        assert set(file.keys()) == set(model.state_dict())
        assert all(torch.equal(file.get_tensor(key), value) for key, value in model.state_dict().items())
        assert json.loads(file.metadata()["num_classes"]) == 4


BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "detectron2", "retina_plugin"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
import runpy
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_script_beside_the_file_runs_without_torch(export, detector, images_folder):
    path, script = export("a.onnx"), export("a.onnx").with_name("run_a.py")
    paths = sorted(images_folder.iterdir())
    result = subprocess.run(
        [sys.executable, "-c", BLOCK, str(script), str(path), *map(str, paths)], capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    cfg = make_config()
    resized = list(command.read_images(images_folder, cfg, dtype=torch.uint8, max_images=9))
    assert len(lines) == len(resized) == 4 and sum(len(line["detections"]) for line in lines) > 2
    for file, line, images in zip(paths, lines, resized, strict=True):
        _check_line(file, line, images, reference(detector, images))


def _check_line(file, line, images, expected):
    with Image.open(file) as image:
        turned = image.getexif().get(0x0112) == 6
        width, height = image.size[::-1] if turned else image.size
    scale = np.array([width / images.shape[3], height / images.shape[2]] * 2)
    count = expected[3][0]
    assert [item["class"] for item in line["detections"]] == [NAMES.split(",")[i] for i in expected[2][0, :count]]
    found = np.array([item["box"] for item in line["detections"]]).reshape(-1, 4)
    np.testing.assert_allclose(found, expected[0][0, :count] * scale, atol=0.15)  # printed to 0.1
    np.testing.assert_allclose([d["score"] for d in line["detections"]], expected[1][0, :count], atol=2e-4)


def test_script_is_short():
    assert len(command.RUN_SCRIPT.read_text().splitlines()) <= 42


def test_half_precision_is_of_the_network_alone(export, detector):
    model = onnx.load(export("half.onnx", "--half"))
    halves = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    inside = {value for node in network_nodes(model.graph) for value in node.input}
    assert halves and halves <= inside
    assert export("half.onnx").stat().st_size < export("a.onnx").stat().st_size
    run = load_exported(export("half.onnx"))
    # fp16 has 11 bits: 5e-4 of a logit of 5 or of a box of 100 pixels, added up over the layers.
    assert differ(detector, run, noise(1, 128, 160), max_box=2.0, max_score=0.02) == ""
    assert differ(detector, run, noise(1, 128, 160), max_box=1e-6, max_score=1e-9) != ""


def test_int8_leaves_the_last_layers_as_they_are(export, detector, images_folder):
    model = onnx.load(export("int8.onnx", "--int8", "--calibration", str(images_folder)))
    source = onnx.load(export("a.onnx"))
    assert len(last_convolutions(source.graph)) == 2 * 2  # class and box layers on two levels
    quantised = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"
                   and node.input[0] in quantised}  # fmt: skip
    weights = {node.name: node.input[1] in dequantised for node in model.graph.node if node.op_type == "Conv"}
    assert {name for name, is_int8 in weights.items() if not is_int8} == set(last_convolutions(source.graph))
    run = load_exported(export("int8.onnx"))
    boxes, scores, classes, counts = run(noise(1, 128, 160))
    best = reference(detector, noise(1, 128, 160))[1][0, 0]
    assert counts[0] > 0 and scores[0, 0] == pytest.approx(best, abs=0.1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "a.txt"], "--output a.txt: the suffix must be one of .onnx, .pt, .pt2, .safetensors"),
        (["--output", "a.onnx", "--format", "coreml"], "--format must be one of onnx, torchscript, torch-export"),
        (["--output", "a.pt", "--format", "onnx"], "--output a.pt: a file of --format onnx ends in .onnx"),
        (["--output", "none/a.onnx"], "--output none/a.onnx: the folder none is not there. Make it first."),
        (["--output", "there.onnx"], "--output there.onnx is there already. Add --force"),
        (["--output", "a.pt", "--half"], "--half is for --format onnx, got torchscript."),
        (["--output", "a.onnx", "--half", "--int8"], "--half and --int8 exclude each other"),
        (["--output", "a.onnx", "--int8"], "--int8 needs --calibration DIR"),
        (["--output", "a.onnx", "--calibration", "."], "--calibration is for --int8"),
        (["--output", "a.onnx", "--int8", "--calibration", "no"], "--calibration no is not a folder."),
        (["--output", "a.onnx", "--max-images", "0"], "--max-images must be >= 1, got 0."),
        (["--output", "a.onnx", "--input-type", "int8"], "--input-type must be uint8 or float32, got 'int8'."),
        (["--output", "a.onnx", "--classes", "a,b"], "--classes names 2 classes, the model has 4"),
        (["--output", "a.onnx", "MODEL.META_ARCHITECTURE", "GeneralizedRCNN"], "GeneralizedRCNN cannot be exported"),
        (["--output", "a.onnx", "MODEL.RETINANET.NUM_CLASSES", "5"], "head.cls_score.weight has shape"),
        (["--output", "a.onnx", "--config-file", "no.yaml"], "no.yaml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_export_refuses(checkpoint, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    Path("there.onnx").write_bytes(b"kept")
    assert main(["export", str(checkpoint), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert Path("there.onnx").read_bytes() == b"kept" and [path.name for path in Path().iterdir()] == ["there.onnx"]


def test_export_refuses_weights_that_are_not_there(tmp_path, capsys, checkpoint):
    output = ["--output", str(tmp_path / "a.onnx")]
    assert main(["export", str(tmp_path / "no.pth"), *output]) == 2
    assert "no.pth is not there: give the path of a .pth or .pkl checkpoint." in capsys.readouterr().err
    alone = tmp_path / "alone.pth"
    torch.save(torch.load(checkpoint), alone)
    assert main(["export", str(alone), *output]) == 2
    assert "there is no config.yaml beside it: give the config with --config-file" in capsys.readouterr().err
    alone.write_bytes(b"not a checkpoint")
    assert main(["export", str(alone), "--config-file", str(checkpoint.with_name("config.yaml")), *output]) == 2
    assert "alone.pth cannot be read as a checkpoint" in capsys.readouterr().err


def test_export_names_the_package_that_is_missing(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else object())
    assert main(["export", str(checkpoint), "--output", str(tmp_path / "a.onnx")]) == 2
    assert "--format onnx needs onnxscript, which is not installed: pip install" in capsys.readouterr().err


def test_measure_writes_a_record(export, checkpoint, register, tmp_path, capsys):
    content = make_coco()
    content["categories"] += [{"id": 8, "name": "cow"}, {"id": 9, "name": "hen"}]
    root = register(content, "tiny_train")
    record = tmp_path / "record.json"
    data = ["DATASETS.VAL_JSON", str(root / "a.json"), "DATASETS.VAL_IMAGES", str(root), "DATASETS.TRAIN", "()"]
    words = ["--output", str(record), "--config-file", str(checkpoint.with_name("config.yaml")), "--opts", *data]
    files = [str(export("a.onnx")), str(export("a.pt"))]
    assert main(["measure-export", str(checkpoint), str(tmp_path / "no.onnx"), *words]) == 2
    assert "no.onnx is not there: export it first" in capsys.readouterr().err
    assert main(["measure-export", str(checkpoint), *files, *words]) == 0
    rows = json.loads(record.read_text())["rows"]
    assert [row["name"] for row in rows] == ["PyTorch", "a.onnx", "a.pt"]
    assert [(row["images"], row["images_equal"]) for row in rows] == [(2, 2)] * 3
    assert len({row["AP"] for row in rows}) == 1 and all(row["ms_per_image"] > 0 for row in rows)


def test_benchmark_case_measures_equal_work(export, model, monkeypatch):
    monkeypatch.setattr(export_case, "build_pair", lambda depth, device: (model, None))
    monkeypatch.setattr(export_case, "to_onnx", lambda *_, **__: onnx.load(export("a.onnx")))
    monkeypatch.setattr(export_case, "to_torchscript", lambda *_, **__: export("a.pt").read_bytes())
    monkeypatch.setattr(export_case, "to_torch_export", lambda *_, **__: export("a.pt2").read_bytes())
    (measured,) = export_case.measure(Settings("cpu", quick=True, rounds=1))
    assert set(measured.seconds) == {
        "PyTorch", "TorchScript", "torch.export", "ONNX Runtime", "ONNX Runtime, fp16", "ONNX Runtime, int8",
    }  # fmt: skip
    assert len(measured.equality) == 3 and set(measured.equality.values()) == {0.0}
    with pytest.raises(SetupError, match="leave out --device"):
        next(export_case.measure(Settings("cuda", quick=True, rounds=1)))
