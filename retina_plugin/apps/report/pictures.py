"""Picture sheets: ground truth on the left, predictions on the right, what was missed or wrong dashed.

Drawing is OpenCV's; boxes are (x1, y1, x2, y2) in pixels of the original image until they are drawn.
"""

import base64
import colorsys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.data.detection_utils import read_image
from detectron2.structures import Boxes, BoxMode, Instances, pairwise_iou

from ...errors import SetupError
from ...evaluation.matching import match_greedily
from ...files import write_whole

try:
    import cv2
except ImportError as error:  # also when a system library of OpenCV is missing
    cv2, CV2_ERROR = None, error

__all__ = ["ascii_name", "data_address", "draw_boxes", "prediction_panels", "write_prediction_sheet"]

MATCH_IOU = 0.5  # a prediction is right from this overlap on, as for AP50
SHORT_SIDE, LONG_SIDE = 320, 640  # of a panel: labels stay legible on small images, 12 pairs below 1 MB
GAP = 6  # pixels between panels
CAPTION_HEIGHT = 32
PAPER = (40, 40, 40)
FONT, FONT_SCALE, LINE_WIDTH = 0, 0.45, 2  # 0 is cv2.FONT_HERSHEY_SIMPLEX; 0.45 gives letters about 10 pixels high
DASH, DASH_PERIOD = 7, 13  # pixels drawn of each period
JPEG_QUALITY = 85


def class_color(k: int) -> tuple[int, int, int]:
    """RGB colour of class ``k`` >= 0. Hues advance by the golden ratio, so that neighbours differ for any K."""
    lightness = (0.55, 0.7, 0.4)[k % 3]
    return tuple(round(255 * c) for c in colorsys.hls_to_rgb(k * 0.618034 % 1, lightness, 0.9))


