"""``retina analyze``: examines losses, labels, anchors and checkpoints without training."""
