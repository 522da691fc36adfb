"""The program ``retina``: its list of commands, ``train`` and ``configs``, in the repository and installed."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retina_cli import configs as configs_command
from retina_cli import main as program
from retina_plugin import __version__
from retina_plugin.config.load import load_base_config, load_config
from retina_plugin.config.shipped import find_config, list_configs
from retina_plugin.data.sample.files import make_sample_dataset
from retina_plugin.errors import SetupError
from retina_plugin.training import processes
from retina_plugin.weights.files import DISK_FULL

ROOT = Path(__file__).parents[3]


def test_help_has_examples_first_and_every_command_in_a_group(capsys):
    assert program.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert text.index("Examples:") < text.index("\ndata\n") < text.index("\ntraining\n") < text.index("\nlooking\n")
    assert len(program.COMMANDS) > 5
    for name, (group, does) in program.COMMANDS.items():
        assert group in program.GROUPS and f"  {name} " in text and does in text
        assert program.build_parser(name).prog == f"retina {name}"
    examples = [line.split()[1] for line in text.splitlines() if line.startswith("    retina ")]
    assert len(examples) > 3 and set(examples) <= set(program.COMMANDS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predct"], "error: there is no command 'predct': did you mean predict?"),
        (["xyz"], "error: there is no command 'xyz': it must be one of quickstart, sample, convert, doctor, configs, "),
    ],
)
def test_typo_gets_the_nearest_command(capsys, words, message):
    assert program.main(words) == 2
    assert capsys.readouterr().err.startswith(message)


def test_benchmark_names_where_it_went(capsys):
    assert program.main(["benchmark", "all"]) == 2
    assert "run `python -m benchmarks` in a checkout" in capsys.readouterr().err


def test_no_command_shows_the_list_with_status_2(capsys):
    assert program.main([]) == 2
    assert "usage: retina COMMAND" in capsys.readouterr().out


def test_version(capsys):
    assert program.main(["--version"]) == 0
    assert capsys.readouterr().out == f"retina_plugin {__version__}\n"


def test_train_is_train_net(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(processes, "start", lambda run, args: seen.append((args.config_file, args.opts)))
    assert program.main(["train", "--config-file", "a.yaml", "SEED", "1"]) == 0
    assert seen == [("a.yaml", ["SEED", "1"])]
    for prog in ("retina train", "train_net.py"):
        with pytest.raises(SystemExit):
            program.main(["train", "--help"], prog=prog)
        text = capsys.readouterr().out
        assert text.startswith(f"usage: {prog} ") and f"{prog} --config-file configs/retina_R101_FPN.yaml" in text


@pytest.mark.parametrize("number", sorted(DISK_FULL))
def test_full_disk_is_a_mistake_to_fix_and_another_error_is_not(monkeypatch, capsys, number):
    def fail(run, args):
        raise OSError(number, "no room")

    monkeypatch.setattr(processes, "start", fail)
    assert program.main(["train", "--config-file", "my.yaml"]) == 2
    assert "no room. Free space, and go on with --resume." in capsys.readouterr().err
    number = errno.EACCES
    with pytest.raises(OSError, match="no room"):
        program.main(["train", "--config-file", "my.yaml"])


def test_sample_takes_the_defaults_of_its_function():
    args = vars(program.build_parser("sample").parse_args([]))
    assert {name: args[name] for name in args if name != "root"} == make_sample_dataset.__kwdefaults__


def test_shipped_config_is_named_from_any_folder(tmp_path, monkeypatch):
    name = "configs/retina_R50_FPN.yaml"
    config, base = load_config(name, []).dump(), load_base_config(name).dump()
    monkeypatch.chdir(tmp_path)
    assert load_config(name, []).dump() == config != base
    assert load_base_config(name).dump() == base
    own = tmp_path / name  # a user's own of that name counts first
    own.parent.mkdir()
    own.write_text("SEED: 5\n")
    assert load_config(name, []).SEED == 5
    assert find_config("other/retina_R50_FPN.yaml") == "other/retina_R50_FPN.yaml"


def test_misspelt_shipped_config_is_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SetupError, match="configs/retina_R50_FPM.yaml does not exist. Did you mean retina_R50_FPN"):
        load_config("configs/retina_R50_FPM.yaml", [])


def test_configs_lists_each_with_a_sentence(capsys):
    assert (
        program.main(
            [
                "configs",
            ]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == list_configs() and len(lines) > 10
    assert all(len(line) <= configs_command.WIDTH and len(line.split()) > 4 for line in lines)
    rows = len(list((ROOT / "configs/ablations").glob("*/*.yaml")))
    assert lines[-1].startswith(f"and {rows} rows of the paper's studies")


@pytest.mark.parametrize("name", ["retina_R50_FPN", "retina_R50_FPN.yaml", "configs/retina_R50_FPN.yaml"])
def test_configs_says_where_one_is(capsys, name):
    assert program.main(["configs", name]) == 0
    assert Path(capsys.readouterr().out.strip()) == ROOT / "configs/retina_R50_FPN.yaml"


def test_copied_config_says_the_same(tmp_path, capsys):
    assert program.main(["configs", "examples/bccd", "retina_R101_FPN_jitter", "--copy", str(tmp_path / "mine")]) == 0
    copies = capsys.readouterr().out.splitlines()
    assert copies[0] == str(tmp_path / "mine/examples/bccd.yaml")
    assert sorted(copies) == sorted(str(path) for path in (tmp_path / "mine").rglob("*.*"))
    for name in ("examples/bccd.yaml", "retina_R101_FPN_jitter.yaml"):
        assert load_config(str(tmp_path / "mine" / name), []).dump() == load_config(f"configs/{name}", []).dump()
    assert program.main(["configs", "examples/bccd", "--copy", str(tmp_path / "mine")]) == 2
    assert "is there already: give --copy another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["retina_R50FPN"], "There is no config retina_R50FPN. Did you mean retina_R50_FPN?"),
        (["zzz"], "There is no config zzz. `retina configs` lists them."),
        (["--copy", "x"], "--copy needs the name of a config"),
    ],
)
def test_mistakes_in_configs(capsys, words, message):
    assert program.main(["configs", *words]) == 2
    assert message in capsys.readouterr().err


def test_installed_package_has_the_configs(tmp_path):
    """What pip would install, without its build environment: setup.py's own copy of the package."""
    command = [
        "setup.py",
        "-q",
        "egg_info",
        "--egg-base",
        str(tmp_path),
        "build_py",
        "--build-lib",
        str(tmp_path / "lib"),
    ]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    installed = tmp_path / "lib/retina_plugin/configs"
    shipped = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml")}
    assert {path.relative_to(installed) for path in installed.rglob("*.yaml")} == shipped and len(shipped) > 60
    code = """
from retina_plugin.config.load import load_config
from retina_plugin.apps.study.index import load_studies
import retina_cli.quickstart
from retina_plugin.config.shipped import CONFIGS
import retina_plugin
assert load_config("configs/retina_R50_FPN.yaml", []).SOLVER.BASE_LR == 0.01
cfg = retina_plugin.get_retina_cfg()
cfg.merge_from_file(retina_plugin.find_config("configs/retina_R50_FPN.yaml"))
assert cfg.MODEL.META_ARCHITECTURE == "FocalRetinaNet" and cfg.SOLVER.BASE_LR == 0.01
assert load_config(str(CONFIGS / "quickstart.yaml"), []).MODEL.RETINANET.NUM_CLASSES == 10
print(len(load_studies(with_changes=False)), retina_cli.quickstart.__file__)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "lib")},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    count, file = result.stdout.split()
    assert int(count) > 5 and file.startswith(str(tmp_path))
