"""``retina analyze``."""
