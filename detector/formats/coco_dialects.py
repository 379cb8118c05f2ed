"""COCO JSON as other tools write it: ids that are text, classes by name, boxes left out, ..."""

from __future__ import annotations

import reprlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

from pycocotools import mask

from detector.data.document import whole_number
from detector.errors import InputError
from detector.files import read_json
from detector.formats.source import (
    IMAGE_MISSING,
    Label,
    LabelledImage,
    Labels,
    LabelSource,
    Tally,
    bounds,
    class_name,
    numbers,
    split_of_name,
)

UNKNOWN_IMAGE = "annotations of an image that is not in the file, left out"
NO_BOX = "annotations with neither bbox nor segmentation, left out"
NO_CLASS = "annotations of a category that is not in the file, left out"
SAME_NAME = "categories of the name of another, which become one class"
GROUP_CLASS = "categories without boxes that only group the others, left out"
Box = tuple[float, float, float, float]


class Entries(NamedTuple):
    """The three lists of one file."""

    file: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]


def read(source: LabelSource, tally: Tally) -> Labels:
    """The annotations of all COCO files below the source.

    Categories are those of all files, by name, in the order of their ids. Raises InputError, which
    names file and entry, for what is not of COCO's form, and for boxes that seem to be corners.
    """
    images: list[LabelledImage] = []
    classes: dict[str, None] = {}
    for file in source.of_suffix(".json"):
        entries = _entries(file)
        names = _category_names(entries, tally)
        boxes = _labels_by_image(entries, names, tally)
        _check_not_corners(entries, boxes)
        images += _images(source, entries, boxes, tally)
        classes.update(dict.fromkeys(names.values()))
    return Labels(images, source.classes or list(classes))


def _entries(file: Path) -> Entries:
    content = read_json(file)
    lists = []
    for key in ("images", "annotations", "categories"):
        rows = content.get(key, []) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InputError(
                f"{file}: {key!r} is {reprlib.repr(rows)}; COCO annotations have a list of objects "
                "there."
            )
        lists.append(rows)
    return Entries(file, *lists)


def _key(value: Any) -> str:
    """The same for 7, 7.0 and "7"."""
    number = whole_number(value)
    return str(value if number is None else number)


def _category_names(entries: Entries, tally: Tally) -> dict[str, str]:
    """Class names by `_key` of their ids, in the order of the ids where all are numbers."""
    rows, stated = entries.categories, [_stated(row)[1] for row in entries.annotations]
    if not rows:  # then the annotations name their classes
        texts = {class_name(_key(value)) for value in stated if value is not None}
        return {text: text for text in sorted(filter(None, texts))}
    for index, row in enumerate(rows):
        name = row.get("name")
        if not isinstance(name, str) or not name.strip() or row.get("id") is None:
            raise InputError(
                f"{entries.file}: entry {index} of 'categories' is {reprlib.repr(row)}; expected "
                "an id and a name."
            )
    ids = [whole_number(row["id"]) for row in rows]
    if None not in ids:
        rows = sorted(rows, key=lambda row: whole_number(row["id"]) or 0)
    used = set(map(_key, stated))
    names: dict[str, str] = {}
    for row in rows:
        key, name = _key(row["id"]), class_name(row["name"])
        above = any(other.get("supercategory") == row["name"] for other in rows if other is not row)
        if above and not {key, row["name"]} & used:
            tally.add(GROUP_CLASS, f"{entries.file}: category {row['name']!r}")
        elif key in names:
            raise InputError(f"{entries.file}: category id {row['id']!r} occurs twice.")
        else:
            if name in names.values():
                tally.add(SAME_NAME, f"{entries.file}: {name!r}")
            names[key] = name
    return names


def _stated(row: dict[str, Any]) -> tuple[str, Any]:
    """The key by which an annotation states its category, and the value; None: it states none."""
    keys = ("category_id", "category", "category_name")
    return next(((key, row[key]) for key in keys if row.get(key) is not None), ("", None))


def _class(row: dict[str, Any], names: dict[str, str], known: set[str]) -> str | None:
    """The class of an annotation: a number is an id, a text may be an id or a name.

    Names may be numbers, too, as of digits: under `category_id` a text is first looked up as an id,
    under the other keys as a name.
    """
    key, value = _stated(row)
    by_id = names.get(_key(value))
    by_name = class_name(value) if isinstance(value, str) else None
    if by_name not in known:
        return by_id
    return by_id or by_name if key == "category_id" else by_name


