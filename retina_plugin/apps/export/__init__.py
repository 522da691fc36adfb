"""``retina export`` and ``retina measure-export``: detectors as files that run without Detectron2."""
