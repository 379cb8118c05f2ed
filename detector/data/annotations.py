"""An annotation file as flat numpy arrays; a COCO file is read once and cached.

A format of one's own is one function of the annotation file and the folder of images that returns
the content of a COCO file: a dict of images, annotations and categories. What follows (checks,
index, evaluation, resume) is the same for all formats.

Only the form is checked here: keys, types, and ids that occur once. coco.py checks whether the
entries can be used.

I images, B annotations, K categories.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from detector.data.cache import Cache
from detector.data.document import Box, Category, Document, Image, read_document, row_by_row
from detector.errors import InputError
from detector.imported import calling, imported, name_of

CACHE_VERSION = 4  # raise it whenever the fields below or their meaning change
NO_BOX = (math.nan,) * 4
COCO = "coco"


@dataclass(frozen=True, eq=False)
class Annotations:
    """The file's content in its order; ids may be unknown, and boxes unusable."""

    image_ids: NDArray[np.int64]  # (I,)
    file_names: NDArray[np.str_]  # (I,) "" where the file has none
    sizes: NDArray[np.int32]  # (I, 2) height, width; 0 where the file has none
    category_ids: NDArray[np.int64]  # (K,) ascending
    category_names: NDArray[np.str_]  # (K,)
    ids: NDArray[np.int64]  # (B,)
    owners: NDArray[np.int64]  # (B,) image ids
    boxes: NDArray[np.float64]  # (B, 4) x, y, width, height, as in the file; NaN where it has none
    areas: NDArray[np.float64]  # (B,) width * height where the file has none, or none above 0
    area_replaced: NDArray[np.bool_]  # (B,) whether the file has another area, not above 0
    crowd: NDArray[np.bool_]  # (B,)
    label_offsets: NDArray[np.int64]  # (B + 1,)
    label_ids: NDArray[
        np.int64
    ]  # category ids; those of b are [label_offsets[b]:label_offsets[b + 1]]

    @property
    def label_rows(self) -> NDArray[np.int64]:
        """For each of `label_ids`, the index of its annotation in 0 .. B-1."""
        return np.repeat(np.arange(len(self.ids)), np.diff(self.label_offsets))


def read_annotations(path: Path) -> Annotations:
    """The content of the file, or of the cache if that was made from a file of the same hash.

    Raises InputError for a file that is missing, not JSON, or not of COCO's form.
    """
    cache = Cache.beside(path, "index", f"{CACHE_VERSION}-{_hash(path)}")
    cached = cache.load()
    if cached is not None:
        return Annotations(**cached)
    annotations = _arrays(path, read_document(path))
    cache.save(**vars(annotations))
    return annotations


def annotations_of(content: Any, source: Path) -> Annotations:
    """The arrays of the content of such a file, which errors call `source`; InputError as above."""
    return _arrays(source, row_by_row(source, content))


Function = Callable[[Path, Path], dict[str, Any]]
Reader = Callable[[Path, Path], Annotations]  # annotation file, folder of images -> its content


def read_coco(annotations: Path, images: Path) -> Annotations:
    """The content of a COCO JSON file; InputError as `read_annotations` raises it."""
    return read_annotations(annotations)


def read_own(function: Function, annotations: Path, images: Path) -> Annotations:
    """What a user's function returns, checked as a COCO file is.

    Not cached: what the function reads beside the annotation file is not known. Raises InputError
    where the function fails, naming its line, and where the content is not of COCO's form, naming
    `annotations`.
    """
    with calling(function, str(annotations)):
        content = function(annotations, images)
    try:
        return annotations_of(_plain(content), annotations)
    except InputError as error:
        raise InputError(f"what {name_of(function)} returned for {error}") from None


def reader(name: str) -> Reader:
    """The reader "coco", or that of a function "module:function".

    Raises:
        ValueError: it cannot be imported, or is no function.
    """
    if name == COCO:
        return read_coco
    function = imported(name)
    if not callable(function):
        raise ValueError(
            f"found {name!r}, which is a {type(function).__name__}; it should be a function of the "
            "annotation file and the folder of images"
        )
    return partial(read_own, function)


def _plain(value: Any) -> Any:
    """The value as JSON would have it: lists and Python's numbers, not tuples and NumPy's."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value) if isinstance(value, Path) else value


def _hash(path: Path) -> str:
    # the content, not the time of change: a copy or a checkout may have any time
    hasher = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                hasher.update(block)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    return hasher.hexdigest()


def _arrays(path: Path, document: Document) -> Annotations:
    images, rows = document.images, document.annotations
    categories = sorted(document.categories, key=lambda category: category.id)
    sides = chain.from_iterable(row.bbox or NO_BOX for row in rows)
    boxes = np.fromiter(sides, np.float64, 4 * len(rows)).reshape(-1, 4)
    areas, area_replaced = _areas(rows, boxes)
    labels = [row.labels for row in rows]
    return Annotations(
        image_ids=_ids(path, images, "image"),
        file_names=np.array([image.file_name for image in images]),
        sizes=np.array([(image.height or 0, image.width or 0) for image in images], np.int32),
        category_ids=_ids(path, categories, "category"),
        # accents composed, so that equal names have equal spellings
        category_names=np.array([normalize("NFC", category.name) for category in categories]),
        ids=_ids(path, rows, "annotation"),
        owners=np.array([row.image_id for row in rows], np.int64),
        boxes=boxes,
        areas=areas,
        area_replaced=area_replaced,
        crowd=np.array([row.iscrowd for row in rows], np.bool_),  # None is false
        label_offsets=np.cumsum([0, *map(len, labels)], dtype=np.int64),
        label_ids=np.array(list(chain.from_iterable(labels)), np.int64),
    )


def _areas(rows: Sequence[Box], boxes: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Areas (B,), width * height where the file has none above 0; and which were replaced (B,).

    COCO's metrics ignore a box of negative area in every range of sizes.
    """
    given = np.array([row.area for row in rows], np.float64)  # None is NaN
    present = np.array([row.area is not None for row in rows], np.bool_)
    with np.errstate(over="ignore", invalid="ignore"):
        product = boxes[:, 2] * boxes[:, 3]
    usable = np.isfinite(given) & (given > 0)
    return np.where(usable, given, product), present & ~usable & (given != product)


def _ids(path: Path, rows: Sequence[Image | Category | Box], kind: str) -> NDArray[np.int64]:
    """The ids of all rows; InputError if one occurs twice."""
    ids = np.array([row.id for row in rows], np.int64)
    values, counts = np.unique(ids, return_counts=True)
    repeated = values[counts > 1]
    if len(repeated):
        raise InputError(
            f"{path}: {kind} id {repeated[0]} occurs {counts[counts > 1][0]} times "
            f"({len(repeated)} repeated ids in all); every {kind} needs an id of its own."
        )
    return ids


def lookup(ids: NDArray[np.int64], among: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """The index of each id in `among` (any index if it is not there), and whether it is there."""
    order = np.argsort(among)
    # clipped: searchsorted gives len(among) for an id above all others
    positions = np.searchsorted(among, ids, sorter=order).clip(max=len(among) - 1)
    rows = order[positions]
    return rows, among[rows] == ids
