"""``retina study`` from the command line: list, dry run, mistakes; and one real row from start to record."""

import json
import logging
import warnings

import pytest
from study_records import make_record

from retina_cli.main import main
from retina_plugin.apps.study import estimate, run_command
from retina_plugin.apps.study.plan import PlannedRun
from retina_plugin.data.sample.files import make_sample_dataset


def test_list_names_studies_rows_and_the_papers_figures(capsys):
    assert main(["study", "list", "prior"]) == 0
    printed = capsys.readouterr().out
    assert "prior: The prior of the class layer - Sec. 3.3" in printed and "reported AP 30.2  (reference)" in printed


@pytest.fixture
def no_training(monkeypatch):
    """Dry runs take three steps of each row, for which a test has no data: here each run takes ten seconds."""
    monkeypatch.setattr(run_command, "measure_seconds", lambda run: 10.0)


def test_dry_run_starts_nothing_and_says_what_it_would(capsys, tmp_path, no_training):
    output = tmp_path / "study"
    arguments = ["run", "prior", "--config-file", "configs/study/small.yaml", "--seeds", "0,1", "--output", str(output)]
    assert main(["study", *arguments, "--fraction", "0.5", "--devices", "cpu", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "8 of 8 runs to do on cpu" in printed and "prior_without_ce seed 1, 50 iterations" in printed
    assert "time: about 80 s, from three steps of each row" in printed
    # 2.098637 M parameters of 4 bytes, and AdamW's two moments
    assert "disk: up to 25 MB a run for its last checkpoint, 0.2 GB in all" in printed
    assert not output.exists()


def test_some_rows_of_a_table(capsys, tmp_path, no_training, monkeypatch):
    arguments = [
        "study",
        "run",
        "prior",
        "alpha",
        "--config-file",
        "configs/study/small.yaml",
        "--output",
        str(tmp_path),
    ]
    chosen = ["--devices", "cpu", "--rows", "prior_with_fl", "prior_without_ce"]
    assert main([*arguments, *chosen, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "2 of 2 runs to do on cpu" in printed and "prior_with_ce" not in printed.split("\n", 1)[1]
    assert "prior: without its reference row prior_with_ce the report tests no difference" in printed
    # The plan grows by the rows of each call, and a report has the rows that were planned.
    monkeypatch.setattr(run_command.StudyRunner, "run", lambda self: 0)
    assert main([*arguments, *chosen]) == 0
    assert main([*arguments, "--rows", "prior_with_ce"]) == 0
    studies = json.loads((tmp_path / "study.json").read_text())["studies"]
    assert list(studies) == ["prior"]
    rows = {row["name"]: list(row["runs"]) for row in studies["prior"]["rows"]}
    assert rows == {"prior_with_ce": ["0"], "prior_without_ce": ["0"], "prior_with_fl": ["0"]}
    for row in studies["prior"]["rows"]:
        folder = tmp_path / row["runs"]["0"]
        folder.mkdir(parents=True)
        (folder / "run_record.json").write_text(json.dumps(make_record(30.0, 0)))
    report = ["study", "report", "--input", str(tmp_path), "--output", str(tmp_path / "report")]
    assert main([*report, "--rows", "prior_with_fl"]) == 0
    written = (tmp_path / "report" / "prior.csv").read_text()
    assert "prior_with_fl" in written and "prior_with_ce" not in written
    assert main([*report, "--rows", "alpha_0.5"]) == 2
    assert "--rows alpha_0.5 is no row of prior: choose from prior_with_ce, " in capsys.readouterr().err


def test_a_dry_run_says_each_thing_once(capsys, caplog, monkeypatch, tmp_path):
    def measure(run):
        logging.getLogger("retina_plugin.prepare").warning("no GPU")
        warnings.warn("a warning of torch", stacklevel=1)
        return 1.0

    monkeypatch.setattr(run_command, "measure_seconds", measure)
    arguments = ["run", "prior", "--config-file", "configs/study/small.yaml", "--output", str(tmp_path)]
    handler = logging.StreamHandler()
    monkeypatch.setattr(logging.getLogger("retina_plugin"), "handlers", [handler])
    with pytest.warns(UserWarning, match="a warning of torch") as caught:
        assert main(["study", *arguments, "--dry-run"]) == 0
    assert len(caught) == 1 and capsys.readouterr().err.count("no GPU") == 1 and not handler.filters


def test_an_estimate_has_no_more_readers_than_cores(monkeypatch, tmp_path):
    class Seen(Exception):
        pass

    def prepare(config, opts, use):
        raise Seen(opts[opts.index("DATALOADER.NUM_WORKERS", 2) + 1])

    monkeypatch.setattr(estimate, "prepare", prepare)
    for cores, given, used in ((2, "8", 2), (4, "1", 1)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        run = PlannedRun("a", "configs/study/small.yaml", ["DATALOADER.NUM_WORKERS", given], tmp_path, 0, 10)
        with pytest.raises(Seen, match=f"^{used}$"):
            estimate.measure_seconds(run)


@pytest.mark.parametrize("iterations", [10, 400], ids=["shorter", "longer"])
def test_iterations_stand_for_a_fraction(capsys, tmp_path, no_training, iterations):
    arguments = ["run", "prior", "--config-file", "configs/study/small.yaml", "--iterations", str(iterations)]
    assert main(["study", *arguments, "--dry-run", "--output", str(tmp_path)]) == 0
    assert f"prior_with_fl seed 0, {iterations} iterations" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nonsense"], "unknown study nonsense"),
        (["run", "prior", "--fraction", "0"], "--fraction must be a finite number above 0, got 0"),
        (["run", "prior", "--iterations", "-5"], "--iterations must be at least 1, got -5"),
        (["run", "prior", "--seeds", "0;1"], "--seeds must be whole numbers like 0,1,2, got '0;1'"),
        (["run", "prior", "--seeds=-1"], "--seeds must be at least 0"),
        (["run", "prior", "--devices", "99"], "--devices 99: give cpu, or numbers"),
        (["run", "prior", "--config-file", "none.yaml"], "none.yaml"),
        (["run", "prior", "--opts", "MODEL.NO_KEY", "1"], "MODEL.NO_KEY"),
        (["list", "--studies", "/nowhere"], "/nowhere is not a folder"),
    ],
)
def test_mistake_is_one_line_and_status_2(capsys, arguments, message):
    assert main(["study", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error


def test_retina_hands_its_arguments_to_a_program(capsys):
    assert main(["study", "list", "alpha"]) == 0
    assert "Table 1a" in capsys.readouterr().out
    assert main(["stduy"]) == 2 and main([]) == 2
    assert "there is no command 'stduy': did you mean study?" in capsys.readouterr().err


def test_study_trains_a_row_and_does_not_train_it_again(tmp_path, capsys):
    sample = make_sample_dataset(tmp_path / "set", num_train=4, num_val=2, max_objects=1, one_class=True)
    folder = tmp_path / "studies" / "own"
    folder.mkdir(parents=True)
    (folder / "own_1.yaml").write_text("MODEL: {RETINANET: {FOCAL_LOSS_GAMMA: 1.0}}\n")
    output = tmp_path / "out"
    arguments = [
        "run", "own", "--studies", str(tmp_path / "studies"), "--config-file", "configs/quickstart.yaml",
        "--iterations", "2", "--output", str(output), "--devices", "cpu", "--opts",
        "DATASETS.TRAIN_JSON", str(sample / "annotations/train.json"),
        "DATASETS.TRAIN_IMAGES", str(sample / "images/train"),
        "DATASETS.VAL_JSON", str(sample / "annotations/val.json"),
        "DATASETS.VAL_IMAGES", str(sample / "images/val"),
        "MODEL.RETINANET.NUM_CLASSES", "0", "DATALOADER.NUM_WORKERS", "0", "SOLVER.IMS_PER_BATCH", "2",
        "INPUT.MIN_SIZE_TRAIN", "64", "INPUT.MIN_SIZE_TEST", "64",
    ]  # fmt: skip
    assert main(["study", *arguments[:1], "own", "--dry-run", *arguments[2:]]) == 0
    assert "time: about" in capsys.readouterr().out and not output.exists()
    assert main(["study", *arguments]) == 0
    manifest = json.loads((output / "study.json").read_text())
    (row,) = manifest["studies"]["own"]["rows"]
    record = json.loads((output / row["runs"]["0"] / "run_record.json").read_text())
    assert record["status"] == "finished" and record["iterations"] == 2 and record["inference_ms_per_image"] > 0
    assert record["difference_from_base"]["MODEL.RETINANET.FOCAL_LOSS_GAMMA"] == 1.0
    assert main(["study", *arguments]) == 0
    assert "1 of 1 runs are done; 0 to go on cpu" in capsys.readouterr().out


def test_shell_command_repeats_a_run(tmp_path):
    run = PlannedRun("a", "c.yaml", ["MODEL.RETINANET.FOCAL_LOSS_ALPHA", "-1.0"], tmp_path / "a", 3, 10)
    assert run_command.shell_command(run) == (
        f"python train_net.py --config-file c.yaml MODEL.RETINANET.FOCAL_LOSS_ALPHA -1.0 SEED 3 OUTPUT_DIR {tmp_path}/a"
    )
