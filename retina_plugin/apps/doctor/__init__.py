"""``retina doctor``."""