def prediction_sheet(
    records: Sequence[dict],
    predictions: Sequence[Instances],
    class_names: Sequence[str],
    *,
    score_thresh: float,
    title: str = "",
    columns: int = 2,
) -> np.ndarray:
    """Draw each image twice, with its ground truth and with its predictions, under a one-line caption.

    A box has the colour of its class. Dashed on the left: no prediction matches it. Dashed on the right: the prediction
    matches no box of its class (IoU 0.5, one prediction a box, best score first). Crowd annotations are left out.
    OpenCV's letters are ASCII: accents are dropped from class names, and a name in another script or with control
    characters is shown as ``#`` and the class number.

    Args:
        records: Detectron2 dataset dicts; "annotations" may be missing or empty.
        predictions: one ``Instances`` per record, on CPU, in pixels of the original image; may be empty.
        class_names: K names.
        score_thresh: predictions below it are not drawn; in [0, 1].
        title: begins the caption.
        columns: pairs side by side, >= 1.

    Returns:
        (H, W, 3) uint8 RGB; only the caption if there are no records.

    Raises:
        SetupError: OpenCV is not installed.
        ValueError: not as many predictions as records.
    """
    _need_opencv()
    if len(records) != len(predictions):
        raise ValueError(f"expected one Instances per record, got {len(predictions)} for {len(records)} records")
    pairs = [
        _stack(list(prediction_panels(r, p[p.scores >= score_thresh], class_names)), axis=1)
        for r, p in zip(records, predictions, strict=True)
    ]
    rows = [_stack(pairs[i : i + columns], axis=1) for i in range(0, len(pairs), columns)]
    width = max([row.shape[1] for row in rows], default=2 * LONG_SIDE)
    legend = f"truth left, predictions (score >= {score_thresh:g}) right; dashed: missed or wrong"
    text = title.encode("ascii", "replace").decode() + " | " + legend if title else legend
    caption = np.full((CAPTION_HEIGHT, width, 3), PAPER, np.uint8)
    text_width = cv2.getTextSize(text, FONT, 1.0, 1)[0][0]
    scale = min(0.55, (width - 2 * GAP) / text_width)
    cv2.putText(caption, text, (GAP, 21), FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return _stack([caption, *rows], axis=0)


def write_prediction_sheet(
    path: str | Path, records: Sequence[dict], predictions: Sequence[Instances], class_names: Sequence[str], **options
) -> Path:
    """Write ``prediction_sheet(records, predictions, class_names, **options)`` to ``path`` and make its folder.

    The suffix decides: .jpg or .jpeg (small: 12 pairs below 1 MB) or .png (exact). Another one: ``SetupError``.
    """
    path = Path(path)
    if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise SetupError(f"a picture sheet is written as .jpg, .jpeg or .png, got {path}")
    sheet = prediction_sheet(records, predictions, class_names, **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, _encode(sheet, path.suffix.lower()))
    return path


def data_address(picture: np.ndarray) -> str:
    """Encode an (H, W, 3) uint8 RGB picture as a JPEG inside an address, for a page without other files."""
    return "data:image/jpeg;base64," + base64.b64encode(_encode(picture, ".jpg")).decode("ascii")


def _encode(picture: np.ndarray, suffix: str) -> bytes:
    parameters = [] if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, encoded = cv2.imencode(suffix, np.ascontiguousarray(picture[..., ::-1]), parameters)
    return encoded.tobytes()


def _need_opencv() -> None:
    if cv2 is None:
        raise SetupError(f"Pictures of boxes need OpenCV: pip install opencv-python-headless ({CV2_ERROR})")


def ascii_name(name: str, k: int) -> str:
    """``name`` in the letters that OpenCV has: without accents, or as ``#`` and its number."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return plain if plain.isascii() and plain.isprintable() else f"#{k}"


def prediction_panels(
    record: dict, predictions: Instances, class_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Ground truth and predictions of one image, drawn as in ``prediction_sheet``.

    Returns:
        two (h, w, 3) uint8 RGB pictures, the image scaled to SHORT_SIDE, at most LONG_SIDE.
    """
    _need_opencv()
    names = [ascii_name(name, k) for k, name in enumerate(class_names)]
    image = np.asarray(read_image(record["file_name"], "RGB"))
    scale = min(SHORT_SIDE / min(image.shape[:2]), LONG_SIDE / max(image.shape[:2]))
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    left = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    right = left.copy()
    annotations = [a for a in record.get("annotations", []) if not a.get("iscrowd", 0)]
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    gt_classes = [a["category_id"] for a in annotations]
    order = predictions.scores.argsort(descending=True, stable=True)
    same_class = predictions.pred_classes[:, None] == torch.tensor(gt_classes, dtype=torch.long)
    iou = pairwise_iou(predictions.pred_boxes, gt_boxes) * same_class  # (D, M)
    partner = match_greedily(iou[order].numpy(), MATCH_IOU)
    found, fits = np.isin(np.arange(len(gt_boxes)), partner), np.zeros(len(predictions), dtype=bool)
    fits[order.numpy()] = partner >= 0
    truth = [names[k] + ("" if ok else " missed") for k, ok in zip(gt_classes, found, strict=True)]
    draw_boxes(left, gt_boxes.tensor.numpy() * scale, gt_classes, truth, found)
    last_is_best = order.flip(0)
    shown = predictions[last_is_best]
    classes, scores = shown.pred_classes.tolist(), shown.scores.tolist()
    guess = [f"{names[k]} {score:.2f}" for k, score in zip(classes, scores, strict=True)]
    draw_boxes(right, shown.pred_boxes.tensor.numpy() * scale, classes, guess, fits[last_is_best.numpy()])
    return left, right


def draw_boxes(
    panel: np.ndarray,
    boxes: np.ndarray,
    classes: Sequence[int],
    labels: Sequence[str],
    solid: Sequence[bool],
    *,
    pen: float = 1.0,
) -> None:
    """Draw into ``panel`` (RGB): all boxes, then all labels, so that no box crosses a label. No label leaves the panel.

    No label covers another: the last box has the first choice of a corner, and a label without room is left out.

    Args:
        boxes: (M, 4) XYXY in pixels of the panel.
        pen: factor of line width and letters.
    """
    height, width = panel.shape[:2]
    corners = np.clip(np.rint(boxes), 0, [width - 1, height - 1] * 2).astype(int).tolist()
    line = max(1, round(LINE_WIDTH * pen))
    for (x1, y1, x2, y2), k, is_solid in zip(corners, classes, solid, strict=True):
        if is_solid:
            cv2.rectangle(panel, (x1, y1), (x2, y2), class_color(k), line)
            continue
        for x in range(x1, x2 + 1, DASH_PERIOD):
            for y in (y1, y2):
                cv2.line(panel, (x, y), (min(x + DASH, x2), y), class_color(k), line)
        for y in range(y1, y2 + 1, DASH_PERIOD):
            for x in (x1, x2):
                cv2.line(panel, (x, y), (x, min(y + DASH, y2)), class_color(k), line)
    taken: list[tuple[int, int, int, int]] = []  # XYXY of the labels so far
    for box, k, label in reversed(list(zip(corners, classes, labels, strict=True))):
        _draw_label(panel, box, label, class_color(k), FONT_SCALE * pen, taken)


def _draw_label(
    panel: np.ndarray, box: Sequence[int], label: str, color: tuple[int, int, int], size: float, taken: list
) -> None:
    """Draw a label at the first corner of a box where it covers none of ``taken``, and add its place to them.

    It stands above the box, or as near as the panel allows, then inside, then below, in smaller letters where it is too
    wide for the panel.
    """
    height, width = panel.shape[:2]
    ink = max(1, round(size))
    (w, h), base = cv2.getTextSize(label, FONT, size, ink)
    if w + 2 > width:
        size *= (width - 2) / w
        (w, h), base = cv2.getTextSize(label, FONT, size, ink)
    x1, y1, x2, y2 = box
    places = [(x, y) for y in (y1 - base, y1 + h + 2, y2 - base, y2 + h + 2) for x in (x1, x2 - w - 2)]
    for x, y in places:
        x, y = max(0, min(x, width - w - 2)), max(min(y, height - base), h + 2)
        place = (x, y - h - 2, x + w + 2, y + base - 1)
        if not any(a[0] < place[2] and place[0] < a[2] and a[1] < place[3] and place[1] < a[3] for a in taken):
            break
    else:
        return
    taken.append(place)
    cv2.rectangle(panel, place[:2], place[2:], color, -1)
    # Black or white, the one that is easier to read on the colour (luma of ITU-R BT.601).
    letters = (0, 0, 0) if np.dot(color, (0.299, 0.587, 0.114)) > 115 else (255, 255, 255)
    cv2.putText(panel, label, (x + 1, y), FONT, size, letters, ink, cv2.LINE_AA)


def _stack(parts: list[np.ndarray], axis: int) -> np.ndarray:
    """Put pictures below (axis 0) or beside (axis 1) each other, GAP apart, on PAPER."""
    shape = [max(part.shape[0] for part in parts), max(part.shape[1] for part in parts), 3]
    shape[axis] = sum(part.shape[axis] for part in parts) + GAP * (len(parts) - 1)
    sheet = np.full(shape, PAPER, np.uint8)
    start = 0
    for part in parts:
        y, x = (start, 0) if axis == 0 else (0, start)
        sheet[y : y + part.shape[0], x : x + part.shape[1]] = part
        start += part.shape[axis] + GAP
    return sheet
