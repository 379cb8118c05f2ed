"""A COCO annotation file as flat numpy arrays, read once and cached.

Only the form is checked here: keys, types, ids that occur once. What the contents mean, and what of
it is usable, is decided in coco.py.    I images, B annotations, K categories.
"""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.data.cache import Cache
from detector.errors import InputError

CACHE_VERSION = 2  # to be raised whenever the fields below change
LARGEST_ID = 2**53 - 1  # of images and categories, which travel in float64


@dataclass(frozen=True, eq=False)
class Annotations:
    """What the file says, in its order; ids may point nowhere and boxes may be useless."""

    image_ids: NDArray[np.int64]  # (I,)
    file_names: NDArray[np.str_]  # (I,) empty where the file has none
    sizes: NDArray[np.int32]  # (I, 2) height, width; 0 where the file has none
    category_ids: NDArray[np.int64]  # (K,) ascending
    category_names: NDArray[np.str_]  # (K,)
    ids: NDArray[np.int64]  # (B,)
    owners: NDArray[np.int64]  # (B,) image ids
    boxes: NDArray[np.float64]  # (B, 4) x, y, width, height, as in the file
    areas: NDArray[np.float64]  # (B,) NaN where the file has none
    crowd: NDArray[np.bool_]  # (B,)
    label_offsets: NDArray[np.int64]  # (B + 1,)
    label_ids: NDArray[
        np.int64
    ]  # category ids; those of b are [label_offsets[b]:label_offsets[b + 1]]

    @property
    def label_rows(self) -> NDArray[np.int64]:
        """The row of the annotation that each of `label_ids` belongs to."""
        return np.repeat(np.arange(len(self.ids)), np.diff(self.label_offsets))


def read_annotations(path: Path) -> Annotations:
    """The file's arrays, from the cache where the file's hash is known there.

    Raises InputError for a file that is missing, not JSON, or not of COCO's form.
    """
    cache = Cache.beside(path, "index", f"{CACHE_VERSION}-{_hash(path)}")
    cached = cache.load()
    if cached is not None:
        return Annotations(**cached)
    annotations = _parse(path)
    cache.save(**vars(annotations))
    return annotations


def _hash(path: Path) -> str:
    hasher = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                hasher.update(block)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    return hasher.hexdigest()


@dataclass(frozen=True)
class _Row:
    """One object of one of the file's lists, with readers that name it when it is wrong."""

    path: Path
    kind: str
    position: int
    values: dict[str, Any]

    def error(self, problem: str) -> InputError:
        name = f"{self.kind} {reprlib.repr(self.values.get('id', '?'))}"
        return InputError(f"{self.path}: {name} (entry {self.position} of its list) {problem}.")

    def get(self, key: str) -> Any:
        if key not in self.values:
            raise self.error(f"has no '{key}'; COCO annotations need it")
        return self.values[key]

    def whole(self, key: str, *, largest: int = 2**63 - 1) -> int:
        return self.as_whole(key, self.get(key), largest=largest)

    def as_whole(self, key: str, value: Any, *, largest: int = 2**63 - 1) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or abs(value) > largest:
            wanted = f"a whole number within ±{largest}"
            raise self.error(f"has {key} {reprlib.repr(value)}; expected {wanted}")
        return value

    def flag(self, key: str) -> bool:
        """0 or 1, which may be missing, null, or written as true and false."""
        value = self.values.get(key)
        if value not in (0, 1, None):
            raise self.error(f"has {key} {reprlib.repr(value)}; expected 0 or 1")
        return bool(value)

    def pixels(self, key: str) -> int:
        """0 where the file has none: evaluation needs none."""
        if key not in self.values:
            return 0
        value = self.whole(key)
        if not 0 < value < 2**31:
            raise self.error(f"has {key} {value}; expected a positive number of pixels")
        return value

    def text(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str) or not value:
            raise self.error(f"has {key} {reprlib.repr(value)}; expected a text")
        return value

    def file_name(self) -> str:
        """Empty where the file has none: evaluation needs none."""
        return self.text("file_name") if "file_name" in self.values else ""

    def box(self) -> list[float]:
        box = self.get("bbox")
        sides = [_float(side) for side in box] if isinstance(box, list) else []
        numbers = [side for side in sides if side is not None]
        if not len(numbers) == len(sides) == 4:
            raise self.error(f"has bbox {reprlib.repr(box)}; expected [x, y, width, height]")
        return numbers

    def area(self) -> float:
        """NaN where the file has none."""
        value = self.values.get("area")
        area = math.nan if value is None else _float(value)
        if area is None:
            raise self.error(f"has area {reprlib.repr(value)}; expected a number")
        return area

    def categories(self) -> list[int]:
        """Of `category_ids`, our extension for several labels on one box, or `category_id`."""
        if "category_ids" not in self.values:
            return [self.whole("category_id")]
        several = self.values["category_ids"]
        if not isinstance(several, list) or not several:
            raise self.error(f"has category_ids {reprlib.repr(several)}; expected a list of ids")
        return list(dict.fromkeys(self.as_whole("category_ids", value) for value in several))


