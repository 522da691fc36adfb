"""Loading a config: what is accepted, and the sentence for what is not."""

import math
from pathlib import Path

import detectron2
import pytest
from detectron2.config import CfgNode

from retina_plugin import reading
from retina_plugin.config import keys
from retina_plugin.config import load as config_file
from retina_plugin.config.keys import LOAD_WORDS, RemovedKey, get_retina_cfg
from retina_plugin.config.load import config_difference, load_base_config, load_config
from retina_plugin.errors import SetupError

# The text of Detectron2's own Base-RetinaNet.yaml, where its sizes are computed by a tag.
EVAL_TAG = """
MODEL:
  ANCHOR_GENERATOR:
    SIZES: !!python/object/apply:eval ["[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]"]
VERSION: 2
"""


@pytest.fixture
def write(tmp_path: Path):
    """write(text, name) puts a file into tmp_path and returns its path."""

    def write_file(text: str, name: str = "user.yaml") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return write_file


def get(cfg: CfgNode, key: str):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def test_load_config_merges_base_then_file_then_opts(write):
    write("SOLVER: {MAX_ITER: 10, BASE_LR: 0.5, IMS_PER_BATCH: 4}\nVERSION: 2\n", "bases/a.yaml")
    write("SOLVER: {MAX_ITER: 20}\n", "bases/b.yaml")
    top = write('_BASE_: ["bases/a.yaml", "bases/b.yaml"]\nSOLVER: {BASE_LR: 0.25}\n')
    cfg = load_config(top, ["SOLVER.IMS_PER_BATCH", "2"])
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR, cfg.SOLVER.IMS_PER_BATCH) == (20, 0.25, 2)
    assert not cfg.is_frozen()


def test_load_config_equals_detectron2_on_a_file_with_an_eval_tag(write):
    path = write(EVAL_TAG)
    expected = get_retina_cfg()
    expected.merge_from_file(path)
    assert config_difference(load_config(path, []), expected) == {}
    assert load_config(path, []).MODEL.ANCHOR_GENERATOR.SIZES[0][2] == 32 * 2 ** (2.0 / 3)


def test_load_config_upgrades_version_1_as_detectron2_does(write, caplog):
    path = write("MODEL: {WEIGHT: old.pkl}\nVERSION: 1\n")
    cfg = load_config(path, [])
    assert cfg.MODEL.WEIGHTS == "old.pkl"
    assert [m for m in caplog.messages if "user.yaml has VERSION 1: it is brought to 2" in m]
    assert cfg.VERSION == 2
    assert cfg.MODEL.RETINANET.CLS_LOSS_NAME == "FocalLoss"


@pytest.mark.parametrize("source", ["yaml", "opts"])
@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("MODEL.RETINANET.FOCAL_LOSS_GAMMA", "2", 2.0),
        ("SOLVER.BASE_LR", "1e-3", 0.001),
        ("SOLVER.BASE_LR", "'1e-3'", 0.001),
        ("SOLVER.MAX_ITER", "9e4", 90000),
        ("SOLVER.WEIGHT_DECAY_BIAS", "1e-4", 0.0001),
        ("SOLVER.NESTEROV", "true", True),
        ("SOLVER.NESTEROV", "False", False),
        ("INPUT.MIN_SIZE_TRAIN", "600", (600,)),
        ("INPUT.MIN_SIZE_TRAIN", "[600, 700]", (600, 700)),
        ("DATASETS.TRAIN", "my_set", ("my_set",)),
        ("DATASETS.TRAIN", '("my_set")', ("my_set",)),
        ("DATASETS.TEST", '""', ()),
        ("DATASETS.TEST", "()", ()),
        ("MODEL.PIXEL_STD", "[57, '58.0', 59.5]", [57, 58.0, 59.5]),
        ("MODEL.ANCHOR_GENERATOR.SIZES", "[32, 64]", [32, 64]),
        ("OUTPUT_DIR", "2026", "2026"),
        ("MODEL.WEIGHTS", '""', ""),
    ],
)
def test_load_config_takes_the_type_of_the_default(write, source, key, text, expected):
    if source == "yaml":
        lines = [f"{'  ' * depth}{part}:" for depth, part in enumerate(key.split("."))]
        cfg = load_config(write("\n".join(lines) + f" {text}\n"), [])
    else:
        cfg = load_config(write("VERSION: 2\n"), [key, text])
    assert get(cfg, key) == expected
    assert type(get(cfg, key)) is type(expected)


