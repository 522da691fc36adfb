"""The same few hundred cases of every fuzzing target each time; ``faults/fuzz.py`` tries as many as one likes."""

import pytest
from fuzz_files import mutate_bytes, mutate_tree
from fuzz_targets import TARGETS, run

from retina_plugin.data.formats import csv_boxes
from retina_plugin.modeling import matcher

CASES = {"config": 40}


@pytest.mark.parametrize("name", TARGETS)
def test_law_holds(name):
    run(name, CASES.get(name, 150))


def test_a_broken_law_is_found(monkeypatch):
    monkeypatch.setattr(csv_boxes, "float", lambda text: 1 / (len(text) - 2), raising=False)
    with pytest.raises(ZeroDivisionError):
        run("format_csv", 150)
    monkeypatch.setattr(matcher, "best_overlaps", lambda tiles, boxes, min_iou: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("labelling", 2)


def test_mutations_change_what_they_are_given():
    edits = [(0.5, kind, 7) for kind in range(6)]
    assert len({mutate_bytes(b"0123456789", [edit]) for edit in edits}) == 6
    tree = {"a": [1, {"b": 2}]}
    changed = [mutate_tree(tree, [(0.0, kind, None)]) for kind in (0, 2, 3)]
    assert changed == [{}, {"None": [1, {"b": 2}]}, {"a": None}] and tree == {"a": [1, {"b": 2}]}
    assert mutate_tree(tree, [(0.3, 1, None)]) == {"a": [1, {"b": 2}, 1]}
