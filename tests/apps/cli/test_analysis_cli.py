"""``retina analyze``: its analyses, their help, and the arguments that reach them."""

import pytest

from retina_cli.main import build_parser, main
from retina_plugin.apps.analysis import loss_curves
from retina_plugin.errors import SetupError


def test_arguments_reach_the_analysis(monkeypatch):
    seen = []
    monkeypatch.setattr(loss_curves, "run", lambda args: seen.append((args.alpha, args.output)))
    assert main(["analyze", "losses", "--alpha", "0.5"]) == 0
    assert seen == [(0.5, "output/losses")]


def test_mistake_gives_one_line_and_status_2(monkeypatch, capsys):
    def run(args):
        raise SetupError("--at must be known, got 'all': give another.")

    monkeypatch.setattr(loss_curves, "run", run)
    assert main(["analyze", "losses"]) == 2
    assert capsys.readouterr().err == "error: --at must be known, got 'all': give another.\n"


@pytest.mark.parametrize("name", ["losses", "loss-cdf", "imbalance", "anchors", "assignment"])
def test_help_begins_with_what_the_command_does_and_has_examples(name, capsys):
    with pytest.raises(SystemExit) as exit_status:
        main(["analyze", name, "--help"])
    assert exit_status.value.code == 0
    text = capsys.readouterr().out
    assert f"retina analyze {name} " in text.split("Examples:")[1]


def test_every_analysis_has_a_module_that_runs_it():
    import importlib

    (commands,) = (action for action in build_parser("analyze")._actions if action.dest == "analysis")
    modules = [parser.get_default("module") for parser in commands.choices.values()]
    assert len(modules) == 5 and all(callable(importlib.import_module(module).run) for module in modules)
