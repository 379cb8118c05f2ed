"""Labelled images to COCO files: sizes are those of the images, boxes are checked and clipped."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from detector.data.defects import LEAST_SIDE
from detector.data.images import read_header
from detector.errors import InputError
from detector.formats.source import UNREADABLE_IMAGE, Label, LabelledImage, Labels, Tally

OTHER_SIZE = "sizes in label files that are not the image's, replaced by it"
UNKNOWN_CLASS = "boxes of a class that --classes does not name, left out"
NO_AREA = "boxes without area, left out"
OUTSIDE = "boxes outside of their image, left out"
CLIPPED = "boxes that reach out of their image by more than a pixel, clipped"
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class ConvertedImage:
    """An image with the boxes that can be used, in pixels and inside of it."""

    file: Path
    size: Size
    labels: Sequence[Label]
    split: str  # train, val, test or ""


@dataclass(frozen=True)
class Converted:
    """What becomes COCO files."""

    images: Sequence[ConvertedImage]
    classes: Sequence[str]


def convert(labels: Labels, tally: Tally) -> Converted:
    """Images that can be read, by file name, with boxes that have an area inside of them.

    Classes are those of the source, else the names of its boxes in alphabetical order. Raises
    InputError where an image is labelled twice, where boxes that should be pixels seem to be
    fractions, and where no box is left.
    """
    ordered = sorted(labels.images, key=lambda image: image.file)
    _check_once(ordered)
    _check_pixels(labels)
    classes = labels.classes or sorted({box.name for image in ordered for box in image.labels})
    with ThreadPoolExecutor() as pool:
        sizes = tqdm(
            pool.map(_sizes, [image.file for image in ordered]),
            total=len(ordered), desc="sizes", unit="image", disable=None,
        )  # fmt: skip
        images = []
        for image, found in zip(ordered, sizes, strict=True):
            if isinstance(found, InputError):
                tally.add(UNREADABLE_IMAGE, found)
                continue
            size = _size(image, found, tally)
            scale = size[::-1] if labels.fractions else (1, 1)
            usable = partial(_usable, size=size, scale=scale, classes=set(classes), tally=tally)
            boxes = [box for box in map(usable, image.labels) if box is not None]
            images.append(ConvertedImage(image.file, size, boxes, image.split))
    if not any(image.labels for image in images):
        first = "".join(f"; {reason}, as {case}" for reason, case in tally.first.items())
        raise InputError(f"there is not one box to convert, in {len(images)} images{first}.")
    return Converted(images, classes)


def _check_once(images: Sequence[LabelledImage]) -> None:
    for first, second in zip(images, images[1:], strict=False):
        if first.file == second.file:
            raise InputError(
                f"{first.file}: this image is labelled twice, by {first.origin} and by "
                f"{second.origin}; take one of them away."
            )


def _check_pixels(labels: Labels) -> None:
    """InputError where boxes of pixels lie within 0 .. 1, or -1 .. 1 where VOC's 1 became 0."""
    boxes = [label for image in labels.images for label in image.labels]
    sides = [side for label in boxes for side in label.box]
    if labels.fractions or max(map(abs, sides), default=2) > 1:
        return
    if not all(side.is_integer() for side in sides):  # else a box of one pixel
        raise InputError(
            f"{boxes[0].place}: this box and all others lie within 0 to 1, as fractions of the "
            "image's sides; expected pixels: multiply them by its width and height."
        )


def _sizes(file: Path) -> tuple[Size, Size] | InputError:
    try:
        str(file).encode()
    except UnicodeEncodeError:
        return InputError(f"{file}: its name is not UTF-8, as JSON has to be; rename it.")
    try:
        header = read_header(file)
    except InputError as error:
        return error
    return header.stored, header.turned


def _size(image: LabelledImage, sizes: tuple[Size, Size], tally: Tally) -> Size:
    """Turned as EXIF says, unless the boxes were drawn on the image as it is stored."""
    stored, turned = sizes
    if image.declared not in (None, stored, turned):
        (height, width), (wrong_height, wrong_width) = turned, image.declared or (0, 0)
        tally.add(
            OTHER_SIZE, f"{image.origin}: {wrong_width} x {wrong_height}, not {width} x {height}"
        )
    return stored if image.declared == stored else turned


def _usable(
    label: Label, *, size: Size, scale: tuple[int, int], classes: set[str], tally: Tally
) -> Label | None:
    """The label in pixels, clipped to the image; None if it is left out."""
    (height, width), (across, down) = size, scale
    x1, y1, x2, y2 = (side * by for side, by in zip(label.box, (across, down) * 2, strict=True))
    left, top, right, bottom = max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)
    case = f"{label.place}: {x1:g}, {y1:g}, {x2:g}, {y2:g} as x1, y1, x2, y2 in {width} x {height}"
    if label.name not in classes:
        tally.add(UNKNOWN_CLASS, f"{label.place}: {label.name!r}")
    elif min(x2 - x1, y2 - y1) <= LEAST_SIDE:
        tally.add(NO_AREA, case)
    elif min(right - left, bottom - top) <= LEAST_SIDE:
        tally.add(OUTSIDE, case)
    else:
        # Pascal VOC counts from 1, and writers that count from 0 are a pixel off: not worth a word
        if max(left - x1, top - y1, x2 - right, y2 - bottom) > 1:
            tally.add(CLIPPED, case)
        return label._replace(box=(left, top, right, bottom))
    return None


def coco_content(
    images: Sequence[tuple[int, ConvertedImage]], classes: Sequence[str], root: Path
) -> dict[str, Any]:
    """The content of a COCO file of images with their ids; file names are relative to `root`."""
    ids = {name: number for number, name in enumerate(classes, start=1)}
    labels = [(image_id, label) for image_id, image in images for label in image.labels]
    return {
        "images": [
            {
                "id": image_id,
                "file_name": image.file.relative_to(root).as_posix(),
                "width": image.size[1],
                "height": image.size[0],
            }
            for image_id, image in images
        ],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
        "annotations": [
            {"id": number, "image_id": image_id, "category_id": ids[label.name], **_box(label)}
            for number, (image_id, label) in enumerate(labels, start=1)
        ],
    }


def _box(label: Label) -> dict[str, Any]:
    x1, y1, x2, y2 = label.box
    sides = [x1, y1, x2 - x1, y2 - y1]
    box_area = sides[2] * sides[3]
    # a clipped box may be smaller than the area that was annotated
    area = min(label.area or box_area, box_area)
    return {
        "bbox": [round(side, 4) for side in sides],
        "area": round(area, 4),
        "iscrowd": int(label.ignored),
    }
