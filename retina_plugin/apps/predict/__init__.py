"""Prediction: ``RetinaPredictor`` and ``retina predict``."""
