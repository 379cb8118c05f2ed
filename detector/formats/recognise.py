"""Which format a source has, told by its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from detector.errors import InputError
from detector.files import read_json
from detector.formats import coco_dialects, csv_rows, labelme, voc, yolo
from detector.formats.source import Labels, LabelSource, Tally
from detector.formats.yolo_settings import settings_files


class LabelFormat(NamedTuple):
    """How a format is called, looks, and is read."""

    title: str
    looks: str
    files: Callable[[LabelSource], list[Path]]  # by which it is recognised
    read: Callable[[LabelSource, Tally], Labels]


def _xml(source: LabelSource) -> list[Path]:
    return source.of_suffix(".xml")


def _yolo(source: LabelSource) -> list[Path]:
    return settings_files(source) or yolo.label_files(source)


def _labelme(source: LabelSource) -> list[Path]:
    return _json_with(source, "shapes")


def _csv(source: LabelSource) -> list[Path]:
    return source.of_suffix(".csv")


def _coco(source: LabelSource) -> list[Path]:
    return _json_with(source, "images")


def _json_with(source: LabelSource, key: str) -> list[Path]:
    """The JSON files, if the first that holds an object has this key."""
    files = source.of_suffix(".json")
    content: Any = None
    for file in files:
        try:
            content = read_json(file)
        except InputError:
            continue
        if isinstance(content, dict):
            break
    return files if isinstance(content, dict) and key in content else []


FORMATS = {
    "voc": LabelFormat("Pascal VOC", "XML files with <annotation>", _xml, voc.read),
    "yolo": LabelFormat(
        "YOLO", "a data.yaml with 'names', or text files beside the images or in labels/", _yolo,
        yolo.read,
    ),
    "labelme": LabelFormat("LabelMe", "JSON files with 'shapes'", _labelme, labelme.read),
    "csv": LabelFormat("CSV", "a .csv file of path,x1,y1,x2,y2,class", _csv, csv_rows.read),
    "coco": LabelFormat("COCO", "a JSON file with 'images'", _coco, coco_dialects.read),
}  # fmt: skip


def recognise(source: LabelSource, name: str | None) -> LabelFormat:
    """The format of this name, or, where it is None, the one that the files have.

    Raises InputError, which says how formats look, where no file or files of several fit.
    """
    if name is not None:
        kind = FORMATS[name]
        if not kind.files(source):
            raise InputError(f"{source.path}: there are no labels of {kind.title}: {kind.looks}.")
        return kind
    kinds = {name: kind.files(source) for name, kind in FORMATS.items()}
    fitting = [name for name, files in kinds.items() if files]
    if len(fitting) == 1:
        return FORMATS[fitting[0]]
    if fitting:
        examples = " and ".join(f"{FORMATS[n].title} ({kinds[n][0]})" for n in fitting)
        raise InputError(
            f"{source.path}: it looks like {examples}; say which by --format "
            f"{' or '.join(fitting)}."
        )
    looks = "; ".join(f"{kind.title}: {kind.looks}" for kind in FORMATS.values())
    raise InputError(f"{source.path}: no labels of a known format are there ({looks}).")
