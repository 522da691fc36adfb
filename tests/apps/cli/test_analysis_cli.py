"""``python -m retina_plugin.analysis``: exit statuses and the list of commands."""

import sys
from types import ModuleType

import pytest

from retina_plugin.apps.cli import analyze as cli
from retina_plugin.errors import SetupError


@pytest.fixture
def command(monkeypatch):
    """command(run) makes ``run`` the only command, "look"."""

    def make(run):
        module = ModuleType("retina_plugin.apps.analysis.look")
        module.EPILOG, module.run = "examples: look", run
        module.add_arguments = lambda parser: parser.add_argument("--at", default="all")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(cli, "COMMANDS", {"look": ("look", ""), "other": ("module_that_is_not_there", "")})

    return make


def test_arguments_reach_the_command_and_no_other_is_imported(command):
    seen = []
    command(lambda args: seen.append(args.at))
    assert cli.main(["look", "--at", "anchors"]) == 0
    assert seen == ["anchors"]


def test_mistake_gives_one_line_and_status_2(command, capsys):
    def run(args):
        raise SetupError("--at must be known, got 'all': give another.")

    command(run)
    assert cli.main(["look"]) == 2
    assert capsys.readouterr().err == "error: --at must be known, got 'all': give another.\n"


def test_interruption_has_the_status_of_the_shell(command):
    def run(args):
        raise KeyboardInterrupt

    command(run)
    assert cli.main(["look"]) == 130


@pytest.mark.parametrize("name", ["losses", "loss-cdf", "imbalance"])
def test_help_begins_with_what_the_command_does_and_has_examples(name, capsys):
    with pytest.raises(SystemExit) as exit_status:
        cli.main([name, "--help"])
    assert exit_status.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text and name in text.split("examples:")[1]
