"""From rows and seeds to runs: shared, shortened, in order; and the manifest beside them."""

import json
from pathlib import Path

import pytest

from retina_plugin import get_retina_cfg
from retina_plugin.apps.study import plan as plan_module
from retina_plugin.apps.study.index import load_studies
from retina_plugin.apps.study.plan import StudySettings, plan_runs, write_manifest
from retina_plugin.apps.study.results import read_record
from retina_plugin.config.load import load_config
from retina_plugin.errors import SetupError

SMALL = StudySettings("configs/retina_R18_FPN_scratch.yaml", [], 1.0)


def plan(names, tmp_path, settings=SMALL, seeds=(0,)):
    return plan_runs(load_studies(names), settings, list(seeds), tmp_path)


def config_of(run):
    return load_config(run.config_file, run.opts)


def test_rows_of_equal_config_share_a_run(tmp_path):
    runs, per_row = plan(["prior", "gamma", "focal_star", "anchors", "ohem"], tmp_path)
    shared = [
        per_row[study][row][0]
        for study, row in [("prior", "prior_with_fl"), ("gamma", "gamma_2"), ("focal_star", "focal_star_fl"),
                           ("anchors", "anchors_3x3"), ("ohem", "ohem_fl")]
    ]  # fmt: skip
    assert all(run is shared[0] for run in shared)
    # 4 + 7 + 4 + 7 + 10 rows, of which those five are one.
    assert len(runs) == 32 - 4


def test_runs_go_seed_by_seed(tmp_path):
    runs, _ = plan(["prior"], tmp_path, seeds=(2, 0))
    assert [run.seed for run in runs] == [2] * 4 + [0] * 4
    assert len({run.folder for run in runs}) == 8


def test_changes_are_laid_over_the_base_that_is_given(tmp_path):
    _, per_row = plan(["ohem"], tmp_path)
    cfg = config_of(per_row["ohem"]["ohem_1to3_256_0.5"][0])
    assert cfg.MODEL.RESNETS.DEPTH == 18  # of the given base, not the study's ResNet-101
    ohem = cfg.MODEL.RETINANET.OHEM
    assert (cfg.MODEL.RETINANET.CLS_LOSS_NAME, ohem.BATCH_SIZE, ohem.NEG_POS_RATIO) == ("OHEMLoss", 256, 3.0)


def test_without_a_base_each_study_has_its_own(tmp_path):
    _, per_row = plan(["ohem", "scale"], tmp_path, StudySettings("", [], 1.0))
    assert config_of(per_row["ohem"]["ohem_fl"][0]).MODEL.RESNETS.DEPTH == 101
    run = per_row["scale"]["scale_R101_400"][0]
    assert "R-101" in config_of(run).MODEL.WEIGHTS and run.max_iter == 90000


def test_weights_of_the_paper_do_not_replace_those_of_another_base(tmp_path):
    _, per_row = plan(["scale"], tmp_path)
    cfg = config_of(per_row["scale"]["scale_R101_400"][0])
    assert cfg.MODEL.WEIGHTS == "" and cfg.MODEL.RESNETS.DEPTH == 101 and cfg.INPUT.MIN_SIZE_TEST == 400


def test_fraction_shortens_the_whole_schedule(tmp_path):
    _, per_row = plan(["alpha"], tmp_path, StudySettings("configs/retina_R50_FPN_600.yaml", [], 0.01))
    run = per_row["alpha"]["alpha_0.9"][0]
    solver = config_of(run).SOLVER
    assert (run.max_iter, solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS) == (900, 900, (600, 800), 5)


def test_longer_schedule_moves_its_drops_along(tmp_path):
    _, per_row = plan(["alpha"], tmp_path, StudySettings("configs/retina_R50_FPN_600.yaml", [], 2.0))
    solver = config_of(per_row["alpha"]["alpha_0.9"][0]).SOLVER
    assert (solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS) == (180000, (120000, 160000), 500)


def test_what_is_off_stays_off_in_a_fraction(tmp_path):
    overrides = ["SOLVER.WARMUP_ITERS", "0", "TEST.EVAL_PERIOD", "0"]
    runs, _ = plan(["prior"], tmp_path, StudySettings(SMALL.base_config, overrides, 0.01))
    assert (config_of(runs[0]).SOLVER.WARMUP_ITERS, config_of(runs[0]).TEST.EVAL_PERIOD) == (0, 0)


def test_overrides_and_base_change_the_folder(tmp_path):
    folders = {
        plan(["prior"], tmp_path, settings)[0][0].folder
        for settings in (SMALL, StudySettings(SMALL.base_config, ["SOLVER.BASE_LR", "0.5"], 1.0),
                         StudySettings(SMALL.base_config, [], 0.5))
    }  # fmt: skip
    assert len(folders) == 3


