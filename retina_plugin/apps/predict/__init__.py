"""Prediction with a trained detector: ``RetinaPredictor`` and ``retina predict``."""
