"""Reading a COCO annotation file and checking its form: keys, types, ranges.

msgspec reads a file that has exactly this form, six times as fast as json with a check of each row.
Any other file is read row by row, which accepts more spellings (NaN, numbers written as text, empty
boxes) and names the row, key and value that are wrong.
"""

from __future__ import annotations

import re
import reprlib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from detector.errors import InputError
from detector.files import json_text, parse_json

LARGEST_ID = 2**53 - 1  # of images and categories: larger ones are inexact in float64
LARGEST_INT = 2**63 - 1
MOST_PIXELS = 2**31 - 1
NAMES = {"images": "image", "categories": "category", "annotations": "annotation"}
INTEGERS = {"id", "image_id", "category_id", "category_ids", "height", "width", "iscrowd"}
WHOLE = re.compile(r"\s*[+-]?[0-9]{1,19}\s*")
SURROGATE = re.compile("[\ud800-\udfff]")

# what is wrong with a value is said by the descriptions
Id = Annotated[
    int, Meta(ge=-LARGEST_ID, le=LARGEST_ID, description=f"a whole number within ±{LARGEST_ID}")
]
Int = Annotated[
    int, Meta(ge=-LARGEST_INT, le=LARGEST_INT, description=f"a whole number within ±{LARGEST_INT}")
]
Pixels = Annotated[
    Annotated[int, Meta(ge=0, le=MOST_PIXELS)] | None,
    Meta(description="a positive number of pixels"),
]
Text = Annotated[
    str, Meta(min_length=1, description="a text (half of a surrogate pair is no character)")
]
Sides = Annotated[
    tuple[float, float, float, float] | None, Meta(description="[x, y, width, height]")
]
Ids = Annotated[tuple[Int, ...], Meta(min_length=1, description="a list of ids")]

Row = TypeVar("Row", bound=msgspec.Struct)


class Image(msgspec.Struct, gc=False):
    """An entry of 'images'."""

    id: Id
    file_name: Text = ""  # evaluation needs none
    height: Pixels = None  # null and 0 mean that it is unknown
    width: Pixels = None


class Category(msgspec.Struct, gc=False):
    """An entry of 'categories'."""

    id: Id
    name: Text


class Box(msgspec.Struct, gc=False):
    """An entry of 'annotations'."""

    id: Int
    image_id: Int
    bbox: Sides  # x, y, width, height
    category_id: Int = None  # type: ignore[assignment]  # only where there are category_ids
    category_ids: Ids = ()
    area: Annotated[float | None, Meta(description="a number")] = None
    iscrowd: Annotated[Literal[0, 1] | bool | None, Meta(description="0 or 1")] = None

    @property
    def labels(self) -> tuple[int, ...]:
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
    with suppress(ValueError, RecursionError):
        document = msgspec.json.decode(text, type=Document)
        if all(box.category_id is not None or box.category_ids for box in document.annotations):
            return document
    if text.lstrip().startswith("<"):
        raise InputError(
            f"{path}: this is XML, and a COCO JSON file is expected; `detector convert` makes one "
            "of the XML files of Pascal VOC."
        )
    return row_by_row(path, parse_json(text, path))


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
    images = _rows(path, content, "images", Image)
    if not images:
        raise InputError(f"{path}: 'images' is empty; there is nothing to train on or to evaluate.")
    categories = _rows(path, content, "categories", Category)
    if not categories:
        raise InputError(f"{path}: 'categories' is empty; a detector needs at least one class.")
    return Document(images, categories, _rows(path, content, "annotations", Box))


def _rows(path: Path, content: dict[str, Any], key: str, kind: type[Row]) -> list[Row]:
    entries = content.get(key)
    if not isinstance(entries, list):
        problem = "missing" if key not in content else f"a {type(entries).__name__}"
        raise InputError(f"{path}: '{key}' is {problem}; COCO annotations need a list there.")
    rows = []
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(
                f"{path}: entry {position} of '{key}' is {reprlib.repr(entry)}; expected an object."
            )
        try:
            rows.append(msgspec.convert(_usual_row(entry, kind), kind))
        except msgspec.ValidationError as error:
            name = f"{NAMES[key]} {reprlib.repr(entry.get('id', '?'))}"
            raise InputError(
                f"{path}: {name} (entry {position} of its list) {_problem(entry, kind, error)}."
            ) from None
    return rows


def _usual_row(entry: dict[str, Any], kind: type[Row]) -> dict[str, Any]:
    """The entry as COCO writes it, where it has another spelling that is read, too."""
    row = {key: _usual(key, entry[key]) for key in kind.__struct_fields__ if key in entry}
    if "category_ids" in row:
        row.pop("category_id", None)
    elif kind is Box:
        row.setdefault("category_id", None)  # which is refused
    return row


def _usual(key: str, value: Any) -> Any:
    if isinstance(value, list):
        items = [_usual(key, one) for one in value]
        return None if key == "bbox" and all(side is None for side in items) else items
    if isinstance(value, str) and SURROGATE.search(value):
        return {}  # refused under each key; msgspec would raise another error for the text
    if key in ("height", "width") and value == "":
        return None
    number = whole_number(value) if key in INTEGERS else None
    return value if number is None else number


def _problem(entry: dict[str, Any], kind: type[Row], error: msgspec.ValidationError) -> str:
    """What is wrong with an entry, from the error, which names the key alone."""
    key = re.findall(r"(?:field `|at `\$\.)(\w+)", str(error))[0]
    if key not in entry:
        return f"has no '{key}'; COCO annotations need it"
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    expected = types[key].__metadata__[0].description
    return f"has {key} {reprlib.repr(entry[key])}; expected {expected}"