def test_load_config_accepts_python_values_as_opts(write):
    cfg = load_config(write("VERSION: 2\n"), ["SOLVER.MAX_ITER", 7, "SOLVER.STEPS", [3, 5]])
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (7, (3, 5))


def test_load_config_keeps_nan_for_the_value_check(write):
    assert math.isnan(load_config(write("VERSION: 2\n"), ["SOLVER.BASE_LR", "nan"]).SOLVER.BASE_LR)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("- a\n- b\n", "must hold KEY: VALUE pairs, got a list"),
        ("3\n", "must hold KEY: VALUE pairs, got a single value"),
        ("MODEL: 3\n", r"MODEL is a group of keys, such as MODEL\.\w+, got 3 \(.*user.yaml, line 1\)"),
        ("MODEL:\n", r"MODEL is a group of keys, .* got None"),
        ("SOLVER:\n  BASE_LR: 1\n bad: [\n", r"user.yaml, line 3, column \d+ is not valid YAML"),
        ("SOLVER: {MAX_ITER: 1\n", r"line 2, column 1 is not valid YAML"),
        ("A: 1\n---\nB: 2\n", "line 2, column 1 is not valid YAML: but found another document"),
        ("_BASE_: no.yaml\n", r"_BASE_ names a file that does not exist: .*no.yaml \(.*user.yaml, line 1\)"),
        ("_BASE_: usre.yaml\n", r"Did you mean user.yaml\?"),
        ("_BASE_: user.yaml\n", "inherits from itself"),
        ("_BASE_: 5\n", r"_BASE_ takes a file name or a list of them \(.*line 1\)"),
        ("_BASE_:\n", "_BASE_ takes a file name"),
        ("SOLVER: {MAX_ITER: 1}\nINPUT: {}\nSOLVER: {BASE_LR: 1}\n", "has SOLVER twice, in lines 1 and 3"),
        (
            "MODEL:\n  RETINANET:\n    NUM_CLASES: 3\n",
            r"no config key MODEL.RETINANET.NUM_CLASES; did you mean MODEL.RETINANET.NUM_CLASSES\? \(.*line 3\)",
        ),
        ("MODEL:\n  RETINNANET:\n    NUM_CLASSES: 3\n", r"did you mean MODEL.RETINANET\? \(.*line 2\)"),
        ("ZZZZ: 1\n", r"There is no config key ZZZZ\. \(.*line 1\)"),
        ("5: 1\n", "There is no config key 5"),
        ("SOLVER:\n  BASE_LR: x\n", r"SOLVER.BASE_LR takes a float, got 'x' \(.*user.yaml, line 2\)"),
        ("SOLVER: {BASE_LR: {A: 1}}\n", "SOLVER.BASE_LR takes a float, got the keys A"),
        ("VERSION: 3\n", "VERSION must be a whole number from 1 to 2, got 3"),
        ("VERSION: two\n", "VERSION must be .* got 'two'"),
        ("VERSION: 1\nMODEL: {NO_SUCH: 1}\n", "has VERSION 1 and cannot be brought to 2: .*NO_SUCH"),
        ('A: !!python/object/apply:eval ["1 +"]\n', "line 1 has the tag !!python/object/apply:eval, which runs code"),
        ("A: !nosuchtag 1\n", "line 1, column 4 is not valid YAML: could not determine a constructor"),
        ("!!set {A, B}\n", "must hold KEY: VALUE pairs, got set"),
    ],
)
def test_load_config_refuses_file(write, text, match):
    path = write(text)
    with pytest.raises(SetupError, match=match):
        load_config(path, [])


def test_load_config_names_the_inherited_file_that_is_wrong(write):
    write("VERSION: 2\n", "bases/fine.yaml")
    write("SOLVER:\n  BASE_LR: x\n", "bases/wrong.yaml")
    top = write("_BASE_: [bases/fine.yaml, bases/wrong.yaml]\n")
    with pytest.raises(SetupError, match=r"wrong.yaml, line 2\)"):
        load_config(top, [])
    write("a: [\n", "bases/wrong.yaml")
    with pytest.raises(SetupError, match="bases/wrong.yaml, line 2, column 1 is not valid YAML"):
        load_config(top, [])


