"""Flips, scale jitter and photometric changes; and the table of all kinds of augmentation.

An augmentation and its settings class stand in one file: crops.py, mosaic.py, and here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny
from torchvision.transforms.v2 import functional as F

from detector.data.augmentation import (
    Augmentation,
    AugmentationSettings,
    Context,
    Draws,
    FunctionSettings,
    check_fraction,
)
from detector.data.batch import Sample
from detector.data.crops import IoUCropSettings, ZoomOutSettings
from detector.data.geometry import jitter_scale, mirror, turn_over
from detector.data.mosaic import MixupSettings, MosaicSettings
from detector.settings.one_of import OneOf
from detector.settings.section import Fraction, Range, item

HUE_SHARE = 0.25  # a strength of 0.4 turns hue by at most 0.1 of the circle, as is usual


@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors from left to right, with this probability."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_fraction("probability", self.probability)

    def apply(self, sample: Sample, context: Context) -> Sample:
        return mirror(sample) if context.draws.flip < self.probability else sample


@dataclass(frozen=True)
class VerticalFlip(Augmentation):
    """Mirrors from top to bottom, with this probability."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_fraction("probability", self.probability)

    def apply(self, sample: Sample, context: Context) -> Sample:
        drawn = torch.rand((), generator=context.generator).item()
        return turn_over(sample) if drawn < self.probability else sample


@dataclass(frozen=True)
class ScaleJitter(Augmentation):
    """Magnifies the content by a factor from `lowest` to `highest`, at a random position.

    Above 1 the rest is cut off, below 1 it is framed with the mean colour; the size of the result
    does not change. `Transform` makes it one with the resize, so that pixels are resampled once.
    """

    lowest: float
    highest: float

    def __post_init__(self) -> None:
        if not 0 < self.lowest <= self.highest:
            raise ValueError(f"found {self}; it should be lowest, highest, above 0.")

    def resized(self, sample: Sample, size: tuple[int, int], draws: Draws) -> Sample:
        """The sample at height, width `size`, jittered."""
        factor = self.lowest + (self.highest - self.lowest) * draws.zoom
        return jitter_scale(sample, size, factor=factor, down=draws.down, across=draws.across)

    def apply(self, sample: Sample, context: Context) -> Sample:
        return self.resized(sample, sample.size, context.draws)


@dataclass(frozen=True)
class Photometric(Augmentation):
    """Draws factors of brightness, contrast and saturation, and a rotation of the hue.

    strength: s in 0..1; factors lie in 1 - s .. 1 + s.
    hue: the greatest turn, as a share of the circle, 0..0.5; None: s / 4.
    """

    strength: float
    hue: float | None = None

    def __post_init__(self) -> None:
        check_fraction("strength", self.strength)
        if self.hue is not None and not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue is {self.hue}; it should lie between 0 and 0.5.")

    @property
    def turn(self) -> float:
        """The greatest turn of the hue, as a share of the circle."""
        return HUE_SHARE * self.strength if self.hue is None else self.hue

    def apply(self, sample: Sample, context: Context) -> Sample:
        if not self.strength and not self.turn:
            return sample
        draws, strength = context.draws, self.strength
        image = F.adjust_brightness(sample.image, 1 + strength * (2 * draws.brightness - 1))
        image = F.adjust_contrast(image, 1 + strength * (2 * draws.contrast - 1))
        image = F.adjust_saturation(image, 1 + strength * (2 * draws.saturation - 1))
        if self.turn:  # it goes to HSV and back, the dearest of the four
            image = F.adjust_hue(image, self.turn * (2 * draws.hue - 1))
        return replace(sample, image=image)


class FlipSettings(AugmentationSettings):
    """Mirrors from left to right; not for things that change their meaning in a mirror."""

    kind: Literal["flip"] = "flip"
    probability: Fraction = 0.5

    def augmentation(self) -> Flip:
        return Flip(self.probability)


class VerticalFlipSettings(AugmentationSettings):
    """Mirrors from top to bottom; for what has no up, as under a microscope or from the air."""

    kind: Literal["vertical_flip"] = "vertical_flip"
    probability: Fraction = 0.5

    def augmentation(self) -> VerticalFlip:
        return VerticalFlip(self.probability)


class ScaleJitterSettings(AugmentationSettings):
    """[low, high]: the factor drawn for the size of the content."""

    kind: Literal["scale_jitter"] = "scale_jitter"
    range: Range = (0.8, 1.25)

    def augmentation(self) -> ScaleJitter:
        return ScaleJitter(*self.range)


class PhotometricSettings(AugmentationSettings):
    """The strength of changes in brightness, contrast, colour; the greatest turn of the hue."""

    kind: Literal["photometric"] = "photometric"
    strength: Fraction = 0.4
    hue: Annotated[float, Field(ge=0, le=0.5)] | None = None

    def augmentation(self) -> Photometric:
        return Photometric(self.strength, self.hue)


AUGMENTATIONS = OneOf(
    base=AugmentationSettings,
    kinds={
        "flip": FlipSettings,
        "vertical_flip": VerticalFlipSettings,
        "scale_jitter": ScaleJitterSettings,
        "photometric": PhotometricSettings,
        "iou_crop": IoUCropSettings,
        "zoom_out": ZoomOutSettings,
        "mosaic": MosaicSettings,
        "mixup": MixupSettings,
    },
    default=None,
    function=FunctionSettings,
)


def _a_list(value: Any) -> Any:
    """The value, a list as a tuple; ValueError for the mapping that it was before 2026-12."""
    if isinstance(value, dict):
        raise ValueError(
            "found a mapping, it should be a list of augmentations, whole and in their order: "
            "[{kind: flip, probability: 0.5}, {kind: scale_jitter, range: [0.8, 1.25]}, "
            "{kind: photometric, strength: 0.4}], or [] for none"
        )
    # as it is no longer JSON here, pydantic's strict mode would refuse a list
    return tuple(value) if isinstance(value, list) else value


def _each_once(
    augmentations: tuple[AugmentationSettings, ...],
) -> tuple[AugmentationSettings, ...]:
    counts = Counter(one.kind for one in augmentations)
    for kind in ("flip", "scale_jitter", "photometric"):
        if counts[kind] > 1:
            raise ValueError(f"found {kind} {counts[kind]} times, it should be there once")
    return augmentations


AugmentationList = Annotated[
    tuple[Annotated[SerializeAsAny[AugmentationSettings], AUGMENTATIONS], ...],
    BeforeValidator(_a_list),
    AfterValidator(_each_once),
]
DEFAULT = item((FlipSettings(),), "what is done to training images, in this order; []: nothing")
