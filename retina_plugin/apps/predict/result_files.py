"""Writes the detections as ``predictions.json`` for programs and ``predictions.csv`` for spreadsheets."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from ...errors import SetupError, one_line
from ...files import write_whole
from .predictor import Detections

__all__ = ["ResultFiles"]

NAMES = ("predictions.json", "predictions.csv")
COLUMNS = ("file", "frame", "class", "label", "score", "x1", "y1", "x2", "y2")
# Digits after the point: boxes to a thousandth of a pixel, scores finer than any threshold.
BOX_DIGITS, SCORE_DIGITS = 3, 6


class ResultFiles:
    """Collects detections and writes each file whole or not at all.

    The JSON is a COCO data set whose annotations have a ``score``; its list of annotations alone is a COCO result file.
    Category ids are class indices from 0, image ids count from 1.
    """

    def __init__(self, folder: Path, class_names: tuple[str, ...], *, overwrite: bool = False):
        """
        Raises:
            SetupError: the folder cannot be created, or holds results already and ``overwrite`` is not set.
        """
        there = [folder / name for name in NAMES if (folder / name).exists()]
        if there and not overwrite:
            raise SetupError(f"{there[0]} exists: give --output another folder, or --overwrite.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(f"--output {folder} cannot be made ({error.strerror}): give another folder.") from error
        self.folder = folder
        self.num_objects = 0
        self._categories = [{"id": k, "name": name} for k, name in enumerate(class_names)]
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._rows: list[tuple] = []

    def add(self, name: str, detections: Detections, frame: int | None = None) -> None:
        """Add the detections in the image ``name``, or in a page or frame (counted from 0) of the file ``name``."""
        height, width = detections.image_size
        image = {"id": len(self._images) + 1, "file_name": name, "width": width, "height": height}
        self._images.append(image if frame is None else {**image, "frame": frame})
        for box, score, k in zip(
            detections.boxes.tolist(), detections.scores.tolist(), detections.classes.tolist(), strict=True
        ):
            x1, y1, x2, y2 = (round(x, BOX_DIGITS) for x in box)
            score = round(score, SCORE_DIGITS)
            w, h = round(x2 - x1, BOX_DIGITS), round(y2 - y1, BOX_DIGITS)
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1, "image_id": image["id"], "category_id": k,
                    "bbox": [x1, y1, w, h], "area": round(w * h, BOX_DIGITS), "iscrowd": 0, "score": score,
                }
            )  # fmt: skip
            label = self._categories[k]["name"]
            self._rows.append((one_line(name), "" if frame is None else frame, k, label, score, x1, y1, x2, y2))
        self.num_objects += len(detections)

    def write(self, info: dict[str, Any]) -> list[Path]:
        """Write both files and return their paths; ``info`` describes how the predictions were made."""
        content = {
            "info": info,
            "images": self._images,
            "categories": self._categories,
            "annotations": self._annotations,
        }
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([COLUMNS, *self._rows])
        paths = [self.folder / name for name in NAMES]
        for path, text in zip(paths, (json.dumps(content) + "\n", table.getvalue()), strict=True):
            write_whole(path, text)
        return paths
