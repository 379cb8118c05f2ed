"""Formats with a label file for each image: Pascal VOC and LabelMe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from detector.formats.source import (
    BROKEN_LABELS,
    NO_IMAGE,
    NO_LABELS,
    BrokenLabels,
    ImageFiles,
    Label,
    LabelledImage,
    LabelSource,
    Tally,
    split_of_folders,
)


class Content(NamedTuple):
    """What a label file says."""

    image: str  # the name of its image; may be ""
    declared: tuple[int, int] | None  # height, width
    labels: list[Label]


def read_each(
    source: LabelSource,
    files: Iterable[Path],
    images: ImageFiles,
    read: Callable[[Path], Content],
    tally: Tally,
) -> list[LabelledImage]:
    """The images of the label files, then those that have none."""
    labelled, known = [], set()
    for file in tqdm(files, desc="labels", unit="file", disable=None):
        try:
            content = read(file)
        except BrokenLabels as error:
            tally.add(BROKEN_LABELS, error)
            known.add(images.of_stem(file, ""))
            continue
        image = images.of_stem(file, content.image)
        if image is None:
            tally.add(NO_IMAGE, f"{file}: no such image is in {source.image_root}")
            continue
        known.add(image)
        split = split_of_folders(image, source.image_root)
        labelled.append(LabelledImage(image, content.labels, str(file), split, content.declared))
    rest = [file for file in images.files if file not in known]
    return labelled + [
        without_labels(file, split_of_folders(file, source.image_root), tally) for file in rest
    ]


def without_labels(file: Path, split: str, tally: Tally) -> LabelledImage:
    """An image that has no label file."""
    tally.add(NO_LABELS, file)
    return LabelledImage(file, (), str(file), split)