def _float(value: Any) -> float | None:
    """None for what is no number, or too large for a float."""
    if type(value) not in (int, float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _parse(path: Path) -> Annotations:
    document = _document(path)
    images = list(_rows(path, document, "images", "image"))
    if not images:
        raise InputError(f"{path}: 'images' is empty; there is nothing to train on or to evaluate.")
    categories = list(_rows(path, document, "categories", "category"))
    if not categories:
        raise InputError(f"{path}: 'categories' is empty; a detector needs at least one class.")
    categories.sort(key=lambda row: row.whole("id"))
    boxes = list(_rows(path, document, "annotations", "annotation"))
    labels = [row.categories() for row in boxes]
    return Annotations(
        image_ids=_ids(path, images, "image", largest=LARGEST_ID),
        file_names=np.array([row.file_name() for row in images]),
        sizes=np.array([(row.pixels("height"), row.pixels("width")) for row in images], np.int32),
        category_ids=_ids(path, categories, "category", largest=LARGEST_ID),
        category_names=np.array([row.text("name") for row in categories]),
        ids=_ids(path, boxes, "annotation"),
        owners=np.array([row.whole("image_id") for row in boxes], np.int64),
        boxes=np.array([row.box() for row in boxes], np.float64).reshape(-1, 4),
        areas=np.array([row.area() for row in boxes], np.float64),
        crowd=np.array([row.flag("iscrowd") for row in boxes], np.bool_),
        label_offsets=np.cumsum([0, *map(len, labels)], dtype=np.int64),
        label_ids=np.array([label for several in labels for label in several], np.int64),
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: this is not a JSON file: {error}.") from error
    if not isinstance(document, dict):
        raise InputError(
            f"{path}: the file holds a {type(document).__name__}; COCO annotations are one object "
            "with 'images', 'annotations' and 'categories'."
        )
    return document


def _rows(path: Path, document: dict[str, Any], key: str, kind: str) -> Iterator[_Row]:
    entries = document.get(key)
    if not isinstance(entries, list):
        found = "missing" if key not in document else f"a {type(entries).__name__}"
        raise InputError(f"{path}: '{key}' is {found}; COCO annotations need a list there.")
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(
                f"{path}: entry {position} of '{key}' is {reprlib.repr(entry)}; expected an object."
            )
        yield _Row(path, kind, position, entry)


def _ids(path: Path, rows: list[_Row], kind: str, *, largest: int = 2**63 - 1) -> NDArray[np.int64]:
    """The ids of all rows; each may occur once."""
    ids = np.array([row.whole("id", largest=largest) for row in rows], np.int64)
    values, counts = np.unique(ids, return_counts=True)
    repeated = values[counts > 1]
    if len(repeated):
        raise InputError(
            f"{path}: {kind} id {repeated[0]} occurs {counts[counts > 1][0]} times "
            f"({len(repeated)} repeated ids in all); every {kind} needs an id of its own."
        )
    return ids
