"""Numbers of detections: COCO scores, error types, calibration, comparison."""
