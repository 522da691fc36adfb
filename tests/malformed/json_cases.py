"""LabelMe and COCO JSON."""

import json

from . import Case, remove, replace, write

A = "a.json"
FIRST = '"points": [[28, 30], [4, 6]]'
C = "boxes.json"


def change(*path_and_value, file=C):
    """One value of the JSON, or none in its place where the value is ``...``."""
    *path, last, value = path_and_value

    def spoil(root):
        content = json.loads((root / file).read_text())
        node = content
        for key in path:
            node = node[key]
        if value is ...:
            del node[last]
        else:
            node[last] = value
        (root / file).write_text(json.dumps(content))

    return spoil


def remove_images(root):
    for image in root.glob("*.png"):
        image.unlink()


LABELME_CASES = [
    Case("labelme_empty", "labelme", write(A, ""), "set/a.json is empty."),
    Case(
        "labelme_cut_off",
        "labelme",
        replace(A, "}", ""),
        "set/a.json:1 is not valid JSON: Expecting property name enclosed in double quotes.",
    ),
    Case(
        "labelme_wrong_bytes",
        "labelme",
        write(A, b'{"shapes": ["\xe4"]}'),
        "set/a.json is not UTF-8 text: save it as UTF-8.",
    ),
    Case(
        "labelme_nested_deeply",
        "labelme",
        write(A, '{"shapes": ' + "[" * 200_000),
        "set/a.json is nested too deeply to be an annotation file.",
    ),
    Case(
        "labelme_shapes_as_object",
        "labelme",
        change("shapes", {}, file=A),
        "set/a.json must hold an object with a list of shapes (LabelMe).",
    ),
    Case(
        "labelme_no_label",
        "labelme",
        change("shapes", 0, "label", ..., file=A),
        "set/a.json: shape 1 needs a label, as text, got None.",
    ),
    Case(
        "labelme_number_as_label",
        "labelme",
        change("shapes", 1, "label", 3, file=A),
        "set/a.json: shape 2 needs a label, as text, got 3.",
    ),
    Case(
        "labelme_rotation",
        "labelme",
        change("shapes", 0, "shape_type", "rotation", file=A),
        "set/a.json: shape 1 has shape_type 'rotation', which has no upright box here: known are rectangle, "
        "polygon, circle, mask.",
    ),
    Case(
        "labelme_one_corner",
        "labelme",
        change("shapes", 0, "points", [[1, 2]], file=A),
        "set/a.json: shape 1: a rectangle needs at least 2 points [x, y], got [[1, 2]].",
    ),
    Case(
        "labelme_text_as_point",
        "labelme",
        change("shapes", 0, "points", [["1", 2], [3, 4]], file=A),
        "set/a.json: shape 1: a rectangle needs at least 2 points [x, y], got [['1', 2], [3, 4]].",
    ),
    Case(
        "labelme_nan",
        "labelme",
        replace(A, FIRST, '"points": [[NaN, 30], [4, 6]]'),
        "set: 1 of 6 boxes (the first: nan, 6, nan, 30 as left, top, right, bottom; set/a.json: shape 1) hold NaN or "
        "infinity. Write numbers.",
    ),
    Case(
        "labelme_other_size",
        "labelme",
        change("imageWidth", 128, file=A),
        "set/a.json: the image size is given as 128x48, but set/a.png is 64x48: correct one of them.",
    ),
    Case(
        "labelme_number_as_image",
        "labelme",
        change("imagePath", 7, file=A),
        "set/a.json: imagePath must be text, got 7.",
    ),
    Case(
        "labelme_without_images",
        "labelme",
        remove_images,
        "set: none of 5 JSON files has its image in set: give their folder (--images).",
    ),
]

COCO_CASES = [
    Case(
        "coco_cut_off",
        "coco",
        replace(C, "}]}", ""),
        "set: the annotation file set/boxes.json is not valid JSON at line 1, column 971: Expecting ',' delimiter.",
    ),
    Case(
        "coco_without_annotations",
        "coco",
        change("annotations", ...),
        "set: set/boxes.json needs a list of annotations (COCO format), got none.",
    ),
    Case(
        "coco_without_categories",
        "coco",
        change("categories", ...),
        "set: set/boxes.json needs a list of categories (COCO format), got none.",
    ),
    Case(
        "coco_category_twice",
        "coco",
        change("categories", 1, "name", "dog"),
        "set: set/boxes.json has more than one category with the name 'dog': make it unique.",
    ),
    Case(
        "coco_three_numbers",
        "coco",
        change("annotations", 2, "bbox", [1, 2, 3]),
        "set: annotation 3 in set/boxes.json must have bbox [x, y, width, height], got [1, 2, 3] (annotation id 3). "
        "Correct or delete the records.",
    ),
    Case(
        "coco_text_as_number",
        "coco",
        change("annotations", 0, "bbox", 0, "1"),
        "set: annotation 1 in set/boxes.json must have bbox [x, y, width, height], got ['1', 6, 24, 24] (annotation id "
        "1). Correct or delete the records.",
    ),
    Case(
        "coco_negative_width",
        "coco",
        change("annotations", 0, "bbox", 2, -4),
        "set: 1 of 6 boxes (the first: 4, 6, 0, 30 as left, top, right, bottom; set/boxes.json: annotation 1) have a "
        "negative width or height. Check the order of the coordinates: left, top, right, bottom, and in COCO's JSON "
        "x, y, width, height.",
    ),
    Case(
        "coco_unknown_category",
        "coco",
        change("annotations", 0, "category_id", 4),
        "set: annotation 1 in set/boxes.json has category_id 4, which is not among the categories 3, 5 (annotation id "
        "1). Correct or delete the records.",
    ),
    Case(
        "coco_image_without_name",
        "coco",
        change("images", 1, "file_name", ...),
        "set: image 2 in set/boxes.json has no file_name: {'id': 1, 'width': 64, 'height': 48}. Correct or delete the "
        "records.",
    ),
    Case(
        "coco_image_id_twice",
        "coco",
        change("images", 1, "id", 0),
        "set: set/boxes.json has more than one image with the id 0 (1 such ids): make each id unique.",
    ),
    Case(
        "coco_other_size",
        "coco",
        change("images", 1, "width", 63),
        "set/boxes.json: image 2: the image size is given as 63x48, but set/images/b.png is 64x48: correct one of "
        "them.",
    ),
    Case(
        "coco_missing_image",
        "coco",
        remove("images/b.png"),
        "1 image cannot be used: set/images/b.png is missing. Put the files there, take their records out, or give "
        "their folder (--images).",
    ),
]
