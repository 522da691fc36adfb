"""Bad values of arguments, bad content of files, bad configs and bad keys, for ``bad_inputs``."""

LONG = "x" * 5000

INTS = ("", "x", "1.5", "nan", "0x10", "1e3", "1 2", "-1", "9" * 30, "-" + "9" * 30, "9" * 5000)
FLOATS = ("", "x", "1,5", "nan", "inf", "-inf", "-1", "1e400", "-1e-300", "0x1p3")
# Words of no option.
UNKNOWN = ("--nope", "-z", "--no such", "--\N{SNOWMAN}", "---", "-" * 50, "--\udcff")
MORE_TEXTS = (
    "None", "NaN", "1e999", "[]", "()", "C:\\x", "a/b/c", "http://x", "$(x)", "`x`", "'", "\t", "\u202e", "e\u0301",
    "\U0001f600", "a b", "a,b", "a=b", "*", "?", "~", "%n%n", "<b>", "\\", ";", "&&", "|", "#",
)  # fmt: skip
TEXTS = ("", " ", "none", "-", "\N{SNOWMAN}", "a\nb", "\udcff", "\x1b[31m", "{}", "%s", "../..", "nul\0", LONG)
WORDS = ("", " ", "none", "\N{SNOWMAN}", "a\nb", "\udcff", "\x1b[31m", "{}", "%s", "../..", LONG)  # for a choice

# Content of files, by a name that tells what is wrong. Each is tried with the suffix that the command expects.
CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "text": b"no such thing\n",
    "garbage": bytes(range(256)) * 8,
    "list": b"[]",
    "object": b"{}",
    "number": b"3",
    "null": b"null",
    "word": b'"x"',
    "truth": b"true",
    "deep": b"[" * 100_000,
    "nan": b"NaN",
    "latin1": "caf\xe9: caf\xe9".encode("latin-1"),
    "utf16": '{"a": 1}'.encode("utf-16"),
    "nulls": bytes(2000),
    "html": b"<html><body>404</body></html>",
    "xml": b"<annotation><object/></annotation>",
    "csv": b"a,b\n1\n1,2,3\n",
    "cut_json": b'{"images": [{"id": 1, "file_na',
    "lists": b'{"images": 3, "annotations": "x", "categories": null}',
    "wrong_records": b'{"images": [3], "annotations": [null], "categories": ["x"]}',
    "results_of_nothing": b'[{"image_id": "x", "category_id": null, "bbox": [1, 2], "score": "high"}]',
    "huge_numbers": b'[{"image_id": 1e999, "category_id": 99999999999999999999, "bbox": [1e999, 1, 1, 1], "score": 9}]',
    "not_finite": b'[{"image_id": 0, "category_id": 3, "bbox": [NaN, 1, 1, 1], "score": NaN}]',
    "cut_zip": b"PK\x03\x04 cut off",
    "elf": b"\x7fELF" + bytes(100),
    "png_head": b"\x89PNG\r\n\x1a\n\0\0",
}
# Paths that are no file to read, beside files with bad content.
PATHS = (
    "bad/missing",
    "bad/folder",
    "bad/loop",
    "bad/dangling",
    "bad/text{suffix}/child",
    "bad/pipe",
    "/dev/null",
    "/proc/self/mem",
    "/proc/missing/x",
    "",
    " ",
    "bad/\N{SNOWMAN}",
    "bad/a\nb",
    "bad/\udcff",
    "bad/nul\0",
    LONG,
    "bad/" + "y" * 300,
    "~nobody_here/x",
    "http://127.0.0.1:9/x{suffix}",
    "nowhere://x{suffix}",
    "-",
    "*",
    "bad/*.none",
)
# Places that cannot be written, for a file and for a folder.
OUTPUTS = (
    "bad/text.json/out{suffix}",
    "/dev/null/out{suffix}",
    "/proc/out{suffix}",
    "y" * 300 + "{suffix}",
    LONG,
    "o\0",
)

