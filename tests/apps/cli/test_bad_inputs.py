"""No command ends in a traceback: bad values and bad files by the thousand (tests/bad_inputs.py)."""

import collections

import bad_inputs
import pytest
from bad_inputs import BadInput, End, find_fault

from retina_cli.main import COMMANDS

STRIDE = 13  # every 13th case; all of them by tools/faults/bad_inputs.py
FEW = 50  # cases of a command with hardly an argument


def test_every_command_refuses_bad_inputs_in_a_sentence(tiny_cfg, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bad_inputs.write_bench(tmp_path, tiny_cfg)
    bad_inputs.spare_the_quickstart(monkeypatch, tmp_path)
    cases = list(bad_inputs.bad_inputs())
    counts = collections.Counter(case.words[0] for case in cases)
    assert set(counts) == set(COMMANDS) and min(counts.values()) >= FEW and counts.total() > 5000
    faults = []
    for number, case in enumerate(cases[::STRIDE]):
        end = bad_inputs.attempt(case, tmp_path / f"out{number}")
        if fault := find_fault(case, end):
            faults.append(f"retina {' '.join(case.words)[:200]!r}: {fault}")
    with capsys.disabled():
        print(f"\n{len(COMMANDS)} commands, {len(cases[::STRIDE])} bad inputs, {len(faults)} faults")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("end", "fault"),
    [
        (End(None, "", "Traceback (most recent call last):\n  ...\nKeyError: 'x'"), "traceback: KeyError: 'x'"),
        (End(2, "Traceback (most recent call last):\nKeyError"), "a traceback is printed"),
        (End(0, ""), "succeeds"),
        (End(2, "error: no\n" + "more\n" * 9), "a message of 10 lines"),
        (
            End(2, "error: something is wrong."),
            "neither the argument nor the value is named: error: something is wrong.",
        ),
        (End(2, "usage: retina\n" * 9 + "error: argument --score: must be a finite number, got nan"), ""),
        (End(1, "1 could not be read"), ""),
    ],
)
def test_find_fault_knows_the_bad_ends(end, fault):
    assert find_fault(BadInput(("predict",), "--score", "nan", must_fail=True), end) == fault
