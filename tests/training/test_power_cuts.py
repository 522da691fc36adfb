"""Checkpoints over a power cut, by the model of a disk of ``faults/power_cuts.py``; it must see what would lose one."""

import os

import pytest
from power_cuts import SAVES, cut_everywhere

from retina_plugin import files as whole_files
from retina_plugin.weights import checkpointer as checkpoint


@pytest.mark.parametrize("keep", [0, 1])
def test_a_checkpoint_is_left_by_every_cut(keep):
    tried, faults = cut_everywhere(keep)
    assert tried > 4 * SAVES and not faults


@pytest.mark.parametrize("left_out", ["flush of the content", "flush of the folder", "order of the names"])
def test_a_step_of_writing_that_is_left_out_is_seen(left_out, monkeypatch):
    if left_out == "flush of the content":
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)
        monkeypatch.setattr(whole_files, "_sync_folder", lambda folder: None)
    elif left_out == "flush of the folder":
        monkeypatch.setattr(whole_files, "_sync_folder", lambda folder: None)
    else:
        monkeypatch.setattr(checkpoint, "write_checkpoint", _named_first(checkpoint.write_checkpoint))
    assert cut_everywhere(keep=0)[1]


def _named_first(write_checkpoint):
    def write(path, content):
        if path.name != "model_best.pth":
            checkpoint.name_last(path.parent, path.name)
        write_checkpoint(path, content)

    return write
