"""COCO's metrics of boxes (paper Sec. 5), by hotcoco if it is installed: pycocotools' numbers in less time."""

import io
import json
import logging
import os
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco_evaluation import COCOevalMaxDets
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from packaging.version import Version

from ..data.coco import is_difficult
from .origin import origin_path

__all__ = ["RESULTS", "SUMMARY", "BoxEvaluator", "PycocotoolsEval", "hotcoco_module", "hotcoco_truth"]

logger = logging.getLogger(__name__)

SUMMARY = "COCO's summary:"  # begins the log line of what the scorers print
RESULTS = "coco_instances_results.json"  # Detectron2's name for the detections in COCO's form
# The oldest release that was compared with pycocotools here. 0.5.0 gives wrong numbers silently (its issue 5).
OLDEST = Version("1.3.0")
# Fields that the metrics of boxes read. hotcoco refuses some real files for other fields (licences, polygons).
READ = {"images": ("id",), "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd")}


class PycocotoolsEval(COCOevalMaxDets):
    """pycocotools' scoring, with VOC's rule for objects marked difficult.

    They are not counted, and any number of detections that match one by the ordinary IoU are neither right nor wrong.
    In COCO a crowd is so treated, but a detection matches it by the part inside.
    """

    def _prepare(self) -> None:
        super()._prepare()
        for gts in self._gts.values():
            for gt in filter(is_difficult, gts):
                gt["ignore"] = 1

    def evaluateImg(self, imgId, catId, aRng, maxDet):
        gts = self._gts[imgId, catId]
        self._gts[imgId, catId] = [{**gt, "iscrowd": 1} if is_difficult(gt) else gt for gt in gts]
        try:
            return super().evaluateImg(imgId, catId, aRng, maxDet)
        finally:
            self._gts[imgId, catId] = gts


