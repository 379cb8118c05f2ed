"""Pascal VOC: an XML file an image, and lists of the images of each part in ImageSets/Main."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from detector.errors import InputError
from detector.formats.one_file_an_image import Content, read_each
from detector.formats.source import (
    BrokenLabels,
    ImageFiles,
    Label,
    LabelledImage,
    Labels,
    LabelSource,
    Tally,
    class_name,
    numbers,
    read_lines,
)

NOT_LISTED = "images that no list of ImageSets/Main names, left out"


def read(source: LabelSource, tally: Tally) -> Labels:
    """The labels of all XML files below the source.

    Corners count pixels from 1 and include the last one, as the VOC devkit has them: x1 - 1,
    y1 - 1, x2, y2. A difficult object is ignored.
    """
    images = read_each(source, source.of_suffix(".xml"), _photographs(source), _read_file, tally)
    return Labels(_listed(images, _lists(source), tally), source.classes)


def _photographs(source: LabelSource) -> ImageFiles:
    """Those of JPEGImages, where there is such a folder: masks beside it have the same stems."""
    inside = [file for file in source.images.files if file.parent.name == "JPEGImages"]
    return ImageFiles(source.image_root, inside) if inside else source.images


def _read_file(file: Path) -> Content:
    """What one XML file says; BrokenLabels names the file, and the line or the object."""
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # LookupError: an encoding
        raise BrokenLabels(f"{file}: this is not a whole XML file: {error}.") from None
    except OSError as error:
        raise BrokenLabels(f"{file}: cannot be read ({error.strerror}).") from None
    if root.tag != "annotation":
        raise BrokenLabels(f"{file}: it holds <{root.tag}>; Pascal VOC has <annotation> there.")
    labels = [
        _label(element, f"{file}: object {index}")
        for index, element in enumerate(root.findall("object"), start=1)
    ]
    return Content((root.findtext("filename") or "").strip(), _size(root, file), labels)


def _size(root: Element, file: Path) -> tuple[int, int] | None:
    """Height and width; None where they are missing or 0, as several tools leave them."""
    texts = [root.findtext(f"size/{side}") or "0" for side in ("height", "width")]
    height, width = numbers(texts, f"{file}: size")
    return (int(height), int(width)) if height > 0 and width > 0 else None


def _label(element: Element, place: str) -> Label:
    name, box = element.findtext("name"), element.find("bndbox")
    if not name or not name.strip():
        raise BrokenLabels(f"{place} has no <name>; it should be that of its class.")
    if box is None:
        raise BrokenLabels(f"{place} has no <bndbox>; expected xmin, ymin, xmax and ymax in one.")
    sides = [box.findtext(side) for side in ("xmin", "ymin", "xmax", "ymax")]
    x1, y1, x2, y2 = numbers(sides, f"{place}, <bndbox>")
    difficult = (element.findtext("difficult") or "0").strip() in ("1", "true", "True")
    return Label((x1 - 1, y1 - 1, x2, y2), class_name(name), place, ignored=difficult)


def _lists(source: LabelSource) -> dict[str, str]:
    """The part of each image that a list names, by the image's stem."""
    names = {"train": "train", "val": "val", "test": "test", "trainval": "train"}
    lists = {
        file: names[file.stem]
        for file in source.of_suffix(".txt")
        if file.parts[-3:-1] == ("ImageSets", "Main") and file.stem in names
    }
    stems = {file.stem for file in lists}
    if {"train", "val"} & stems:  # of which trainval is the union
        lists = {file: split for file, split in lists.items() if file.stem != "trainval"}
    parts: dict[str, str] = {}
    for file, split in lists.items():
        for line, text in enumerate(read_lines(file), start=1):
            for image in text.split()[:1]:
                if parts.setdefault(image, split) != split:
                    raise InputError(
                        f"{file}:{line}: image {image!r} is in {parts[image]}, too; take it out of "
                        "one of the lists."
                    )
    return parts


def _listed(
    images: list[LabelledImage], parts: dict[str, str], tally: Tally
) -> list[LabelledImage]:
    if not parts:
        return images
    listed = []
    for image in images:
        # a list may name the file, too
        split = parts.get(image.file.stem) or parts.get(image.file.name)
        if split is None:
            tally.add(NOT_LISTED, image.file)
        else:
            listed.append(replace(image, split=split))
    return listed
