"""``retina doctor``: checks the environment, config, data, anchors and weights before a training."""
