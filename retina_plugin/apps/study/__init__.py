"""``retina study``: the paper's ablations, run and reported."""