def _labels_by_image(
    entries: Entries, names: dict[str, str], tally: Tally
) -> dict[str, list[Label]]:
    """The boxes by `_key` of their image's id."""
    known = {_key(row.get("id")): row for row in entries.images}
    classes = set(names.values())
    labels: dict[str, list[Label]] = {key: [] for key in known}
    for index, row in enumerate(entries.annotations):
        place = f"{entries.file}: annotation {row.get('id', f'at index {index}')}"
        if "category_ids" in row:
            raise InputError(
                f"{place} has category_ids, several classes of one box, which are not carried "
                "over; training reads such a file as it is."
            )
        image, name = _key(row.get("image_id")), _class(row, names, classes)
        if image not in known:
            tally.add(UNKNOWN_IMAGE, f"{place}: image_id {row.get('image_id')!r}")
        elif name is None:
            key, value = _stated(row)
            tally.add(NO_CLASS, f"{place}: {f'{key} {value!r}' if key else 'no category_id'}")
        elif (box := _box(row, known[image], place)) is None:
            tally.add(NO_BOX, place)
        else:
            ignored = row.get("iscrowd") in (1, True, "1")
            labels[image].append(Label(box, name, place, ignored, _area(row)))
    return labels


def _area(row: dict[str, Any]) -> float | None:
    """The annotated area, such as that of a segmentation, where it can be one."""
    area = row.get("area")
    if isinstance(area, int | float) and 0 < area <= sys.float_info.max:
        return float(area)
    return None


def _box(row: dict[str, Any], image: dict[str, Any], place: str) -> Box | None:
    """x1, y1, x2, y2 of the bbox x, y, width, height, else around the segmentation."""
    sides = row.get("bbox")
    if not sides:
        return _around(row.get("segmentation"), image, place)
    if not isinstance(sides, list) or len(sides) != 4:
        raise InputError(f"{place}: bbox is {sides!r}; expected [x, y, width, height].")
    x, y, width, height = numbers(sides, f"{place}: bbox")
    return x, y, x + width, y + height


def _around(segmentation: Any, image: dict[str, Any], place: str) -> Box | None:
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        return _around_mask(segmentation, place)
    several = isinstance(segmentation, list) and isinstance(segmentation[0], list)
    polygons = segmentation if several else [segmentation]
    if not all(isinstance(one, list) and len(one) >= 4 and len(one) % 2 == 0 for one in polygons):
        raise InputError(f"{place}: segmentation is {reprlib.repr(segmentation)}; expected x, y, …")
    sides = [side for polygon in polygons for side in polygon]
    return bounds(numbers(sides, f"{place}: segmentation"))


def _around_mask(rle: dict[str, Any], place: str) -> Box:
    """Around a mask in COCO's run-length code, compressed or not."""
    try:
        compressed = isinstance(rle["counts"], str | bytes)
        code = rle if compressed else mask.frPyObjects(rle, *rle["size"])
        x, y, width, height = mask.toBbox(code).tolist()
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError(
            f"{place}: segmentation is {reprlib.repr(rle)}; expected a mask's size and counts."
        ) from None
    return x, y, x + width, y + height


def _check_not_corners(entries: Entries, labels: dict[str, list[Label]]) -> None:
    """InputError where boxes fit into their images only if bbox is x1, y1, x2, y2.

    Some tools write that. Read as x, y, width, height such boxes would be wrong, and most of them
    clipped without another sign.
    """
    outside = 0
    for row in entries.images:
        width, height = (whole_number(row.get(side)) or 0 for side in ("width", "height"))
        if not (width and height):
            return
        for x1, y1, x2, y2 in (label.box for label in labels[_key(row.get("id"))]):
            right, bottom = x2 - x1, y2 - y1  # what the file has in the place of width and height
            outside += x2 > width + 1 or y2 > height + 1
            if not (x1 < right <= width + 1 and y1 < bottom <= height + 1):
                return
    if outside:
        raise InputError(
            f"{entries.file}: bbox seems to be x1, y1, x2, y2: read as x, y, width, height, "
            f"{outside} boxes reach out of their images, and as corners none does; write COCO's "
            "x, y, width, height."
        )


def _images(
    source: LabelSource, entries: Entries, labels: dict[str, list[Label]], tally: Tally
) -> list[LabelledImage]:
    images, seen = [], set()
    split = split_of_name(entries.file, source.root)
    for index, row in enumerate(entries.images):
        place = f"{entries.file}: image {row.get('id', f'at index {index}')}"
        key, name = _key(row.get("id")), row.get("file_name")
        if row.get("id") is None or not isinstance(name, str) or not name:
            raise InputError(f"{place} is {reprlib.repr(row)}; expected an id and a file_name.")
        if key in seen:
            raise InputError(f"{place}: this id occurs twice; every image needs its own.")
        seen.add(key)
        file = source.images.named(name, entries.file, split)
        if file is None:
            tally.add(IMAGE_MISSING, f"{place}: {name!r} is not in {source.image_root}")
            continue
        images.append(LabelledImage(file, labels[key], place, split, _declared(row)))
    return images


def _declared(row: dict[str, Any]) -> tuple[int, int] | None:
    height, width = (whole_number(row.get(side)) or 0 for side in ("height", "width"))
    return (height, width) if height > 0 and width > 0 else None
