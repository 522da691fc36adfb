"""``retina export``."""
