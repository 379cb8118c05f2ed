"""COCO's two kinds of file, read and checked for evaluation: ground truth and detections.

Boxes stay x, y, width, height in pixels, as in the files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector.errors import InputError

LARGEST_ID = 2**53 - 1  # ids travel in float64 arrays; above this they would be rounded


def load_ground_truth(path: str | Path, *, only: Container[int] | None = None) -> dict[str, Any]:
    """Images, categories and annotations of a COCO file, checked and completed for `evaluate`.

    Of an annotation only what boxes need stays: a new id from 1 on (pycocotools never matches
    id 0), image_id, category_id, bbox, area (width * height where the file has none) and iscrowd
    (0 where the file has none); with `category_ids`, one annotation becomes one of each. `only`
    names the annotation ids to read; the others are left out unchecked. Raises InputError for a
    file that is missing, is not JSON or not COCO, for ids that are doubled or point nowhere, and
    for boxes that are no boxes.
    """
    content = _read_json(path)
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected a COCO data set, a JSON object; found {_kind(content)}."
        )
    images = _entries(content, "images", path)
    categories = _entries(content, "categories", path)
    for category in categories:
        if not isinstance(category.get("name"), str):
            raise InputError(
                f"{path}: category {category['id']} has the name {category.get('name')!r}; "
                "every category needs a name, a string."
            )
    annotations = content.get("annotations")
    if not isinstance(annotations, list):
        raise InputError(
            f"{path}: 'annotations' should be a list; found {_kind(annotations)}. "
            "Is this the ground truth, and not a test set's image list?"
        )
    known = {"image_id": _ids(images), "category_id": _ids(categories)}
    checked = [
        _annotation(entry, index, known, path)
        for index, listed in enumerate(annotations)
        if only is None or (isinstance(listed, dict) and listed.get("id") in only)
        for entry in _one_label_each(listed)
    ]
    numbered = [{**entry, "id": number} for number, entry in enumerate(checked, start=1)]
    return {"images": images, "categories": categories, "annotations": numbered}


def load_detections(path: str | Path, ground_truth: dict[str, Any]) -> np.ndarray:
    """Detections of a COCO result file, a JSON list of image_id, category_id, bbox, score.

    Returns float64 (D, 7): image id, x, y, width, height, score, category id. An empty list is
    fine. Raises InputError naming the index for a missing or unusable value, for a NaN or infinite
    one, for a negative width or height, and for ids that `ground_truth` does not have.
    """
    content = _read_json(path)
    if not isinstance(content, list):
        raise InputError(
            f"{path}: expected a COCO result file, a JSON list of objects with image_id, "
            f"category_id, bbox and score; found {_kind(content)}."
        )
    rows = [_detection(entry, f"{path}: detection {index}") for index, entry in enumerate(content)]
    detections = np.array(rows, dtype=np.float64).reshape(-1, 7)
    for column, key, entries in ((0, "image_id", "images"), (6, "category_id", "categories")):
        unknown = ~np.isin(detections[:, column], list(_ids(ground_truth[entries])))
        if unknown.any():
            index = int(unknown.argmax())
            raise InputError(
                f"{path}: detection {index} has {key} {content[index][key]}, which is not among "
                f"the {entries} of the ground truth ({unknown.sum()} of {len(rows)} detections "
                "have such ids); do the two files belong together?"
            )
    return detections


def _read_json(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error}).") from error


def _entries(content: dict[str, Any], key: str, path: str | Path) -> list[dict[str, Any]]:
    """The non-empty list of objects `content[key]`, with integer ids, each once."""
    entries = content.get(key)
    if not isinstance(entries, list) or not entries:
        found = "an empty list" if entries == [] else _kind(entries)
        raise InputError(f"{path}: '{key}' should be a list of at least one; found {found}.")
    seen: set[int] = set()
    for index, entry in enumerate(entries):
        identity = entry.get("id") if isinstance(entry, dict) else None
        if type(identity) is not int or abs(identity) > LARGEST_ID:
            raise InputError(
                f"{path}: {key}[{index}] has the id {identity!r}; expected an integer "
                f"between ±{LARGEST_ID}."
            )
        if identity in seen:
            raise InputError(f"{path}: two of the {key} have the id {identity}; ids must differ.")
        seen.add(identity)
    return entries


def _ids(entries: list[dict[str, Any]]) -> set[int]:
    return {entry["id"] for entry in entries}


def _one_label_each(entry: Any) -> list[Any]:
    """The annotation once for each of its `category_ids`, if it has them."""
    if not isinstance(entry, dict) or not isinstance(entry.get("category_ids"), list):
        return [entry]
    return [{**entry, "category_id": category} for category in entry["category_ids"]]


def _annotation(
    entry: Any, index: int, known: dict[str, set[int]], path: str | Path
) -> dict[str, Any]:
    """The annotation with what boxes need and nothing else."""
    if not isinstance(entry, dict):
        raise InputError(f"{path}: annotations[{index}] should be an object; found {_kind(entry)}.")
    where = f"{path}: annotation {entry.get('id', f'at index {index}')}"
    for key, ids in known.items():
        if type(entry.get(key)) is not int or entry[key] not in ids:
            raise InputError(f"{where} has {key} {entry.get(key)!r}, which the file does not list.")
    box = _box(entry.get("bbox"), where)
    area = entry.get("area")
    if area is None:
        area = box[2] * box[3]
    return {
        "image_id": entry["image_id"],
        "category_id": entry["category_id"],
        "bbox": box,
        "area": _number(area, "area", where),
        "iscrowd": int(bool(entry.get("iscrowd"))),
    }


def _detection(entry: Any, where: str) -> tuple[float, ...]:
    if not isinstance(entry, dict):
        raise InputError(f"{where} should be an object; found {_kind(entry)}.")
    image_id, score, category_id = (
        _number(entry.get(key), key, where) for key in ("image_id", "score", "category_id")
    )
    return (image_id, *_box(entry.get("bbox"), where), score, category_id)


def _box(values: Any, where: str) -> list[float]:
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 4:
        raise InputError(f"{where} has bbox {values!r}; expected [x, y, width, height].")
    box = [_number(value, "bbox", where) for value in values]
    if box[2] < 0 or box[3] < 0:
        raise InputError(f"{where} has bbox {values!r}; width and height must not be negative.")
    return box


def _number(value: Any, key: str, where: str) -> float:
    """The finite number `value`; true and false are none."""
    if type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value):
        return float(value)
    found = "no such key, or null" if value is None else repr(value)
    raise InputError(f"{where}: '{key}' should be a finite number; found {found}.")


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    return "a JSON object" if isinstance(value, dict) else f"a JSON {type(value).__name__}"
