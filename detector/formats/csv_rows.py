"""CSV: a row a box, `path,x1,y1,x2,y2,class`; a row without numbers is an image without objects."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from detector.errors import InputError
from detector.formats.source import (
    IMAGE_MISSING,
    Label,
    LabelledImage,
    Labels,
    LabelSource,
    Tally,
    class_name,
    numbers,
    read_lines,
    split_of_name,
)

COLUMNS = ("path", "x1", "y1", "x2", "y2", "class")
# what other writers call them, by the letters alone
SPELLINGS = {
    "path": {"path", "file", "filename", "image", "imagepath", "imagename", "imageid", "img"},
    "x1": {"x1", "xmin", "left"},
    "y1": {"y1", "ymin", "top"},
    "x2": {"x2", "xmax", "right"},
    "y2": {"y2", "ymax", "bottom"},
    "class": {"class", "label", "name", "classname", "category", "labelname"},
}


def read(source: LabelSource, tally: Tally) -> Labels:
    """The rows of all CSV files below the source; pixels from 0, x2 and y2 beyond the box.

    Raises InputError, which names file and line, for a row that is not of this form.
    """
    images: dict[Path, LabelledImage] = {}
    paths: dict[Path, str] = {}  # as the rows have them
    for file in source.of_suffix(".csv"):
        split = split_of_name(file, source.root)
        for line, row in _rows(file):
            place = f"{file}:{line}"
            image = source.images.named(row["path"], file, split)
            if image is None:
                tally.add(IMAGE_MISSING, f"{place}: {row['path']!r} is not in {source.image_root}")
                continue
            first = paths.setdefault(image, row["path"])
            if first != row["path"]:
                raise InputError(
                    f"{place}: {row['path']!r} and {first!r} would both be {image}, the nearest of "
                    "that name; bring the missing one, or write one path for one image."
                )
            before = images.get(image) or LabelledImage(image, (), place, split)
            if before.split != split:
                raise InputError(
                    f"{place}: {image} is in {before.origin}, too, which is {before.split or 'no'} "
                    "part of the data; take it out of one of the two."
                )
            images[image] = replace(before, labels=(*before.labels, *_label(row, place)))
    return Labels(list(images.values()), source.classes)


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The line and the values of each row that holds anything, by our names of the columns."""
    reader = csv.reader(read_lines(file), strict=True)
    columns: Sequence[str | None] | None = None
    try:
        for row in reader:
            if not any(value.strip() for value in row):
                continue
            if columns is None:
                columns, header = _header(row, f"{file}:{reader.line_num}")
                if header:
                    continue
            if len(row) != len(columns):
                raise InputError(
                    f"{file}:{reader.line_num}: found {len(row)} values, expected "
                    f"{len(columns)}: {', '.join(name or '…' for name in columns)}."
                )
            pairs = zip(columns, row, strict=True)
            yield reader.line_num, {name: value.strip() for name, value in pairs if name}
    except csv.Error as error:
        raise InputError(f"{file}:{reader.line_num}: this is not a row of CSV: {error}.") from None


def _header(row: Sequence[str], place: str) -> tuple[Sequence[str | None], bool]:
    """Our names of the columns, None for others; and whether the first row is a header."""
    names = [re.sub(r"[^a-z0-9]", "", value.lower()) for value in row]
    columns = [next((key for key in COLUMNS if name in SPELLINGS[key]), None) for name in names]
    if set(COLUMNS) <= set(columns):
        if len(set(columns) - {None}) == sum(column is not None for column in columns):
            return columns, True
        raise InputError(f"{place}: two columns of {', '.join(row)} mean the same; leave one.")
    if len(row) == len(COLUMNS) and not any(map(_is_word, row[1:5])):
        return COLUMNS, False
    raise InputError(
        f"{place}: found {', '.join(row)}; expected rows of path,x1,y1,x2,y2,class, or a header "
        "with these names (filename, xmin, …, label will do)."
    )


def _is_word(value: str) -> bool:
    """Whether a column name stands in the place of a number."""
    return value.strip()[:1].isalpha() and value.strip().lower() not in ("nan", "inf")


def _label(row: dict[str, str], place: str) -> list[Label]:
    """The box of a row; [] where its numbers are empty."""
    sides = [row[side] for side in COLUMNS[1:5]]
    if not any(sides):
        return []
    x1, y1, x2, y2 = numbers(sides, place)
    if not row["class"]:
        raise InputError(f"{place}: there is no class; expected its name in the last column.")
    return [Label((x1, y1, x2, y2), class_name(row["class"]), place)]
