"""``retina doctor``: whether a training will work and makes sense, before it starts."""