def test_two_stage_rows_get_the_number_of_classes(tmp_path):
    settings = StudySettings(SMALL.base_config, ["MODEL.RETINANET.NUM_CLASSES", "7"], 1.0)
    _, per_row = plan(["two_stage"], tmp_path, settings)
    cfg = config_of(per_row["two_stage"]["two_stage_faster_rcnn_fpn"][0])
    assert (cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.ROI_HEADS.NUM_CLASSES) == ("GeneralizedRCNN", 7)


def manifest(tmp_path, names, settings=SMALL, seeds=(0,), command="study run"):
    _, per_row = plan(names, tmp_path, settings, seeds)
    write_manifest(tmp_path, load_studies(names), settings, per_row, command=command, protocol="")
    return json.loads((tmp_path / "study.json").read_text())


def test_manifest_grows_by_studies_and_seeds(tmp_path):
    manifest(tmp_path, ["prior"], seeds=(0,), command="first")
    content = manifest(tmp_path, ["prior", "alpha"], seeds=(1,), command="second")
    assert list(content["studies"]) == ["prior", "alpha"] and content["settings"]["seeds"] == [0, 1]
    assert content["settings"]["command"] == ["first", "second"]
    row = content["studies"]["prior"]["rows"][0]
    assert set(row["runs"]) == {"0", "1"} and row["paper"]["AP"] == 30.2
    assert row["runs"]["1"] == row["runs"]["0"].replace("seed0", "seed1")


def test_folder_with_other_settings_is_refused(tmp_path):
    manifest(tmp_path, ["prior"])
    with pytest.raises(SetupError, match="other settings .fraction was 1.0"):
        manifest(tmp_path, ["prior"], StudySettings(SMALL.base_config, [], 0.5))


def test_row_shares_the_run_that_an_earlier_call_made(tmp_path):
    _, per_row = plan(["prior"], tmp_path)
    prior = per_row["prior"]["prior_with_fl"][0]
    prior.folder.mkdir(parents=True)
    _, per_row = plan(["gamma"], tmp_path)
    assert per_row["gamma"]["gamma_2"][0].folder == prior.folder
    assert per_row["gamma"]["gamma_1"][0].folder.parent.name.startswith("gamma_1-")


def test_seeds_of_another_config_are_not_mixed(tmp_path):
    base = tmp_path / "base.yaml"
    settings = StudySettings(str(base), [], 1.0)
    base.write_text(f"_BASE_: {Path(SMALL.base_config).resolve()}\n")
    before = manifest(tmp_path, ["prior"], settings, seeds=(0, 1))
    base.write_text(f"_BASE_: {Path(SMALL.base_config).resolve()}\nSOLVER:\n  BASE_LR: 0.5\n")
    with pytest.raises(SetupError, match="prior_.* is no longer that of its seeds 1. Run those seeds again"):
        manifest(tmp_path, ["prior"], settings, seeds=(0, 2))
    assert json.loads((tmp_path / "study.json").read_text()) == before
    after = manifest(tmp_path, ["prior"], settings, seeds=(0, 1, 2))
    assert len({path.split("/")[1] for path in after["studies"]["prior"]["rows"][0]["runs"].values()}) == 1


def test_half_a_record_counts_as_none(tmp_path):
    (tmp_path / "run_record.json").write_text('{"status": "fini')
    assert read_record(tmp_path) is None


def test_fingerprint_survives_a_key_that_a_later_version_adds(monkeypatch):
    cfg = get_retina_cfg()
    cfg.SOLVER.MAX_ITER = 7
    before = plan_module._fingerprint(cfg)

    def later_defaults():
        later = get_retina_cfg()
        later.MODEL.ADDED_LATER = 1
        return later

    monkeypatch.setattr(plan_module, "get_retina_cfg", later_defaults)
    cfg.MODEL.ADDED_LATER = 1
    assert plan_module._fingerprint(cfg) == before
    cfg.MODEL.ADDED_LATER = 2
    assert plan_module._fingerprint(cfg) != before


def test_fingerprints_of_studies_before_model_load_stay():
    def fingerprint(*opts):
        return plan_module._fingerprint(load_config("configs/study/small.yaml", list(opts)))

    assert fingerprint() == fingerprint("MODEL.SKIP_MISMATCHED_WEIGHTS", "True") == "2c848be6"
    assert plan_module._fingerprint(load_config("configs/study/pretrain.yaml", [])) == "ee99a24d"
