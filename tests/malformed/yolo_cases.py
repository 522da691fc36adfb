"""YOLO label files, names and data.yaml."""

import shutil

from . import Case, remove, replace, write

B = "labels/b.txt"
BOX = "0.5 0.5 0.25 0.25"


def names_file(text: str):
    def spoil(root):
        (root / "data.yaml").unlink()
        (root / "classes.txt").write_text(text)

    return spoil


YOLO_CASES = [
    Case(
        "yolo_polygon_of_pixels",
        "yolo",
        write(B, f"0 {BOX}\n0 6 6 32 6 20 32"),
        "set/labels/b.txt:2: the points of a polygon must be parts of the image in [0, 1], got 6 6 32 6 20 32: divide "
        "pixels by its size.",
    ),
    Case(
        "yolo_eight_words",
        "yolo",
        write(B, "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1"),
        "set/labels/b.txt:1: a line must be class cx cy w h, got 8 words: separate them by spaces.",
    ),
    Case(
        "yolo_with_score",
        "yolo",
        write(B, f"0 {BOX} 0.98"),
        "set/labels/b.txt:1: a line must be class cx cy w h, got 6 numbers: a detection with its score? Train on "
        "labels.",
    ),
    Case(
        "yolo_four_words",
        "yolo",
        write(B, "0 0.5 0.5 0.25"),
        "set/labels/b.txt:1: a line must be class cx cy w h, got 4 words: separate them by spaces.",
    ),
    Case(
        "yolo_commas",
        "yolo",
        write(B, "0,0.5,0.5,0.25,0.25"),
        "set/labels/b.txt:1: a line must be class cx cy w h, got 1 word: separate them by spaces.",
    ),
    Case(
        "yolo_name_for_number",
        "yolo",
        write(B, f"dog {BOX}"),
        "set/labels/b.txt:1: a line must be a whole number and four numbers, got 'dog 0.5 0.5 0.25 0.25'.",
    ),
    Case(
        "yolo_fraction_as_class",
        "yolo",
        write(B, f"0.5 {BOX}"),
        "set/labels/b.txt:1: a line must be a whole number and four numbers, got '0.5 0.5 0.5 0.25 0.25'.",
    ),
    Case(
        "yolo_unknown_class",
        "yolo",
        write(B, f"2 {BOX}"),
        "set/labels/b.txt:1: class 2 is not among the 2 names, which count from 0 to 1: add its name, or correct the "
        "number.",
    ),
    Case(
        "yolo_negative_class",
        "yolo",
        write(B, f"-1 {BOX}"),
        "set/labels/b.txt:1: class -1 is not among the 2 names, which count from 0 to 1: add its name, or correct the "
        "number.",
    ),
    Case(
        "yolo_pixels",
        "yolo",
        write(B, "0 32 24 10 10"),
        "set/labels/b.txt:1: cx cy w h must be parts of the image in [0, 1], got 32 24 10 10: divide pixels by its "
        "size.",
    ),
    Case(
        "yolo_negative_width",
        "yolo",
        write(B, "0 0.5 0.5 -0.1 0.1"),
        "set/labels/b.txt:1: w and h must be at least 0, got -0.1 and 0.1.",
    ),
    Case(
        "yolo_nan",
        "yolo",
        write(B, "0 nan 0.5 0.1 0.1"),
        "set/labels/b.txt:1: cx cy w h must be finite numbers, got nan 0.5 0.1 0.1.",
    ),
    Case(
        "yolo_empty_box",
        "yolo",
        write(B, "0 0.5 0.5 0 0"),
        "set: 1 of 6 boxes (the first: 32, 24, 32, 24 as left, top, right, bottom; set/labels/b.txt:1) have no width "
        "or height. Correct or delete them; if they are many, check the order of the coordinates.",
    ),
    Case(
        "yolo_wrong_bytes", "yolo", write(B, b"\xff\xfe0 0.5"), "set/labels/b.txt is not UTF-8 text: save it as UTF-8."
    ),
    Case(
        "yolo_without_names",
        "yolo",
        remove("data.yaml"),
        "set has no class names (YOLO): add data.yaml with names, classes.txt or obj.names, or give --classes.",
    ),
    Case(
        "yolo_without_labels",
        "yolo",
        lambda root: shutil.rmtree(root / "labels"),
        "set: none of 5 images has a label file, such as a.txt for set/images/a.png: put it beside the image, or in a "
        "folder labels beside the folder of the images.",
    ),
    Case(
        "yolo_without_images",
        "yolo",
        lambda root: shutil.rmtree(root / "images"),
        "set has no images in set (YOLO): give their folder (--images).",
    ),
    Case(
        "yolo_gap_in_names",
        "yolo",
        replace("data.yaml", "1:", "2:"),
        "set/data.yaml: names must be numbered 0 to 1, got 0, 2.",
    ),
    Case(
        "yolo_name_twice",
        "yolo",
        write("data.yaml", "names: [dog, dog]"),
        "set/data.yaml has the class 'dog' more than once: give each its own name.",
    ),
    Case(
        "yolo_name_without_text",
        "yolo",
        write("data.yaml", "names: [dog, '']"),
        "set/data.yaml needs names: a list of class names, got ['dog', ''].",
    ),
    Case(
        "yolo_name_is_yes",
        "yolo",
        write("data.yaml", "names: [yes, no]"),
        "set/data.yaml needs names: a list of class names, got [True, False]: put them in quotes.",
    ),
    Case(
        "yolo_names_as_text",
        "yolo",
        write("data.yaml", "names: dog"),
        "set/data.yaml needs names: a list of class names, got 'dog'.",
    ),
    Case(
        "yolo_other_count",
        "yolo",
        write("data.yaml", "names: [dog, cat]\nnc: 3"),
        "set/data.yaml: nc is 3, but there are 2 names: correct one of them.",
    ),
    Case(
        "yolo_broken_yaml",
        "yolo",
        write("data.yaml", "names: [dog, cat\nnc: 2"),
        "set/data.yaml:2 is not valid YAML: expected ',' or ']', but got ':'.",
    ),
    Case(
        "yolo_yaml_list",
        "yolo",
        write("data.yaml", "- dog\n- cat"),
        "set/data.yaml must hold KEY: VALUE pairs, got list.",
    ),
    Case(
        "yolo_yaml_runs_code",
        "yolo",
        write("data.yaml", "names: !!python/object/apply:os.getcwd []"),
        "set/data.yaml, line 1 has the tag !!python/object/apply:os.getcwd, which runs code: write the value itself. "
        "The only tag that is read is the one of Detectron2's Base-RetinaNet.yaml.",
    ),
    Case(
        "yolo_missing_folder",
        "yolo",
        write("data.yaml", "names: [dog, cat]\ntrain: images/tain"),
        "set/data.yaml names images/tain, which does not exist in set: correct it, or give their folder (--images).",
    ),
    Case(
        "yolo_empty_line_in_names",
        "yolo",
        names_file("dog\n\ncat\n"),
        "set/classes.txt:2: a line without a class name: remove it.",
    ),
    Case("yolo_empty_names", "yolo", names_file(""), "set/classes.txt has no class names: write one a line."),
]
