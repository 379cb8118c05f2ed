"""Reading a COCO annotation file and checking its form: keys, types, ranges.

msgspec reads a file that has exactly this form, six times as fast as json with a check of each row.
Any other file is read row by row, which accepts more spellings (NaN, numbers written as text, empty
boxes) and names the row, key and value that are wrong.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from detector.errors import InputError
from detector.files import json_text, parse_json

LARGEST_ID = 2**53 - 1  # of images and categories: larger ones are inexact in float64
LARGEST_INT = 2**63 - 1
MOST_PIXELS = 2**31 - 1
WHOLE = re.compile(r"\s*[+-]?[0-9]{1,19}\s*")

Id = Annotated[int, Meta(ge=-LARGEST_ID, le=LARGEST_ID)]
Int = Annotated[int, Meta(ge=-LARGEST_INT, le=LARGEST_INT)]
Pixels = Annotated[int, Meta(ge=0, le=MOST_PIXELS)]
Text = Annotated[str, Meta(min_length=1)]


class Image(msgspec.Struct, gc=False):
    """An entry of 'images'."""

    id: Id
    file_name: Text = ""  # evaluation needs none
    height: Pixels | None = None  # null and 0 mean that it is unknown
    width: Pixels | None = None


class Category(msgspec.Struct, gc=False):
    """An entry of 'categories'."""

    id: Id
    name: Text


class Box(msgspec.Struct, gc=False):
    """An entry of 'annotations'."""

    id: Int
    image_id: Int
    bbox: tuple[float, float, float, float] | None  # x, y, width, height
    category_id: Int | None = None
    category_ids: Annotated[tuple[Int, ...], Meta(min_length=1)] = ()  # instead of category_id
    area: float | None = None
    iscrowd: Literal[0, 1] | bool | None = None

    @property
    def labels(self) -> tuple[int | None, ...]:
        """The category ids, each once."""
        return tuple(dict.fromkeys(self.category_ids)) or (self.category_id,)


class Document(msgspec.Struct):
    """What is read of the file; other keys are ignored."""

    images: Annotated[list[Image], Meta(min_length=1)]
    categories: Annotated[list[Category], Meta(min_length=1)]
    annotations: list[Box]


def read_document(path: Path) -> Document:
    """The file's content, in which every annotation has a label.

    Raises InputError for a file that is missing, not JSON, or not of COCO's form.
    """
    text = json_text(path)
    try:
        document = msgspec.json.decode(text, type=Document)
    except (ValueError, RecursionError):
        return row_by_row(path, parse_json(text, path))
    if any(box.category_id is None and not box.category_ids for box in document.annotations):
        return row_by_row(path, parse_json(text, path))
    return document


def whole_number(value: Any) -> int | None:
    """7 for 7, 7.0 and "7"; None for anything else, and for true and false."""
    if isinstance(value, str):
        return int(value) if WHOLE.fullmatch(value) else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if type(value) is int else None  # isinstance would let bool pass


def row_by_row(path: Path, content: Any) -> Document:
    """The document in the content of a file; InputError names `path`, the row, key and value."""
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: the file holds a {type(content).__name__}; COCO annotations are one object "
            "with 'images', 'annotations' and 'categories'."
        )
    images = [row.image() for row in _rows(path, content, "images", "image")]
    if not images:
        raise InputError(f"{path}: 'images' is empty; there is nothing to train on or to evaluate.")
    categories = [row.category() for row in _rows(path, content, "categories", "category")]
    if not categories:
        raise InputError(f"{path}: 'categories' is empty; a detector needs at least one class.")
    boxes = [row.annotation() for row in _rows(path, content, "annotations", "annotation")]
    return Document(images, categories, boxes)


def _rows(path: Path, content: dict[str, Any], key: str, kind: str) -> Iterator[_Row]:
    entries = content.get(key)
    if not isinstance(entries, list):
        problem = "missing" if key not in content else f"a {type(entries).__name__}"
        raise InputError(f"{path}: '{key}' is {problem}; COCO annotations need a list there.")
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(
                f"{path}: entry {position} of '{key}' is {reprlib.repr(entry)}; expected an object."
            )
        yield _Row(path, kind, position, entry)


@dataclass(frozen=True)
class _Row:
    """An object of one of the file's lists; its methods read a key, or raise an error."""

    path: Path
    kind: str
    position: int
    values: dict[str, Any]

    def image(self) -> Image:
        return Image(
            id=self.whole("id", largest=LARGEST_ID),
            file_name=self.text("file_name") if "file_name" in self.values else "",
            height=self.pixels("height"),
            width=self.pixels("width"),
        )

    def category(self) -> Category:
        return Category(id=self.whole("id", largest=LARGEST_ID), name=self.text("name"))

    def annotation(self) -> Box:
        several = "category_ids" in self.values
        return Box(
            id=self.whole("id"),
            image_id=self.whole("image_id"),
            bbox=self.box(),
            category_id=None if several else self.whole("category_id"),
            category_ids=self.several_categories() if several else (),
            area=self.area(),
            iscrowd=self.flag("iscrowd"),
        )

    def error(self, problem: str) -> InputError:
        name = f"{self.kind} {reprlib.repr(self.values.get('id', '?'))}"
        return InputError(f"{self.path}: {name} (entry {self.position} of its list) {problem}.")

    def get(self, key: str) -> Any:
        if key not in self.values:
            raise self.error(f"has no '{key}'; COCO annotations need it")
        return self.values[key]

    def whole(self, key: str, *, largest: int = LARGEST_INT) -> int:
        return self.as_whole(key, self.get(key), largest=largest)

    def as_whole(self, key: str, value: Any, *, largest: int = LARGEST_INT) -> int:
        number = whole_number(value)
        if number is None or abs(number) > largest:
            wanted = f"a whole number within ±{largest}"
            raise self.error(f"has {key} {reprlib.repr(value)}; expected {wanted}")
        return number

    def flag(self, key: str) -> bool:
        """0 or 1; also true and false, and 0 where it is missing or null."""
        value = self.values.get(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        if whole_number(value) not in (0, 1):
            raise self.error(f"has {key} {reprlib.repr(value)}; expected 0 or 1")
        return bool(whole_number(value))

    def pixels(self, key: str) -> int | None:
        """None where it is missing, null or empty: evaluation does not need it."""
        value = self.values.get(key)
        if value is None or value == "":
            return None
        number = self.as_whole(key, value)
        if not 0 <= number <= MOST_PIXELS:
            raise self.error(f"has {key} {number}; expected a positive number of pixels")
        return number

    def text(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str) or not value:
            raise self.error(f"has {key} {reprlib.repr(value)}; expected a text")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise self.error(
                f"has {key} {value!r} with half of a surrogate pair, which is no character; "
                "write the text anew"
            )
        return value

    def box(self) -> tuple[float, float, float, float] | None:
        """None where it is null, an empty list, or a list of nulls."""
        box = self.get("bbox")
        if box is None or (isinstance(box, list) and all(side is None for side in box)):
            return None
        sides = [_float(side) for side in box] if isinstance(box, list) else []
        numbers = [side for side in sides if side is not None]
        if not len(numbers) == len(sides) == 4:
            raise self.error(f"has bbox {reprlib.repr(box)}; expected [x, y, width, height]")
        x, y, width, height = numbers
        return x, y, width, height

    def area(self) -> float | None:
        """None where it is missing or null."""
        value = self.values.get("area")
        area = _float(value)
        if area is None and value is not None:
            raise self.error(f"has area {reprlib.repr(value)}; expected a number")
        return area

    def several_categories(self) -> tuple[int, ...]:
        several = self.values["category_ids"]
        if not isinstance(several, list) or not several:
            raise self.error(f"has category_ids {reprlib.repr(several)}; expected a list of ids")
        return tuple(self.as_whole("category_ids", value) for value in several)


def _float(value: Any) -> float | None:
    """None for anything but a number, and for a number too large for a float."""
    if type(value) not in (int, float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