class BoxEvaluator(COCOEvaluator):
    """Detectron2's evaluator of boxes, with hotcoco for the scoring.

    pycocotools scores instead if hotcoco is missing or older than ``OLDEST``, refuses the annotations (ids that are not
    numbers) or the predictions (a score that is NaN), or could give other numbers (see ``hotcoco_truth``).
    Objects marked difficult are scored by ``PycocotoolsEval``.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: str | None,
        max_dets_per_image: int | None,
        note_origin: Callable[[Path, str], None] | None = None,
    ):
        """Take the arguments of Detectron2's evaluator; ``max_dets_per_image`` None is COCO's 100.

        Args:
            note_origin: is called with the path of the results, once they are written, and that of the ground truth.
        """
        hotcoco = hotcoco_module()
        super().__init__(
            dataset_name,
            tasks=("bbox",),
            output_dir=output_dir,
            max_dets_per_image=max_dets_per_image,
            # False silences Detectron2's message that it falls back to pycocotools.
            use_fast_impl=hotcoco is None,
        )
        self._note_origin = note_origin
        self._ground_truth, self._scorer = None, None
        if self._do_evaluation and any(map(is_difficult, self._coco_api.dataset["annotations"])):
            self._ground_truth, self._scorer = self._coco_api, PycocotoolsEval
        elif self._do_evaluation and hotcoco:
            self._ground_truth, self._scorer = hotcoco_truth(hotcoco, self._coco_api.dataset), hotcoco.COCOeval

    @property
    def package(self) -> str:
        """Name and version of the scoring package."""
        name = "hotcoco" if self._ground_truth and self._scorer is not PycocotoolsEval else "pycocotools"
        return f"{name} {version(name)}"

    def evaluate(self, img_ids: list[int] | None = None) -> dict:
        """Score as Detectron2 does, and note of which set and settings the stored detections are."""
        results = Path(self._output_dir or "", RESULTS)
        is_writing = self._output_dir and self._note_origin and comm.is_main_process()
        if is_writing:  # a note of earlier detections must not outlast them
            origin_path(results).unlink(missing_ok=True)
        with redirect_stdout(io.StringIO()) as printed:  # pycocotools and hotcoco print their progress and a table
            scores = super().evaluate(img_ids)
        if printed.getvalue():
            logger.info("%s\n%s", SUMMARY, printed.getvalue().rstrip())
        if is_writing and results.is_file():
            self._note_origin(results, self._metadata.json_file)
        return scores

    def _eval_predictions(self, predictions: list[dict], img_ids: list[int] | None = None) -> None:
        if self._ground_truth is None:
            super()._eval_predictions(predictions, img_ids=img_ids)
            return
        # A copy of the box part of Detectron2's method, which has no argument for another scorer.
        results = [instance for prediction in predictions for instance in prediction["instances"]]
        if class_ids := self._metadata.get("thing_dataset_id_to_contiguous_id"):
            category_ids = {class_id: category_id for category_id, class_id in class_ids.items()}
            results = [{**result, "category_id": category_ids[result["category_id"]]} for result in results]
        if self._output_dir:
            with PathManager.open(os.path.join(self._output_dir, RESULTS), "w") as file:
                file.write(json.dumps(results))
        try:
            evaluation = self._score(results, img_ids) if results else None
        except ValueError as error:
            logger.warning("hotcoco refuses the predictions (%s): pycocotools scores them", error)
            self._ground_truth = None
            super()._eval_predictions(predictions, img_ids=img_ids)
            return
        names = self._metadata.get("thing_classes")
        self._results["bbox"] = self._derive_coco_results(evaluation, "bbox", class_names=names)

    def _score(self, results: list[dict], img_ids: list[int] | None):
        """Score results in COCO's form, and return the summarized ``COCOeval``.

        Raises:
            ValueError: hotcoco refuses a result (a score that is NaN).
        """
        detections = self._ground_truth.loadRes(results)
        evaluation = self._scorer(self._ground_truth, detections, "bbox")
        # A limit below 10 comes as [1, 10, limit]; pycocotools sorts by itself, hotcoco does not.
        evaluation.params.maxDets = sorted(self._max_dets_per_image)
        if img_ids is not None:
            evaluation.params.imgIds = img_ids
        evaluation.evaluate()
        evaluation.accumulate()
        with warnings.catch_warnings():
            # It warns of limits other than COCO's 1, 10 and 100, which the user has set on purpose.
            warnings.filterwarnings("ignore", message="hotcoco: max_dets differ", category=UserWarning)
            evaluation.summarize()
        return evaluation


def hotcoco_module() -> ModuleType | None:
    """Import hotcoco; None if it is not installed or older than ``OLDEST``."""
    try:
        import hotcoco
    except ImportError:
        return None
    return hotcoco if Version(hotcoco.__version__) >= OLDEST else None


def hotcoco_truth(hotcoco: ModuleType, dataset: dict):
    """Build hotcoco's ground truth from COCO JSON; None if hotcoco and pycocotools could give different numbers.

    Args:
        hotcoco: the package, from ``hotcoco_module``.
        dataset: content of the file, with "images", "annotations" and "categories".
    """
    try:
        content = {part: [{key: entry[key] for key in keys} for entry in dataset[part]] for part, keys in READ.items()}
        content["categories"] = [{"id": entry["id"], "name": str(entry["id"])} for entry in dataset["categories"]]
        if any(map(is_difficult, dataset["annotations"])):
            return None
        if any(entry["id"] == 0 for entry in content["annotations"]):
            # pycocotools uses 0 for "no match" and so scores a detection of that box as false; hotcoco does not.
            raise ValueError("pycocotools never counts the annotation with id 0 as found; number them from 1")
        ground_truth = hotcoco.COCO(content)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        logger.warning("hotcoco cannot read the annotations (%r): pycocotools scores", error)
        return None
    if ground_truth.load_warnings:  # a repeated id, which hotcoco and pycocotools treat differently
        logger.warning("%s pycocotools scores", " ".join(ground_truth.load_warnings))
        return None
    return ground_truth
