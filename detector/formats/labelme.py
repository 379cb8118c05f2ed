"""LabelMe: a JSON file an image, with `shapes` and the name of the image."""

from __future__ import annotations

import math
import reprlib
from functools import partial
from pathlib import Path
from typing import Any

from detector.errors import InputError
from detector.files import read_json
from detector.formats.one_file_an_image import Content, read_each
from detector.formats.source import (
    BrokenLabels,
    Label,
    Labels,
    LabelSource,
    Tally,
    bounds,
    class_name,
    numbers,
)

NO_AREA = "shapes that enclose nothing (points, lines), left out"
AREAS = ("rectangle", "polygon", "mask", "circle", "rotation", "oriented_rectangle")


def read(source: LabelSource, tally: Tally) -> Labels:
    """The rectangles of all JSON files below the source, and the boxes around other shapes."""
    read = partial(_read_file, tally)
    images = read_each(source, source.of_suffix(".json"), source.images, read, tally)
    return Labels(images, source.classes)


def _read_file(tally: Tally, file: Path) -> Content:
    """What one JSON file says; BrokenLabels names the file, and the shape."""
    try:
        content = read_json(file)
    except InputError as error:
        raise BrokenLabels(str(error)) from None
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list):
        raise BrokenLabels(f"{file}: it has no list of 'shapes'; LabelMe's files have one.")
    labels = [_label(shape, f"{file}: shape {i}", tally) for i, shape in enumerate(shapes, start=1)]
    sides = [content.get(side) or 0 for side in ("imageHeight", "imageWidth")]
    height, width = (int(side) for side in numbers(sides, f"{file}: imageHeight, imageWidth"))
    return Content(
        str(content.get("imagePath") or ""),
        (height, width) if height > 0 and width > 0 else None,
        [label for label in labels if label is not None],
    )


def _label(shape: Any, place: str, tally: Tally) -> Label | None:
    """The box of a shape; None for one that encloses nothing."""
    name = shape.get("label") if isinstance(shape, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise BrokenLabels(f"{place} is {reprlib.repr(shape)}; expected an object with a 'label'.")
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    if kind not in AREAS:
        tally.add(NO_AREA, f"{place} ({kind})")
        return None
    if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
        raise BrokenLabels(
            f"{place}: 'points' is {reprlib.repr(points)}; expected a list of [x, y]."
        )
    flat = numbers([side for point in points for side in point], place)
    if len(flat) < 4:
        raise BrokenLabels(f"{place}: it has {len(flat) // 2} points; expected two or more.")
    return Label(_box(kind, flat), class_name(name), place)


def _box(kind: str, points: list[float]) -> tuple[float, float, float, float]:
    if kind == "circle":  # its centre, and a point on it
        x, y, across, down = points[:4]
        radius = math.hypot(across - x, down - y)
        return x - radius, y - radius, x + radius, y + radius
    return bounds(points)
