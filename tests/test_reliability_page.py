"""docs/reliability.md is what the records say, and a fault that was not met well shows."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run_all():
    spec = importlib.util.spec_from_file_location("run_all", ROOT / "tools/faults/run_all.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_is_made_from_the_records(run_all):
    assert run_all.PAGE.read_text(encoding="utf-8") == run_all.page(run_all.RECORDS)


def test_records_of_both_kinds_become_rows(run_all, tmp_path):
    row = {"fault": "a | b", "tried": 1, "lost": "nothing", "seen": "error: x", "good": True, "command": "c"}
    (tmp_path / "a.json").write_text(json.dumps({"rows": {"one": row, "two": {**row, "good": False}}}))
    (tmp_path / "kill_9_workers_2.json").write_text(json.dumps({"fault": "kill", "kills": 1050, "faults": []}))
    (tmp_path / "fuzz_anchors.json").write_text(json.dumps({"fault": "fuzzing", "cases": 5, "faults": []}))
    (tmp_path / "z.json").write_text(json.dumps({"cases": 10, "faults": ["x", "y"]}))
    page = run_all.page(tmp_path)
    lines = page.removeprefix(run_all.HEAD).removesuffix(run_all.TAIL).splitlines(keepends=True)
    assert lines == [
        "| a \\| b | 1 | nothing | error: x | yes | `c` |\n",
        "| a \\| b | 1 | nothing | error: x | NO | `c` |\n",
        "| fuzzing | 5 | nothing |  | yes | `tools/faults/fuzz.py anchors --cases 100000` |\n",
        "| kill | 1,050 | nothing |  | yes | `tools/faults/kills.py --workers 2 --seed 1 --kills 50 --output "
        "results/reliability/kill_9_workers_2.json` |\n",
        "| z | 10 | 2 cases |  | NO | `` |\n",
    ]


def test_every_script_has_a_quick_command_without_a_record(run_all):
    scripts = {f"tools/faults/{path.name}" for path in (ROOT / "tools/faults").glob("*.py")}
    helpers = {f"tools/faults/{name}.py" for name in ("bench", "many_processes", "records", "run_all")}
    for quick in (False, True):
        commands = run_all.commands(quick=quick)
        assert {command.split()[0] for command in commands} == scripts - helpers
        assert all(("results/reliability" in command) != quick for command in commands)
