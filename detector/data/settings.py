"""Which images, and what is done to them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny, model_validator

from detector.data.transforms import RESIZES, ResizeSettings, ShorterSideSettings
from detector.settings.section import (
    Count,
    FilePath,
    Fraction,
    Pair,
    Proper,
    Section,
    Whole,
    item,
)

Depth = Annotated[int, Field(ge=8, le=16)]


class Source(Section):
    images: FilePath | None = item(None, "folder of the images")
    annotations: FilePath | None = item(None, "COCO JSON file with the boxes and the class names")


class AugmentSettings(Section):
    flip: Fraction = item(0.5, "probability of a horizontal flip")
    scale_jitter: Pair | None = item(None, "[low, high]: factor drawn for the size; null is off")
    photometric: Fraction = item(0.0, "strength of changes in brightness, contrast, colour; 0..1")

    @model_validator(mode="after")
    def _check(self) -> AugmentSettings:
        if self.scale_jitter is not None and self.scale_jitter[0] > self.scale_jitter[1]:
            raise ValueError(f"scale_jitter is {list(self.scale_jitter)}, it should be [low, high]")
        return self


class DataSettings(Section):
    train: Source = Source()
    val: Source = Source()
    tuning: Proper | None = item(
        None, "share of the training images to validate on instead of val, trained on the rest"
    )
    resize: Annotated[SerializeAsAny[ResizeSettings], RESIZES] = ShorterSideSettings()
    augment: AugmentSettings = AugmentSettings()
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
