"""Which images, and what is done to them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SerializeAsAny

from detector.data import augmentations
from detector.data.annotations import COCO
from detector.data.augmentations import AugmentationList
from detector.data.transforms import RESIZES, ResizeSettings, ShorterSideSettings
from detector.settings.section import (
    Count,
    FilePath,
    Proper,
    Section,
    Whole,
    item,
)

Depth = Annotated[int, Field(ge=8, le=16)]


def _named(name: str) -> str:
    # not imported yet: a detector can be loaded where its data, and what reads them, are not
    module, colon, function = name.partition(":")
    if name != COCO and not (module and colon and function):
        raise ValueError(f"found {name!r}, it should be coco or module:function")
    return name


ReaderName = Annotated[str, AfterValidator(_named)]


class Source(Section):
    images: FilePath | None = item(None, "folder of the images")
    annotations: FilePath | None = item(None, "COCO JSON file with the boxes and the class names")
    reader: ReaderName = item("coco", "format of annotations: coco | module:function, your own")


class FoldSettings(Section):
    count: Annotated[int, Field(ge=2)] = item(5, "of one partition")
    fold: Whole = item(
        0, "that is validated on; from count on those of another partition (5 to 9 of 5)"
    )


class DataSettings(Section):
    train: Source = Source()
    val: Source = Source()
    folds: FoldSettings | None = item(
        None, "train and val together as one set, cut into {count: 5, fold: 0}; null: as they are"
    )
    tuning: Proper | None = item(
        None, "share of the training images to validate on instead of val, trained on the rest"
    )
    resize: Annotated[SerializeAsAny[ResizeSettings], RESIZES] = ShorterSideSettings()
    augment: AugmentationList = augmentations.DEFAULT
    invalid: Literal["refuse", "skip"] = item(
        "refuse",
        "useless boxes; missing, broken, wrongly sized images: refuse | skip (and count)",
    )
    depth: Depth | None = item(
        None, "bits that 16-bit images use, as 12 for samples 0 to 4095; null refuses such images"
    )
    megapixels: Count = item(179, "largest image that is read; it takes 3 MB a million pixels")
    group_by_aspect: bool = item(
        default=True, description="batches of images of similar shape, so of less padding"
    )
    workers: Whole = item(2, "loader processes of each rank; 0: none")
