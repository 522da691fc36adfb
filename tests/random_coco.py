"""A random data set in COCO's form with detections of it."""

import numpy as np

CLASSES, IMAGES = 4, 12


def random_set(seed, first_id=1):
    """COCO JSON and detections: every third image empty, every fourth without a detection, crowds, ties, all sizes."""
    random = np.random.default_rng(seed)
    annotations, detections = [], []
    for image_id in range(IMAGES):
        number = random.integers(1, 8) if image_id % 3 else 0
        boxes = np.hstack([random.uniform(0, 300, (number, 2)), np.exp(random.uniform(1, 6, (number, 2)))])
        classes = random.integers(CLASSES, size=number)
        for box, class_id in zip(boxes.tolist(), classes.tolist(), strict=True):
            annotations.append(
                {"id": len(annotations) + first_id, "image_id": image_id, "category_id": class_id, "bbox": box,
                 # A mask's area is part of its box's, so that a box can be ignored for a size and its match not.
                 "area": box[2] * box[3] * random.choice([0.3, 1.0]), "iscrowd": int(random.random() < 0.2)}
            )  # fmt: skip
        for _ in range(random.integers(20, 40) if image_id % 4 else 0):
            box, class_id = [*random.uniform(0, 300, 2), *random.uniform(0, 200, 2)], random.integers(CLASSES)
            if number and random.random() < 0.7:
                chosen = random.integers(number)
                box, class_id = boxes[chosen] * random.normal(1, 0.05, 4), classes[chosen]
            detections.append(
                {"image_id": image_id, "category_id": int(class_id), "bbox": [float(x) for x in box],
                 "score": round(random.random(), 1)}
            )  # fmt: skip
    content = {
        "images": [{"id": image_id, "width": 640, "height": 480} for image_id in range(IMAGES)],
        "annotations": annotations,
        "categories": [{"id": k, "name": f"class {k}"} for k in range(CLASSES)],
    }
    return content, detections
