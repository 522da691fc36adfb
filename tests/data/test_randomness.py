"""Random numbers by their place: each generator, each number of the key, and what is left behind."""

import random

import numpy as np
import pytest
import torch

from retina_plugin.data.randomness import seed_generators, seeded


def draw():
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_each_generator_takes_each_number_of_the_key_in_its_place():
    keys = [(1, 2), (2, 1), (3, 0), (0, 3), (1, 3), (1, 2, 1)]
    for draws in zip(*[(seed_generators(*key), draw())[1] for key in keys], strict=True):
        assert len(set(draws)) == len(keys)


def test_generators_of_the_gpus_are_seeded_too_but_not_by_an_image(monkeypatch):
    seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    seed_generators(1, 2)
    assert seeds == [torch.initial_seed()]
    with seeded(1, 3):
        assert torch.initial_seed() != seeds[0]
    assert len(seeds) == 1


def test_generators_go_on_after_an_image_that_fails():
    seed_generators(1)
    expected = draw()
    seed_generators(1)
    with pytest.raises(OSError), seeded(2):
        draw()
        raise OSError
    assert draw() == expected
