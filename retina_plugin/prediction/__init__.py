"""A trained detector on images, folders, videos: ``RetinaPredictor`` and ``retina predict`` (``docs/predict.md``)."""