YAMLS = {
    "list": "- MODEL\n",
    "number": "3\n",
    "text": "MODEL\n",
    "group_as_number": "MODEL: 3\n",
    "tab": "MODEL:\n\tDEVICE: cpu\n",
    "misspelt": "MODLE:\n  DEVICE: cpu\n",
    "twice": "SEED: 1\nSEED: 2\n",
    "open": "MODEL: {DEVICE: cpu\n",
    "code": "SEED: !!python/object/apply:os.getpid []\n",
    "no_base": "_BASE_: none.yaml\n",
    "base_list": "_BASE_: [1]\n",
    "base_itself": "_BASE_: base_itself.yaml\n",
    "base_folder": "_BASE_: folder\n",
    "base_address": "_BASE_: http://127.0.0.1:9/x\n",
    "base_null": '_BASE_: "a\\0b"\n',
    "seed_text": "SEED: x\n",
    "seed_date": "SEED: 2020-01-01\n",
    "seed_huge": f"SEED: {'9' * 30}\n",
    "seed_float": "SEED: 1e400\n",
    "seed_nan": "SEED: .nan\n",
    "seed_list": "SEED: [1]\n",
    "key_list": "? [SEED]\n: 1\n",
    "key_number": "3: 1\n",
    "bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{c}: &{c} [{', '.join([f'*{b}'] * 9)}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True)),
    "deep": "SEED: " + "[" * 3000 + "\n",
    "format": "INPUT: {FORMAT: XYZ}\n",
    "device": "MODEL: {DEVICE: toaster}\n",
    "sizes": "INPUT: {MIN_SIZE_TEST: -5}\n",
    "train_number": "DATASETS: {TRAIN: 3}\n",
    "classes": "MODEL: {RETINANET: {NUM_CLASSES: -1}}\n",
    "weights_list": "MODEL: {WEIGHTS: [1]}\n",
    "weights_null": "MODEL: {WEIGHTS: null}\n",
    "architecture": "MODEL: {META_ARCHITECTURE: Yolo}\n",
    "anchors": "MODEL: {ANCHOR_GENERATOR: {SIZES: []}}\n",
    "anchors_text": "MODEL: {ANCHOR_GENERATOR: {SIZES: big}}\n",
    "loss": "MODEL: {RETINANET: {CLS_LOSS_NAME: none}}\n",
    "output_null": 'OUTPUT_DIR: "a\\0b"\n',
}

NO_KEYS = ("list", "number", "text", "tab", "open", "bomb", "deep")  # the others change the good config

# Config keys after the other words; each is refused by all commands that take keys, but for IGNORED.
KEYS = (
    ("SEED",),
    ("NO.SUCH.KEY", "1"),
    ("seed", "1"),
    ("SEED=1",),
    ("SEED", "x"),
    ("SEED", ""),
    ("MODEL", "3"),
    ("MODEL.DEVICE", "toaster"),
    ("MODEL.DEVICE", ""),
    ("MODEL.RETINANET.NUM_CLASSES", "-1"),
    ("MODEL.RETINANET.NUM_CLASSES", "1e9"),
    ("INPUT.MIN_SIZE_TEST", "-5"),
    ("INPUT.MAX_SIZE_TEST", "0"),
    ("INPUT.MIN_SIZE_TRAIN", "()"),
    ("INPUT.FORMAT", "XYZ"),
    ("MODEL.PIXEL_STD", "[0, 0, 0]"),
    ("MODEL.PIXEL_MEAN", "[nan]"),
    ("MODEL.META_ARCHITECTURE", "Yolo"),
    ("MODEL.BACKBONE.NAME", "none"),
    ("MODEL.RESNETS.DEPTH", "7"),
    ("MODEL.ANCHOR_GENERATOR.SIZES", "[]"),
    ("MODEL.ANCHOR_GENERATOR.SIZES", "[[-1]]"),
    ("MODEL.RETINANET.SCORE_THRESH_TEST", "nan"),
    ("MODEL.RETINANET.NMS_THRESH_TEST", "7"),
    ("MODEL.RETINANET.CLS_LOSS_NAME", "none"),
    ("TEST.DETECTIONS_PER_IMAGE", "-1"),
    ("DATASETS.VAL_JSON", "bad/missing.json"),
    ("MODEL.WEIGHTS", "bad/text.pth"),
    ("OUTPUT_DIR", "bad/text.json/run"),
    ("OUTPUT_DIR", ""),
    ("SEED", "9" * 30),
    ("SEED", "__import__('os')"),
    ("\0", "1"),
    ("", ""),
)
