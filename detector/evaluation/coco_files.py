"""COCO's two kinds of file, read and checked for evaluation: ground truth and detections.

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
from detector.data.document import LARGEST_ID, whole_number
from detector.errors import InputError
from detector.files import read_json

LARGEST = 1e300  # of coordinates; products of larger ones overflow soon


def load_ground_truth(path: str | Path, *, only: NDArray[np.int64] | None = None) -> dict[str, Any]:
    """Images, categories and annotations of a COCO file, checked and completed for `evaluate`.

    Of an annotation only what boxes need stays: a new id from 1 on (pycocotools never matches
    id 0), image_id, category_id, bbox, area (width * height where the file has none above 0) and
    iscrowd (0 where the file has none); with `category_ids`, one annotation becomes one of each. Of
    images id and file name stay, of categories id and name, by ascending id. `areas_replaced` says
    how many areas of the file were not above 0. `only` names the annotation ids to take; the others
    are left out, whatever their ids and boxes. Raises InputError for a file that is missing, is not
    JSON or not COCO, for ids that are doubled or point nowhere, and for boxes that are no boxes.
    """
    return ground_truth_of(read_annotations(Path(path)), path, only=only)


def ground_truth_of(
    found: Annotations, path: str | Path, *, only: NDArray[np.int64] | None = None
) -> dict[str, Any]:
    """The same of what was read; errors call it `path`."""
    chosen = np.ones(len(found.ids), np.bool_) if only is None else np.isin(found.ids, only)
    labels, rows = found.label_ids, found.label_rows
    taken = chosen[rows]
    annotations = _annotations(path, found, rows[taken], labels[taken])
    categories = zip(found.category_ids.tolist(), found.category_names.tolist(), strict=True)
    return {
        "images": [
            {"id": image_id, "file_name": name} if name else {"id": image_id}
            for image_id, name in zip(
                found.image_ids.tolist(), found.file_names.tolist(), strict=True
            )
        ],
        "categories": [{"id": category_id, "name": name} for category_id, name in categories],
        "annotations": annotations,
        "areas_replaced": int(found.area_replaced[chosen].sum()),
    }


def _annotations(
    path: str | Path, found: Annotations, rows: NDArray[np.int64], labels: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """One for each of the labels, which belong to these rows of what was found."""
    boxes, areas = found.boxes[rows], found.areas[rows]
    missing = np.flatnonzero(np.isnan(boxes).all(1))
    if len(missing):
        raise InputError(
            f"{path}: annotation {found.ids[rows[missing[0]]]} has no box: its bbox is null or "
            f"empty, the first of {len(missing)} like it; correct or remove it."
        )
    columns = {
        "image_id": found.owners[rows],
        "category_id": labels,
        "bbox": boxes,
        "area": areas,
        "iscrowd": found.crowd[rows].astype(int),
    }
    tests = [
        ("image_id", np.isin(columns["image_id"], found.image_ids), "an id of 'images'"),
        ("category_id", np.isin(labels, found.category_ids), "an id of 'categories'"),
        ("bbox", (np.abs(boxes) < LARGEST).all(1), "finite numbers"),
        ("bbox", (boxes[:, 2:] >= 0).all(1), "a width and a height that are not negative"),
        ("area", np.abs(areas) < LARGEST, "a finite number"),
    ]
    for key, passed, expected in tests:
        if not passed.all():
            first = passed.argmin()
            raise InputError(
                f"{path}: annotation {found.ids[rows[first]]} has {key} "
                f"{columns[key][first].tolist()}, the first of {(~passed).sum()} like it; "
                f"expected {expected}."
            )
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        {"id": number, **dict(zip(columns, row, strict=True))}
        for number, row in enumerate(values, start=1)
    ]


def load_detections(path: str | Path, ground_truth: dict[str, Any]) -> np.ndarray:
    """Detections of a COCO result file, a JSON list of image_id, category_id, bbox, score.

    Returns float64 (D, 7): image id, x, y, width, height, score, category id. An empty list is
    fine. Raises InputError naming the index for a missing or unusable value, for a NaN or infinite
    one, for a negative width or height, for ids that `ground_truth` does not have, and for a
    file_name that is not that of the image id.
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
    """InputError where a detection names another file than its image id has, as tools/predict.py
    does: it numbers the images that it is given."""
    names = {image["id"]: _parts(image.get("file_name") or "") for image in ground_truth["images"]}
    bearers = Counter(parts[-1:] for parts in names.values())
    for index, (entry, image_id) in enumerate(zip(entries, image_ids, strict=True)):
        name = entry.get("file_name")
        if not isinstance(name, str | None):
            raise InputError(
                f"{path}: detection {index} has the file_name {name!r}; it should be text, "
                "or not be there."
            )
        expected, found = names[int(image_id)], _parts(name or "")
        same = found[-len(expected) :] == expected
        # a path from inside a folder says enough where no other folder has a file of this name
        same |= expected[-len(found) :] == found and bearers[found[-1:]] == 1
        if expected and found and not same:
            raise InputError(
                f"{path}: detection {index} of {'/'.join(found)} has image_id "
                f"{image_id:.0f}, which is {'/'.join(expected)} in the ground truth; "
                "detector predict numbers images itself: evaluate a run with --run, or give the "
                "ids of the file."
            )


def _parts(name: str) -> tuple[str, ...]:
    """Of a path of any system; macOS writes an accent as a letter of its own."""
    return PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/"))).parts


def _detection(entry: Any, where: str) -> tuple[float, ...]:
    if not isinstance(entry, dict):
        raise InputError(f"{where} should be an object; found {_kind(entry)}.")
    image_id, category_id = (_id(entry.get(key), key, where) for key in ("image_id", "category_id"))
    score = _number(entry.get("score"), "score", where)
    return (image_id, *_box(entry.get("bbox"), where), score, category_id)


def _id(value: Any, key: str, where: str) -> float:
    """The whole number `value`, which may be written as text."""
    number = whole_number(value)
    if number is None or abs(number) > LARGEST_ID:
        found = "no such key, or null" if value is None else repr(value)
        raise InputError(
            f"{where}: '{key}' should be a whole number within ±{LARGEST_ID}; found {found}."
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
    """The finite number `value`; true and false are none."""
    if type(value) in (int, float) and abs(value) < LARGEST and math.isfinite(value):
        return float(value)
    found = "no such key, or null" if value is None else repr(value)
    raise InputError(f"{where}: '{key}' should be a finite number; found {found}.")


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    return "a JSON object" if isinstance(value, dict) else f"a JSON {type(value).__name__}"
