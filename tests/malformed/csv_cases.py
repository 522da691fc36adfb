"""CSV of boxes and of classes."""

from . import Case, replace, write

F = "boxes.csv"
FIRST = "pictures/a.png,4,6,28,30,dog"

CSV_CASES = [
    Case(
        "csv_empty", "csv", write(F, "\n\n"), "set/boxes.csv has no rows: write path,x1,y1,x2,y2,class, one box a row."
    ),
    Case(
        "csv_five_fields",
        "csv",
        replace(F, FIRST, "pictures/a.png,4,6,28,30"),
        "set/boxes.csv:1: a row must have 6 fields, got 5.",
    ),
    Case(
        "csv_semicolons",
        "csv",
        replace(F, FIRST, FIRST.replace(",", ";")),
        "set/boxes.csv:2: a row must have 6 fields, got 1; the separator of the first row is ';'.",
    ),
    Case(
        "csv_text_as_number",
        "csv",
        replace(F, FIRST, "pictures/a.png,4,6,28,3O,dog"),
        "set/boxes.csv:1: x1,y1,x2,y2 must be numbers, got '4,6,28,3O'.",
    ),
    Case(
        "csv_nan",
        "csv",
        replace(F, FIRST, "pictures/a.png,4,6,inf,30,dog"),
        "set: 1 of 6 boxes (the first: 4, 6, inf, 30 as left, top, right, bottom; set/boxes.csv:1) hold NaN or "
        "infinity. Write numbers.",
    ),
    Case(
        "csv_x1_x2_y1_y2",
        "csv",
        replace(F, FIRST, "pictures/a.png,4,28,6,20,dog"),
        "set: 1 of 6 boxes (the first: 4, 28, 6, 20 as left, top, right, bottom; set/boxes.csv:1) have a "
        "negative width or height. Check the order of the coordinates: left, top, right, bottom, and in COCO's JSON "
        "x, y, width, height.",
    ),
    Case(
        "csv_partly_empty",
        "csv",
        replace(F, FIRST, "pictures/a.png,4,6,28,30,"),
        "set/boxes.csv:1: x1,y1,x2,y2,class must be all filled, or all empty for an image without objects.",
    ),
    Case("csv_no_path", "csv", replace(F, "pictures/a.png", ""), "set/boxes.csv:1: the path is empty."),
    Case("csv_open_quote", "csv", replace(F, "dog", '"dog'), "set/boxes.csv:7: is not CSV: unexpected end of data."),
    Case(
        "csv_columns_lack_one",
        "csv",
        replace(F, FIRST, "path,xmin,ymin,xmax,class"),
        "set/boxes.csv:1: the columns lack y2: name them path,x1,y1,x2,y2,class.",
    ),
    Case(
        "csv_missing_image",
        "csv",
        replace(F, "pictures/b.png", "pictures/z.png"),
        "set: 1 of 5 paths has no image in set (pictures/z.png), and 1 of 5 images no path (pictures/b.png): give "
        "image and annotation the same name, remove those without the other, or give their folder (--images).",
    ),
    Case(
        "csv_unknown_class",
        "csv",
        replace(F, "28,30,dog", "28,30,cow"),
        "set/boxes.csv:1: the class 'cow' is not among the 2 given (dog, cat): add it there, or correct its name.",
    ),
    Case(
        "csv_classes_with_a_gap",
        "csv",
        write("classes.csv", "dog,0\ncat,2\n"),
        "set/classes.csv: class ids must count from 0 to 1, got [0, 2].",
    ),
    Case(
        "csv_classes_without_ids",
        "csv",
        write("classes.csv", "dog\ncat\n"),
        "set/classes.csv:1: a class is name,id with a whole number, got 'dog'.",
    ),
    Case(
        "csv_classes_with_a_raised_number",  # a digit to str.isdigit, but not to int
        "csv",
        write("classes.csv", "dog,\u00b20\n"),
        "set/classes.csv:1: a class is name,id with a whole number, got 'dog,\u00b20'.",
    ),
    Case(
        "csv_class_twice",
        "csv",
        write("classes.csv", "dog,0\ndog,1\n"),
        "set/classes.csv:2: the class 'dog' occurs twice: keep one.",
    ),
    Case(
        "csv_wrong_bytes",
        "csv",
        write(F, b"pictures/a.png,4,6,28,30,k\xe4fer\n"),
        "set/boxes.csv is not UTF-8 text: save it as UTF-8.",
    ),
]
