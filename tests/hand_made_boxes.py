"""Hand-made ground truth and detections for the tests of the evaluation."""

import numpy as np

from retina_plugin.evaluation.boxes import Detections, Truth

SIDE = 100  # of every image, pixels


def make_truth(rows, *, images=1, classes=("cat", "dog"), ids=None, file_names=None) -> Truth:
    """Rows of (image, class, [x, y, w, h]) or, with True behind it, a crowd."""
    rows = sorted(rows, key=lambda row: row[0])
    boxes = np.array([row[2] for row in rows], dtype=float).reshape(-1, 4)
    return Truth(
        source="truth.json",
        image_ids=list(range(1, images + 1)),
        file_names=list(file_names or (f"{i}.jpg" for i in range(images))),
        sizes=np.full((images, 2), float(SIDE)),
        class_ids=list(range(1, len(classes) + 1)),
        class_names=list(classes),
        annotation_ids=np.array(ids or range(1, len(rows) + 1), dtype=np.int64),
        images=np.array([row[0] for row in rows], dtype=np.int64),
        classes=np.array([row[1] for row in rows], dtype=np.int64),
        boxes=boxes,
        areas=boxes[:, 2] * boxes[:, 3],
        crowd=np.array([len(row) > 3 for row in rows], dtype=bool),
    )


def make_found(rows) -> Detections:
    """Rows of (image, class, [x, y, w, h], score), in any order."""
    rows = sorted(rows, key=lambda row: (row[0], -row[3]))
    return Detections(
        images=np.array([row[0] for row in rows], dtype=np.int64),
        classes=np.array([row[1] for row in rows], dtype=np.int64),
        boxes=np.array([row[2] for row in rows], dtype=float).reshape(-1, 4),
        scores=np.array([row[3] for row in rows], dtype=float),
    )


def from_coco(content, detections):
    """Truth and detections of what ``random_coco.random_set`` makes, without files."""
    annotations = sorted(content["annotations"], key=lambda annotation: annotation["image_id"])
    truth = make_truth(
        [(a["image_id"], a["category_id"], a["bbox"], *([True] if a["iscrowd"] else [])) for a in annotations],
        images=len(content["images"]),
        classes=[category["name"] for category in content["categories"]],
        ids=[a["id"] for a in annotations],
    )
    truth.areas[:] = [a["area"] for a in annotations]
    found = make_found([(d["image_id"], d["category_id"], d["bbox"], d["score"]) for d in detections])
    return truth, found


def distinct(detections):
    """The detections with no two scores alike, so that no number depends on the order of equals."""
    return [d | {"score": round(d["score"] * 0.9 + 0.0001 * (i * 7919 % 997), 6)} for i, d in enumerate(detections)]
