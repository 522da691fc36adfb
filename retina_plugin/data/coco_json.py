"""Reading the JSON of a COCO-format data set, as far as a mistake in the file itself is concerned."""

import json
import os
from pathlib import Path
from typing import Any

from detectron2.utils.file_io import PathManager

from ..errors import SetupError
from .image_paths import refuse_line_breaks
from .safe_json import load_json

__all__ = ["class_names_in_order", "read_coco_json"]

REMEDY = "Set DETECTRON2_DATASETS to the folder of Detectron2's sets, or DATASETS.TRAIN_JSON / VAL_JSON to your file."


def read_coco_json(name: str, json_file: str) -> dict[str, Any]:
    """The content of ``json_file`` of the data set ``name``, with images and categories that are lists.

    Raises:
        SetupError: the file is missing, empty, not JSON, or not in the COCO format.
    """
    path = PathManager.get_local_path(str(json_file))
    if os.path.isdir(path):
        raise SetupError(f"{name}: the annotation file {path} is a folder: name the JSON file in it.")
    if not os.path.isfile(path):
        full = f" ({os.path.abspath(path)})" if not os.path.isabs(path) else ""
        raise SetupError(f"{name}: the annotation file {path}{full} does not exist. {REMEDY}")
    content = _parse(name, path)
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else type(content).__name__
        raise SetupError(
            f"{name}: {path} must hold one object with images, annotations and categories (COCO format), got {kind}."
        )
    for key in ("images", "categories"):
        if not isinstance(content.get(key), list) or not content[key]:
            found = "an empty list" if content.get(key) == [] else "none" if key not in content else "no list"
            raise SetupError(f"{name}: {path} needs a list of {key} (COCO format), got {found}.")
    _check_categories(name, path, content["categories"])
    return content


def class_names_in_order(content: dict[str, Any]) -> list[str]:
    """The names of the categories by id: the order in which Detectron2 numbers the classes."""
    return [category["name"] for category in sorted(content["categories"], key=lambda category: category["id"])]


def _parse(name: str, path: str) -> Any:
    try:
        return load_json(Path(path))
    except SetupError as error:
        raise SetupError(f"{name}: {error}") from None
    except json.JSONDecodeError as error:
        where = (
            "is empty"
            if error.pos == 0 and not os.path.getsize(path)
            else (f"is not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}")
        )
        raise SetupError(f"{name}: the annotation file {path} {where}.") from error
    except UnicodeDecodeError as error:
        raise SetupError(f"{name}: the annotation file {path} is not text: give COCO-format JSON.") from error
    except OSError as error:
        raise SetupError(f"{name}: the annotation file {path} cannot be read: {error.strerror}.") from error


def _check_categories(name: str, path: str, categories: list) -> None:
    for category in categories:
        name_of = category.get("name") if isinstance(category, dict) else None
        if not isinstance(name_of, str) or not name_of or type(category.get("id")) is not int:
            raise SetupError(f"{name}: a category in {path} needs a whole number as id and a name, got {category!r}.")
    refuse_line_breaks((category["name"] for category in categories), f"{name}: {path}")
    for key in ("id", "name"):
        values = [category[key] for category in categories]
        repeated = next((value for value in values if values.count(value) > 1), None)
        if repeated is not None:
            raise SetupError(f"{name}: {path} has more than one category with the {key} {repeated!r}: make it unique.")
