"""``retina study``: runs the paper's ablations and reports the results."""
