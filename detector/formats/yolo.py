"""YOLO: a text file an image, of lines `class x y width height`; names and parts in data.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from detector.errors import InputError
from detector.formats.one_file_an_image import without_labels
from detector.formats.source import (
    BROKEN_LABELS,
    NO_IMAGE,
    BrokenLabels,
    Label,
    LabelledImage,
    Labels,
    LabelSource,
    Tally,
    bounds,
    numbers,
    read_classes,
    read_lines,
    split_of_folders,
)
from detector.formats.yolo_settings import parts_of, read_settings

LARGEST = 2.0  # boxes may reach a little out of the image; beyond this they are no fractions
NAMES_FILES = ("classes.txt", "obj.names", "_darknet.labels")


def read(source: LabelSource, tally: Tally) -> Labels:
    """The labels beside the images, or in `labels/` where these are in `images/`.

    A polygon (segments, rotated boxes) becomes the box around it. Raises InputError without class
    names, and for a class index beyond them.
    """
    settings = read_settings(source)
    names = source.classes or settings.names or _names_file(source)
    splits = parts_of(source, settings, tally) or {
        file: split_of_folders(file, source.image_root) for file in source.images.files
    }
    text_files = set(label_files(source))
    images = []
    for image, split in tqdm(splits.items(), desc="labels", unit="file", disable=None):
        file = next((f for f in _candidates(image, source) if f in text_files), None)
        if file is None:
            images.append(without_labels(image, split, tally))
            continue
        try:
            labels = _read_file(file, names, keypoints=settings.keypoints)
        except BrokenLabels as error:
            tally.add(BROKEN_LABELS, error)
            continue
        images.append(LabelledImage(image, labels, str(file), split))
    for image in source.images.files:  # also those of no part
        text_files.difference_update(_candidates(image, source))
    for file in sorted(text_files):
        tally.add(NO_IMAGE, f"{file}: no such image is in {source.image_root}")
    return Labels(images, names, fractions=True)


def label_files(source: LabelSource) -> list[Path]:
    """Text files that can only be labels: in a folder `labels`, or with an image's name beside it.

    Such folders hold a readme and lists of images, too.
    """
    beside = {file.with_suffix(".txt") for file in source.images.files}
    return [
        file
        for file in source.of_suffix(".txt")
        if file in beside or (_in_label_folder(file, source) and file.name not in NAMES_FILES)
    ]


def _in_label_folder(file: Path, source: LabelSource) -> bool:
    """Whether a file lies in a folder `labels`, or in a source whose images lie elsewhere."""
    if not file.is_relative_to(source.root):
        return False
    elsewhere = not source.image_root.is_relative_to(source.root)
    return elsewhere or "labels" in file.relative_to(source.root).parts[:-1]


def _candidates(image: Path, source: LabelSource) -> Iterator[Path]:
    """Where the label file of an image may be, best first."""
    parts = image.with_suffix(".txt").parts
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == "images":
            yield Path(*parts[:index], "labels", *parts[index + 1 :])
            break
    yield image.with_suffix(".txt")
    if not source.image_root.is_relative_to(source.root):
        inside = image.relative_to(source.image_root).with_suffix(".txt")
        yield from (source.root / inside, source.root / "labels" / inside)


def _names_file(source: LabelSource) -> Sequence[str]:
    for file in source.files:
        if file.name in NAMES_FILES:
            return read_classes(file)
    raise InputError(
        f"{source.path}: YOLO's labels name classes by their index, and there is neither a "
        "data.yaml with 'names' nor a classes.txt; name a file with a class a line by --classes."
    )


def _read_file(file: Path, names: Sequence[str], *, keypoints: bool) -> list[Label]:
    """The boxes of one label file, as fractions; BrokenLabels names the line."""
    return [
        _label(line.split(), names, f"{file}:{number}", keypoints=keypoints)
        for number, line in enumerate(read_lines(file), start=1)
        if line.strip()
    ]


def _label(words: list[str], names: Sequence[str], place: str, *, keypoints: bool) -> Label:
    index, *values = numbers(words, place)
    if index != int(index) or index < 0:
        raise BrokenLabels(f"{place}: found class {words[0]!r}, expected an index from 0.")
    if index >= len(names):
        raise InputError(
            f"{place}: found class {int(index)}, and there are {len(names)} names, for 0 to "
            f"{len(names) - 1} ({', '.join(names[:5])}{', …' if len(names) > 5 else ''}); bring "
            "the right list of names."
        )
    if max(map(abs, values), default=0) > LARGEST:
        raise BrokenLabels(
            f"{place}: found {max(values, key=abs):g}, expected fractions of the image's width and "
            "height, 0 to 1."
        )
    return Label(_box(values, place, keypoints=keypoints), names[int(index)], place)


def _box(values: list[float], place: str, *, keypoints: bool) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 of a box, of a box and its keypoints, or around a polygon."""
    if len(values) == 4 or (keypoints and len(values) > 4):
        x, y, width, height = values[:4]
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if len(values) < 6 or len(values) % 2:
        raise BrokenLabels(
            f"{place}: found {len(values)} numbers after the class; expected 4 (x, y, width, "
            "height), or the x, y of at least three points."
        )
    return bounds(values)
