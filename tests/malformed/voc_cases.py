"""Pascal VOC XML."""

import shutil

from . import Case, replace, write

A = "Annotations/a.xml"
LAUGHS = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><filename>&b;</filename></annotation>"""


def shift(root):
    """Boxes of a larger copy of the images."""
    for file in (root / "Annotations").iterdir():
        text = file.read_text()
        for tag in ("xmin", "xmax"):
            text = text.replace(f"<{tag}>", f"<{tag}>9")
        file.write_text(text)


def rename_box(root):
    (root / A).write_text((root / A).read_text().replace("bndbox", "box"))


def annotate_twice(root):
    shutil.copy(root / A, root / "Annotations/a_copy.xml")


VOC_CASES = [
    Case(
        "voc_empty",
        "voc",
        write(A, ""),
        "set/Annotations/a.xml is empty: an image without objects has an <annotation> without <object>.",
    ),
    Case(
        "voc_cut_off",
        "voc",
        replace(A, "</annotation>", ""),
        "set/Annotations/a.xml:13: is not well-formed XML: no element found.",
    ),
    Case(
        "voc_two_roots",
        "voc",
        replace(A, "</annotation>", "</annotation><annotation/>"),
        "set/Annotations/a.xml:12: is not well-formed XML: junk after document element.",
    ),
    Case(
        "voc_entity_bomb",
        "voc",
        write(A, LAUGHS),
        "set/Annotations/a.xml:2: a DOCTYPE is not accepted, it can hold entities: remove it.",
    ),
    Case(
        "voc_undefined_entity",
        "voc",
        replace(A, "a.png", "&name;"),
        "set/Annotations/a.xml:2: is not well-formed XML: undefined entity.",
    ),
    Case(
        "voc_nested_deeply",
        "voc",
        write(A, "<annotation>" * 60),
        "set/Annotations/a.xml:1: tags are nested more than 50 deep.",
    ),
    Case(
        "voc_too_large",
        "voc",
        write(A, b" " * (16 * 2**20 + 1)),
        "set/Annotations/a.xml has 16777217 bytes, the limit is 16777216: it is not the annotation of one image.",
    ),
    Case(
        "voc_wrong_bytes",
        "voc",
        write(A, b"<annotation><filename>\xe4.png</filename></annotation>"),
        "set/Annotations/a.xml:1: is not well-formed XML: not well-formed (invalid token).",
    ),
    Case(
        "voc_unknown_encoding",
        "voc",
        write(A, '<?xml version="1.0" encoding="klingon"?><annotation/>'),
        "set/Annotations/a.xml: the encoding klingon is not known: save the file as UTF-8.",
    ),
    Case(
        "voc_is_html",
        "voc",
        write(A, "<html><body>404</body></html>"),
        "set/Annotations/a.xml:1: the first tag must be <annotation> (Pascal VOC), got <html>.",
    ),
    Case(
        "voc_no_class",
        "voc",
        replace(A, "<name>dog</name>", ""),
        "set/Annotations/a.xml:4: <object> needs <name> and <bndbox>, got no <name>.",
    ),
    Case(
        "voc_empty_class",
        "voc",
        replace(A, "<name>dog</name>", "<name> </name>"),
        "set/Annotations/a.xml:4: the class of a box is empty: name it.",
    ),
    Case(
        "voc_no_box", "voc", rename_box, "set/Annotations/a.xml:4: <object> needs <name> and <bndbox>, got no <bndbox>."
    ),
    Case("voc_no_xmin", "voc", replace(A, "<xmin>5</xmin>", ""), "set/Annotations/a.xml:6: <bndbox> has no <xmin>."),
    Case(
        "voc_text_as_number",
        "voc",
        replace(A, "<xmin>5</xmin>", "<xmin>5 px</xmin>"),
        "set/Annotations/a.xml:6: <xmin> must be a number, got '5 px'.",
    ),
    Case(
        "voc_nan",
        "voc",
        replace(A, "<xmin>5</xmin>", "<xmin>nan</xmin>"),
        "set: 1 of 6 boxes (the first: nan, 6, 28, 30 as left, top, right, bottom; set/Annotations/a.xml:4) hold NaN "
        "or infinity. Write numbers.",
    ),
    Case(
        "voc_inverted",
        "voc",
        replace(A, "<xmin>5</xmin>", "<xmin>55</xmin>"),
        "set: 1 of 6 boxes (the first: 54, 6, 28, 30 as left, top, right, bottom; set/Annotations/a.xml:4) have a "
        "negative width or height. Check the order of the coordinates: left, top, right, bottom, and in COCO's JSON "
        "x, y, width, height.",
    ),
    Case(
        "voc_boxes_of_another_size",
        "voc",
        shift,
        "set: 6 of 6 boxes (the first: 94, 6, 928, 30 as left, top, right, bottom; set/Annotations/a.xml:4) lie "
        "outside their image. Correct or delete them; if they are many, check the order of the coordinates and the "
        "size of the image that they belong to.",
    ),
    Case(
        "voc_other_size",
        "voc",
        replace(A, "<width>64</width>", "<width>640</width>"),
        "set/Annotations/a.xml:3: the image size is given as 640x48, but set/JPEGImages/a.png is 64x48: correct one "
        "of them.",
    ),
    Case(
        "voc_swapped_size",
        "voc",
        replace(A, "<width>64</width><height>48", "<width>48</width><height>64"),
        "set/Annotations/a.xml:3: the image size is given as 48x64, but set/JPEGImages/a.png is 64x48 as Detectron2 "
        "reads it (after its EXIF orientation): annotate the turned image, or remove the orientation from the file.",
    ),
    Case(
        "voc_size_without_height",
        "voc",
        replace(A, "<height>48</height>", ""),
        "set/Annotations/a.xml:3: <size> has no <height>.",
    ),
    Case(
        "voc_oriented_box",
        "voc",
        replace(A, "<bndbox>", "<robndbox/><bndbox>"),
        "set/Annotations/a.xml:4: an oriented box (<robndbox>) is not supported: write <bndbox>.",
    ),
    Case(
        "voc_annotated_twice",
        "voc",
        annotate_twice,
        "set/Annotations/a_copy.xml: the image set/JPEGImages/a.png has an annotation already, "
        "set/Annotations/a.xml: keep one.",
    ),
    Case(
        "voc_without_images",
        "voc",
        lambda root: shutil.rmtree(root / "JPEGImages"),
        "set: none of 5 XML files has its image in set: give their folder (--images).",
    ),
    Case(
        "voc_without_annotations",
        "voc",
        lambda root: shutil.rmtree(root / "Annotations"),
        "set has no XML files (Pascal VOC).",
    ),
]
