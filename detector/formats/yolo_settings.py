"""YOLO's data.yaml: class names, and where the images of each part are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from detector.errors import InputError
from detector.formats.source import YAML, LabelSource, Tally, class_name, read_lines

NO_TEST = "parts `test` of data.yaml whose images are not there, left out"
NO_PART = "images that no part of data.yaml names, left out"
TWO_PARTS = "images that two parts of data.yaml name, kept in the first"


class YoloSettings(NamedTuple):
    """What is used of data.yaml."""

    file: Path | None = None
    names: Sequence[str] = ()
    keypoints: bool = False  # of pose labels, after each box
    folder: Path = Path(".")  # `path`, which the parts are relative to
    parts: Sequence[tuple[str, Sequence[str]]] = ()  # folders or lists of train, val and test


def settings_files(source: LabelSource) -> list[Path]:
    """The YAML files that have `names`, the nearest to the root first."""
    files = sorted(source.of_suffix(*YAML), key=lambda file: (len(file.parts), file))
    contents = [(file, _content(file)) for file in files]
    return [file for file, content in contents if isinstance(content, dict) and "names" in content]


def read_settings(source: LabelSource) -> YoloSettings:
    """Those of the data.yaml in the source; none of a source without one.

    Raises InputError where there are several, and where the names are neither list nor mapping.
    """
    files = settings_files(source)
    if not files:
        return YoloSettings()
    if len(files) > 1 and len(files[0].parts) == len(files[1].parts):
        raise InputError(
            f"{files[0]} and {files[1]} both have 'names'; name the right one as the source."
        )
    file, content = files[0], _content(files[0])
    keys = {"train": "train", "val": "val", "valid": "val", "test": "test"}
    parts = [(split, _texts(content[key])) for key, split in keys.items() if content.get(key)]
    return YoloSettings(
        file=file,
        names=_names(file, content["names"]),
        keypoints=bool(content.get("kpt_shape")),
        folder=file.parent / str(content.get("path") or "."),
        parts=parts,
    )


def _content(file: Path) -> Any:
    text = "\n".join(read_lines(file))
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a 13th month
        problem = " ".join(str(error).split())
        raise InputError(f"{file}: this is not a YAML file: {problem}.") from None


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _names(file: Path, names: Any) -> list[str]:
    if isinstance(names, dict):
        expected = list(range(len(names)))
        if sorted(names, key=str) != sorted(expected, key=str):
            raise InputError(
                f"{file}: 'names' has the keys {list(names)[:5]}; expected 0 to {len(names) - 1}, "
                "each once."
            )
        names = [names[index] for index in expected]
    texts = [class_name(str(name)) for name in names] if isinstance(names, list) else []
    if not all(texts) or not texts:
        raise InputError(f"{file}: 'names' is {names!r}; expected a list of class names.")
    twice = next((name for name in texts if texts.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{file}: 'names' has {twice!r} more than once; give each class its own.")
    return texts


def parts_of(source: LabelSource, settings: YoloSettings, tally: Tally) -> dict[Path, str]:
    """The part of each image that data.yaml names; {} where it names none."""
    splits: dict[Path, str] = {}
    by_path = {file.resolve(): file for file in source.images.files}
    for split, entries in settings.parts:
        for entry in entries:
            place = _located(settings, entry)
            if place is None and split == "test":  # Roboflow names it, whether there is one or not
                tally.add(NO_TEST, f"{settings.file}: {entry}")
                continue
            for file in _images_of(source, settings, f"{split}: {entry}", place, by_path):
                if splits.setdefault(file, split) != split:
                    tally.add(TWO_PARTS, f"{file}: {splits[file]} and {split}")
    for file in source.images.files if splits else ():
        if file not in splits:
            tally.add(NO_PART, file)
    return splits


def _images_of(
    source: LabelSource,
    settings: YoloSettings,
    key: str,
    place: Path | None,
    by_path: Mapping[Path, Path],
) -> list[Path]:
    """The images of a folder, or of a text file that lists them, one a line."""
    if place is None:
        raise InputError(
            f"{settings.file}: {key}: there is no such folder or file in {settings.folder}; "
            "correct it, or take the line out."
        )
    if place.is_dir():
        folder = place.resolve()
        inside = [file for path, file in by_path.items() if folder in path.parents]
        if not inside:
            raise InputError(
                f"{settings.file}: {key}: there is no image in {place}, or it is outside of "
                f"{source.image_root}; name the folder of all images by --images."
            )
        return inside
    return [_listed(source, place, *line) for line in enumerate(read_lines(place), 1) if line[1]]


def _listed(source: LabelSource, place: Path, number: int, line: str) -> Path:
    image = source.images.named(line.strip(), place)
    if image is None:
        raise InputError(
            f"{place}:{number}: there is no image {line.strip()!r} in {source.image_root}; bring "
            "it, or name the folder of the images by --images."
        )
    return image


def _located(settings: YoloSettings, entry: str) -> Path | None:
    """The folder or file of an entry: Roboflow writes ../train/images for train/images."""
    folder = Path(".") if settings.file is None else settings.file.parent
    inside = Path(*[part for part in Path(entry).parts if part not in ("..", "/")])
    places = (settings.folder / entry, folder / entry, folder / inside)
    # os.path.exists: Path.exists raises for a name that is too long
    return next((place for place in places if os.path.exists(place)), None)
