"""Measure detections: COCO metrics, error types, calibration and comparison of detectors."""