def test_load_config_refuses_a_loop_of_two_files(write):
    write("_BASE_: user.yaml\n", "other.yaml")
    with pytest.raises(SetupError, match="inherits from itself"):
        load_config(write("_BASE_: other.yaml\n"), [])


def test_load_config_names_files_near_a_missing_one(write, tmp_path):
    write("VERSION: 2\n", "retina_R50.yaml")
    with pytest.raises(SetupError, match=r"retina_r50.yml does not exist. Did you mean retina_R50.yaml\?"):
        load_config(str(tmp_path / "retina_r50.yml"), [])
    with pytest.raises(SetupError, match=r"zzz does not exist. .* has retina_R50.yaml\."):
        load_config(str(tmp_path / "zzz"), [])
    with pytest.raises(SetupError, match="There is not a folder .*nowhere"):
        load_config(str(tmp_path / "nowhere" / "a.yaml"), [])
    with pytest.raises(SetupError, match="is a folder. .* has retina_R50.yaml"):
        load_config(str(tmp_path), [])
    with pytest.raises(SetupError, match="No config file given"):
        load_config("", [])


def test_load_config_refuses_binary_file(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(b"\x80\x02\xff\xfe")
    with pytest.raises(SetupError, match="model.pth is not text"):
        load_config(str(path), [])


def test_load_config_refuses_unreadable_file(write, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(13, "Permission denied")

    path = write("VERSION: 2\n")
    monkeypatch.setattr(reading.os, "open", refuse)
    with pytest.raises(SetupError, match="user.yaml cannot be read: Permission denied"):
        load_config(path, [])


def test_load_config_passes_on_that_a_key_was_renamed(write, monkeypatch):
    defaults = get_retina_cfg()
    defaults.register_renamed_key("SOLVER.LR", "SOLVER.BASE_LR")
    monkeypatch.setattr(config_file, "get_retina_cfg", defaults.clone)
    with pytest.raises(SetupError, match=r"SOLVER.LR was renamed to SOLVER.BASE_LR; .* \(command line\)"):
        load_config(write("VERSION: 2\n"), ["SOLVER.LR", "1"])


@pytest.mark.parametrize(
    ("opts", "match"),
    [
        (["SOLVER.MAX_ITER"], "Overrides must be KEY VALUE pairs, got 1 words: SOLVER.MAX_ITER"),
        (["SOLVER.MAX_ITER=5"], "got 'SOLVER.MAX_ITER=5': write SOLVER.MAX_ITER 5"),
        (["SOLVER.MAX_ITER", "5", "--resume"], "--resume stands among the KEY VALUE pairs"),
        (
            ["MODEL.RETINANET.GAMMA", "2"],
            r"no config key MODEL.RETINANET.GAMMA; did you mean MODEL.RETINANET.FOCAL_LOSS_GAMMA\?",
        ),
        (["MODEL.ROI_HEDS.NUM_CLASSES", "2"], r"did you mean MODEL.ROI_HEADS.NUM_CLASSES\?"),
        (["MODEL.NMS_THRESH_TEST", "2"], r"did you mean MODEL.RETINANET.NMS_THRESH_TEST\?"),
        (["SLOVER.BASE_LR", "2"], r"did you mean SOLVER.BASE_LR\?"),
        (["NUM_CLASSES", "2"], r"did you mean MODEL.RETINANET.NUM_CLASSES\? \(command line\)"),
        (["solver.base_lr", "2"], r"did you mean SOLVER.BASE_LR\?"),
        (["SOLVER.BASE_LR.X", "2"], "no config key SOLVER.BASE_LR.X"),
        (["SOLVER", "2"], r"SOLVER is a group of keys, such as SOLVER\.\w+, got '2' \(command line\)"),
        (["SOLVER.BASE_LR", "x"], r"SOLVER.BASE_LR takes a float, got 'x' \(command line\)"),
        (["SOLVER.BASE_LR", "True"], "SOLVER.BASE_LR takes a float, got 'True'"),
        (["SOLVER.BASE_LR", "(0.1,)"], "SOLVER.BASE_LR takes a float"),
        (["SOLVER.MAX_ITER", "1.5"], "SOLVER.MAX_ITER takes a whole number, got '1.5'"),
        (["SOLVER.MAX_ITER", "True"], "SOLVER.MAX_ITER takes a whole number, got 'True'"),
        (["SOLVER.MAX_ITER", "inf"], "SOLVER.MAX_ITER takes a whole number, got 'inf'"),
        (["SOLVER.NESTEROV", "1"], "SOLVER.NESTEROV takes True or False, got '1'"),
        (["MODEL.WEIGHTS", "None"], r'MODEL.WEIGHTS takes text, got \'None\' \(write "" for none\)'),
        (["MODEL.WEIGHTS", "[1]"], "MODEL.WEIGHTS takes text"),
        (["INPUT.MIN_SIZE_TRAIN", "large"], "INPUT.MIN_SIZE_TRAIN takes a list, got 'large'"),
        (["INPUT.MIN_SIZE_TRAIN", "(600,"], r"INPUT.MIN_SIZE_TRAIN takes a list, got '\(600,'"),
        (["DATASETS.TRAIN", "('a'"], "DATASETS.TRAIN takes a list"),
        (["MODEL.RETINANET.IN_FEATURES", "[3, 4]"], "MODEL.RETINANET.IN_FEATURES takes a list"),
        (["DATASETS.TRAIN", "None"], "DATASETS.TRAIN takes a list, got 'None'"),
    ],
)
def test_load_config_refuses_opts(write, opts, match):
    with pytest.raises(SetupError, match=match):
        load_config(write("VERSION: 2\n"), opts)


def test_config_difference_names_changed_keys_only():
    base, cfg = get_retina_cfg(), get_retina_cfg()
    cfg.SOLVER.BASE_LR = 0.5
    cfg.MODEL.RETINANET.OHEM.SCOPE = "batch"
    cfg.MY_KEY = 1
    assert config_difference(cfg, base) == {
        "MODEL.RETINANET.OHEM.SCOPE": ("image", "batch"),
        "MY_KEY": (None, 1),
        "SOLVER.BASE_LR": (base.SOLVER.BASE_LR, 0.5),
    }


def test_load_base_config_stops_before_the_file_itself(write):
    write("SOLVER: {MAX_ITER: 10}\n", "a.yaml")
    write("SOLVER: {IMS_PER_BATCH: 4}\n", "b.yaml")
    top = write('_BASE_: ["a.yaml", "b.yaml"]\nSOLVER: {MAX_ITER: 30}\n')
    base = load_base_config(top)
    assert (base.SOLVER.MAX_ITER, base.SOLVER.IMS_PER_BATCH) == (10, 4)
    assert config_difference(load_config(top, []), base) == {"SOLVER.MAX_ITER": (10, 30)}
    assert config_difference(load_base_config(""), get_retina_cfg()) == {}
    assert config_difference(load_base_config(write("VERSION: 2\n", "c.yaml")), get_retina_cfg()) == {}


def test_load_config_loads_detectron2s_own_retinanet_files():
    zoo = Path(detectron2.__file__).parent / "model_zoo" / "configs" / "COCO-Detection"
    paths = sorted(zoo.glob("retinanet_*.yaml"))
    if not paths:
        pytest.skip("this Detectron2 comes without its configs")
    for path in paths:
        expected = get_retina_cfg()
        expected.merge_from_file(str(path))
        assert config_difference(load_config(str(path), []), expected) == {}


def test_none_is_accepted_where_it_is_the_default():
    # Base-Retina.yaml sets 0.0 where Detectron2 has None.
    cfg = load_config("configs/retina_R50_FPN.yaml", ["SOLVER.WEIGHT_DECAY_BIAS", "None"])
    assert cfg.SOLVER.WEIGHT_DECAY_BIAS is None
    with pytest.raises(SetupError, match="SOLVER.BASE_LR takes a float, got 'None'"):
        load_config("configs/retina_R50_FPN.yaml", ["SOLVER.BASE_LR", "None"])


def test_base_in_configs_that_is_not_there_is_the_shipped_one(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text('_BASE_: "configs/retina_R18_FPN_scratch.yaml"\nSOLVER:\n  MAX_ITER: 7\n')
    cfg = load_config(str(path), [])
    assert (cfg.SOLVER.MAX_ITER, cfg.MODEL.RESNETS.DEPTH) == (7, 18)
    assert load_base_config(str(path)).MODEL.RESNETS.DEPTH == 18
    own = tmp_path / "configs" / "retina_R18_FPN_scratch.yaml"
    own.parent.mkdir()
    own.write_text("MODEL:\n  RESNETS:\n    DEPTH: 34\n")
    assert load_config(str(path), []).MODEL.RESNETS.DEPTH == 34  # one's own file goes first


def test_removed_key_is_accepted_with_a_note_mapped_or_refused(write, monkeypatch, caplog):
    def halve(cfg, value):
        cfg.SOLVER.MAX_ITER = value // 2
        return "write SOLVER.MAX_ITER"

    def refuse(cfg, value):
        if value:
            raise SetupError("SOLVER.HARD was removed")
        return ""

    monkeypatch.setitem(keys.REMOVED_KEYS, "SOLVER.HALF", RemovedKey(0, halve))
    monkeypatch.setitem(keys.REMOVED_KEYS, "SOLVER.SOFT", RemovedKey(1.0, lambda cfg, value: "it has no effect"))
    monkeypatch.setitem(keys.REMOVED_KEYS, "SOLVER.HARD", RemovedKey(False, refuse))
    cfg = load_config(write("SOLVER: {SOFT: 1, HARD: False}\n"), ["SOLVER.HALF", "8"])
    assert cfg.SOLVER.MAX_ITER == 4 and not {"HALF", "SOFT", "HARD"} & cfg.SOLVER.keys()
    assert caplog.messages == ["SOLVER.HALF was removed, and is accepted for one release: write SOLVER.MAX_ITER"]
    load_config(write("SOLVER: {SOFT: 2}\n"), [])
    assert caplog.messages[1:] == ["SOLVER.SOFT was removed, and is accepted for one release: it has no effect"]
    with pytest.raises(SetupError, match=r"SOLVER.HARD was removed \(.*user.yaml, line 2\)"):
        load_config(write("SOLVER:\n  HARD: True\n"), [])
    with pytest.raises(SetupError, match=r"SOLVER.HALF takes a whole number, got 'x' \(command line\)"):
        load_config(write("VERSION: 2\n"), ["SOLVER.HALF", "x"])
    write("SOLVER: {SOFT: 3}\n", "base.yaml")
    caplog.clear()
    top = write("_BASE_: base.yaml\n")
    load_base_config(top)  # a run loads both, and has one note
    load_config(top, [])
    assert len(caplog.messages) == 1
    plain = get_retina_cfg()
    plain.merge_from_list(["SOLVER.HALF", 8])  # Detectron2's own merging ignores it
    assert plain.SOLVER.MAX_ITER == get_retina_cfg().SOLVER.MAX_ITER


OLD_SWITCHES = [
    (["MODEL.MAP_CLASSES", "True"], "by_class_name"),
    (["MODEL.IGNORE_MANIFEST", "True", "MODEL.SKIP_MISMATCHED_WEIGHTS", "True"], "ignore_manifest+skip_mismatched"),
    (["MODEL.LOAD", "trust", "TEST.ALLOW_PARTIAL_WEIGHTS", "True"], "trust+partial"),
    (["MODEL.LOAD", "trust", "MODEL.TRUST_WEIGHTS", "False"], "strict"),
    (["MODEL.TRUST_WEIGHTS", "False", "MODEL.MAP_CLASSES", "False"], "strict"),
]


@pytest.mark.parametrize(("opts", "load"), OLD_SWITCHES)
def test_old_switches_of_loading_become_words_of_one_key_with_a_note_each(opts, load, caplog):
    cfg = load_config("configs/Base-Retina.yaml", opts)
    assert cfg.MODEL.LOAD == load
    words = {switch: word for word, switch in LOAD_WORDS.items()}
    switched_on = [key for key, value in zip(opts[::2], opts[1::2], strict=True) if value == "True"]
    assert [message for message in caplog.messages if "was removed" in message] == [
        f"{key} was removed, and is accepted for one release: write MODEL.LOAD {words[key]}" for key in switched_on
    ]


def test_old_switches_in_a_file_are_checked_and_a_later_one_counts(tmp_path):
    (tmp_path / "a.yaml").write_text("MODEL: {MAP_CLASSES: True, TRUST_WEIGHTS: True}")
    (tmp_path / "b.yaml").write_text("_BASE_: a.yaml\nMODEL: {MAP_CLASSES: False}")
    assert load_config(str(tmp_path / "b.yaml"), []).MODEL.LOAD == "trust"
    (tmp_path / "a.yaml").write_text("MODEL: {MAP_CLASSES: 5}")
    with pytest.raises(SetupError, match=r"MODEL.MAP_CLASSES takes True or False, got 5 \(.*a.yaml, line 1\)"):
        load_config(str(tmp_path / "a.yaml"), [])
