"""Runs a detector exported by retina_plugin: python run_MODEL.py MODEL.onnx IMAGE ...

Needs numpy, onnxruntime and Pillow. Prints a line of JSON an image: boxes XYXY in pixels of the image as it is shown.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def detect(session, info, path):
    image = ImageOps.exif_transpose(Image.open(path)).convert("L" if info["input"]["channels"] == "L" else "RGB")
    low, high = info["resize"]["min_size"], info["resize"]["max_size"]
    scale = min(low / min(image.size), high / max(image.size)) if low else 1.0
    size = [int(side * scale + 0.5) for side in image.size]
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    pixels = pixels[:, :, ::-1] if info["input"]["channels"] == "BGR" else np.atleast_3d(pixels)
    images = np.ascontiguousarray(pixels.transpose(2, 0, 1)[np.newaxis])
    dtype = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}[session.get_inputs()[0].type]
    boxes, scores, classes, counts = session.run(None, {"images": images.astype(dtype)})
    boxes = boxes[0, : counts[0]] * np.tile(np.array(image.size) / size, 2)
    names = info["classes"] or [str(index) for index in range(info["num_classes"])]
    return [
        {"class": names[label], "score": round(float(score), 4), "box": [round(float(x), 1) for x in box]}
        for label, score, box in zip(classes[0], scores[0], boxes, strict=False)
    ]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    text = session.get_modelmeta().custom_metadata_map
    info = {key: json.loads(text[key]) for key in ("input", "resize", "classes", "num_classes")}
    for path in sys.argv[2:]:
        print(json.dumps({"file": path, "detections": detect(session, info, path)}))
