"""``retina evaluate`` and ``retina compare``."""
