"""Reading and checking COCO's two kinds of file: ground truth and detections.

Boxes stay x, y, width, height in pixels, as in the files.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.data.annotations import Annotations, read_annotations
from detector.data.coco import CocoIndex
from detector.data.document import LARGEST_ID, whole_number
from detector.errors import InputError
from detector.files import read_json

LARGEST = 1e300  # of coordinates; products of larger ones soon overflow


def load_ground_truth(path: str | Path, *, only: NDArray[np.int64] | None = None) -> dict[str, Any]:
    """Images, categories and annotations of a COCO file, checked and completed for `evaluate`.

    An annotation has a new id, counted from 1 (pycocotools never matches id 0), image_id,
    category_id, bbox, area (width * height unless the file has one above 0) and iscrowd (0 by
    default); one with `category_ids` becomes one annotation for each. Images have id and perhaps
    file_name; categories have id and name, by ascending id. `areas_replaced` counts the areas of
    the file that were not above 0. only: the annotation ids to take; others are not even checked.
    Raises InputError for a file that is missing, not JSON or not COCO, for repeated or unknown ids,
    and for unusable boxes.
    """
    return ground_truth_of(read_annotations(Path(path)), path, only=only)


def index_ground_truth(index: CocoIndex) -> dict[str, Any]:
    """The same of the boxes of an index, whatever the format of its annotation file."""
    return ground_truth_of(index.content(), index.annotations_file, only=index.annotation_ids)


def ground_truth_of(
    content: Annotations, path: str | Path, *, only: NDArray[np.int64] | None = None
) -> dict[str, Any]:
    """The same from annotations that were read already; errors name them by `path`."""
    chosen = np.ones(len(content.ids), np.bool_) if only is None else np.isin(content.ids, only)
    labels, rows = content.label_ids, content.label_rows
    taken = chosen[rows]
    annotations = _annotations(path, content, rows[taken], labels[taken])
    categories = zip(content.category_ids.tolist(), content.category_names.tolist(), strict=True)
    return {
        "images": [
            {"id": image_id, "file_name": name} if name else {"id": image_id}
            for image_id, name in zip(
                content.image_ids.tolist(), content.file_names.tolist(), strict=True
            )
        ],
        "categories": [{"id": category_id, "name": name} for category_id, name in categories],
        "annotations": annotations,
        "areas_replaced": int(content.area_replaced[chosen].sum()),
    }


def _annotations(
    path: str | Path, content: Annotations, rows: NDArray[np.int64], labels: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """One annotation for each of `labels`, which belong to the rows `rows` of the file."""
    boxes, areas = content.boxes[rows], content.areas[rows]
    missing = np.flatnonzero(np.isnan(boxes).all(1))
    if len(missing):
        raise InputError(
            f"{path}: annotation {content.ids[rows[missing[0]]]} has no box: its bbox is null or "
            f"empty, the first of {len(missing)} like it; correct or remove it."
        )
    columns = {
        "image_id": content.owners[rows],
        "category_id": labels,
        "bbox": boxes,
        "area": areas,
        "iscrowd": content.crowd[rows].astype(int),
    }
    tests = [
        ("image_id", np.isin(columns["image_id"], content.image_ids), "an id of 'images'"),
        ("category_id", np.isin(labels, content.category_ids), "an id of 'categories'"),
        ("bbox", (np.abs(boxes) < LARGEST).all(1), "finite numbers"),
        ("bbox", (boxes[:, 2:] >= 0).all(1), "a width and a height that are not negative"),
        ("area", np.abs(areas) < LARGEST, "a finite number"),
    ]
    for key, passed, expected in tests:
        if not passed.all():
            first = passed.argmin()
            raise InputError(
                f"{path}: annotation {content.ids[rows[first]]} has {key} "
                f"{columns[key][first].tolist()}, the first of {(~passed).sum()} like it; "
                f"expected {expected}."
            )
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        {"id": new_id, **dict(zip(columns, row, strict=True))}
        for new_id, row in enumerate(values, start=1)
    ]


def load_detections(path: str | Path, ground_truth: dict[str, Any]) -> np.ndarray:
    """Detections of a COCO result file, a JSON list of image_id, category_id, bbox, score.

    Returns float64 (D, 7): image id, x, y, width, height, score, category id; the list may be
    empty. Raises InputError, naming the index of the detection, for a missing, wrong or infinite
    value or NaN, for a negative width or height, for ids that `ground_truth` does not have, and for
    a file_name that is not that of the image id.
    """
    return detections_of(read_json(Path(path)), path, ground_truth)


def detections_of(content: Any, path: str | Path, ground_truth: dict[str, Any]) -> np.ndarray:
    """The same of the content of such a file; errors call it `path`."""
    if not isinstance(content, list):
        raise InputError(
            f"{path}: expected a COCO result file, a JSON list of objects with image_id, "
            f"category_id, bbox and score; found {_kind(content)}."
        )
    rows = [_detection(entry, f"{path}: detection {index}") for index, entry in enumerate(content)]
    detections = np.array(rows, dtype=np.float64).reshape(-1, 7)
    for column, key, entries in ((0, "image_id", "images"), (6, "category_id", "categories")):
        unknown = ~np.isin(detections[:, column], [entry["id"] for entry in ground_truth[entries]])
        if unknown.any():
            index = int(unknown.argmax())
            raise InputError(
                f"{path}: detection {index} has {key} {content[index][key]}, which is not among "
                f"the {entries} of the ground truth ({unknown.sum()} of {len(rows)} detections "
                "have such ids); do the two files belong together?"
            )
    _check_file_names(path, content, detections[:, 0].tolist(), ground_truth)
    return detections


def _check_file_names(
    path: str | Path,
    entries: list[dict[str, Any]],
    image_ids: list[float],
    ground_truth: dict[str, Any],
) -> None:
    """InputError if a detection's file_name is not that of its image id.

    This happens with files of tools/predict.py, which numbers the images it is given by itself.
    """
    names = {image["id"]: _parts(image.get("file_name") or "") for image in ground_truth["images"]}
    counts = Counter(path[-1:] for path in names.values())  # files of each name, in any folder
    for index, (entry, image_id) in enumerate(zip(entries, image_ids, strict=True)):
        name = entry.get("file_name")
        if not isinstance(name, str | None):
            raise InputError(
                f"{path}: detection {index} has the file_name {name!r}; it should be text, "
                "or not be there."
            )
        expected, actual = names[int(image_id)], _parts(name or "")
        same = actual[-len(expected) :] == expected
        # the end of a path is enough if no other folder has a file of this name
        same |= expected[-len(actual) :] == actual and counts[actual[-1:]] == 1
        if expected and actual and not same:
            raise InputError(
                f"{path}: detection {index} of {'/'.join(actual)} has image_id "
                f"{image_id:.0f}, which is {'/'.join(expected)} in the ground truth; "
                "detector predict numbers images itself: evaluate a run with --run, or give the "
                "ids of the file."
            )


def _parts(name: str) -> tuple[str, ...]:
    """The folders and file of a path of any system; NFC, since macOS separates accents."""
    return PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/"))).parts


def _detection(entry: Any, where: str) -> tuple[float, ...]:
    if not isinstance(entry, dict):
        raise InputError(f"{where} should be an object; found {_kind(entry)}.")
    image_id, category_id = (_id(entry.get(key), key, where) for key in ("image_id", "category_id"))
    score = _number(entry.get("score"), "score", where)
    return (image_id, *_box(entry.get("bbox"), where), score, category_id)


def _id(value: Any, key: str, where: str) -> float:
    """The whole number `value`, which may be a text; InputError for anything else."""
    number = whole_number(value)
    if number is None or abs(number) > LARGEST_ID:
        shown = "no such key, or null" if value is None else repr(value)
        raise InputError(
            f"{where}: '{key}' should be a whole number within ±{LARGEST_ID}; found {shown}."
        )
    return number


def _box(values: Any, where: str) -> list[float]:
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 4:
        raise InputError(f"{where} has bbox {values!r}; expected [x, y, width, height].")
    box = [_number(value, "bbox", where) for value in values]
    if box[2] < 0 or box[3] < 0:
        raise InputError(f"{where} has bbox {values!r}; width and height must not be negative.")
    return box


def _number(value: Any, key: str, where: str) -> float:
    """The finite number `value`; InputError for anything else, such as true."""
    if type(value) in (int, float) and abs(value) < LARGEST and math.isfinite(value):
        return float(value)
    shown = "no such key, or null" if value is None else repr(value)
    raise InputError(f"{where}: '{key}' should be a finite number; found {shown}.")


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    return "a JSON object" if isinstance(value, dict) else f"a JSON {type(value).__name__}"
