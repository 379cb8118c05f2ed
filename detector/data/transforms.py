"""Augmentation of uint8 images and their boxes; all random numbers come from one generator.

g boxes of one sample. Images stay uint8 and boxes are transformed here, which is 11 times faster
than a torchvision v2 Compose with float tensors.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import BeforeValidator, model_validator
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from detector.boxes import area, clip, flip
from detector.data.batch import Sample, filled
from detector.settings.one_of import OneOf, Values
from detector.settings.section import Count, NotEmpty, Section, item

LEAST_PIXELS = 1.0  # height and width that a box must have left after scale jitter
LEAST_VISIBLE = 0.1  # share of its area that a box must have left
HUE_SHARE = 0.25  # a strength of 0.4 turns hue by at most 0.1 of the circle, as is usual


class Draws(NamedTuple):
    """Random numbers, uniform in [0, 1).

    All are always drawn, so that switching on one option does not change the draws of another.
    """

    shorter: float
    zoom: float
    down: float
    across: float
    flip: float
    brightness: float
    contrast: float
    saturation: float
    hue: float


class Area(NamedTuple):
    """A rectangle of whole pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class ShorterSide:
    """Resizes the shorter side to `shorter`, or less if the longer side would exceed `longer`."""

    shorter: tuple[int, ...]  # pixels; one of them is drawn for each sample
    longer: int

    def __post_init__(self) -> None:
        if not self.shorter or min(self.shorter) <= 0 or self.longer <= 0:
            raise ValueError(f"found {self}; expected a shorter side, and pixels above 0.")

    def target(self, height: int, width: int, *, draw: float) -> tuple[int, int]:
        """Height and width that an image of `height` x `width` gets."""
        shorter = self.shorter[int(draw * len(self.shorter))]
        scale = min(shorter / min(height, width), self.longer / max(height, width))
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def for_evaluation(self) -> ShorterSide:
        """The same with only the largest size, so that nothing is random."""
        return replace(self, shorter=(max(self.shorter),))


@dataclass(frozen=True)
class FixedSize:
    """Resizes every image to the same size, whatever its aspect ratio."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"found {self}; width and height should be above 0.")

    def target(self, height: int, width: int, *, draw: float) -> tuple[int, int]:
        """Height and width of every resized image."""
        return self.height, self.width

    def for_evaluation(self) -> FixedSize:
        """The same, since nothing here is random."""
        return self


Resize = ShorterSide | FixedSize


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


class ResizeSettings(Section):
    """The settings of one kind of resize: its keys, and what they make."""

    @abstractmethod
    def resize(self) -> Resize:
        """The resize with these settings."""


class ShorterSideSettings(ResizeSettings):
    """Keeps the aspect ratio."""

    shorter: Annotated[tuple[Count, ...], NotEmpty, BeforeValidator(_listed)] = item(
        (800,), "pixels of the shorter side; of a list, each training image draws one"
    )
    longer: Count = item(1333, "the longer side stays within this, whatever the shorter becomes")

    @model_validator(mode="after")
    def _check(self) -> ShorterSideSettings:
        if self.longer < max(self.shorter):
            raise ValueError(
                f"longer is {self.longer}, it should be at least shorter, {max(self.shorter)}"
            )
        return self

    def resize(self) -> ShorterSide:
        return ShorterSide(self.shorter, self.longer)


class FixedSizeSettings(ResizeSettings):
    """Stretches every image to one size."""

    width: Count
    height: Count

    def resize(self) -> FixedSize:
        return FixedSize(self.width, self.height)


def _by_keys(values: Values) -> str | None:
    """A size says by its keys which kind it is."""
    if values.keys() & {"width", "height"}:
        return "fixed_size"
    return "shorter_side" if values.keys() & {"shorter", "longer"} else None


RESIZES = OneOf(
    base=ResizeSettings,
    kinds={"shorter_side": ShorterSideSettings, "fixed_size": FixedSizeSettings},
    default="shorter_side",
    stated=_by_keys,
)


@dataclass(frozen=True, kw_only=True)
class Transform:
    """Scale jitter and resize, flip, and photometric distortion, in this order.

    `flip` is a probability. `scale_jitter` (lowest, highest) magnifies the content by a factor
    drawn from that range, at a random position: above 1 the rest is cut off, below 1 it is framed
    with the mean colour; the size of the result does not change. `photometric` s in 0..1 draws
    factors of brightness, contrast and saturation from 1 - s .. 1 + s and a rotation of the hue.
    """

    resize: ShorterSide | FixedSize
    flip: float = 0.0
    scale_jitter: tuple[float, float] | None = None
    photometric: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.flip <= 1 and 0 <= self.photometric <= 1):
            raise ValueError(f"found {self}; flip and photometric should lie between 0 and 1.")
        if self.scale_jitter and not 0 < self.scale_jitter[0] <= self.scale_jitter[1]:
            raise ValueError(f"found {self}; scale_jitter should be lowest, highest, above 0.")

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        """The transformed sample; draws the same numbers whichever options are on."""
        draws = Draws(*torch.rand(len(Draws._fields), generator=generator).tolist())
        height, width = sample.image.shape[1:]
        target = self.resize.target(height, width, draw=draws.shorter)
        if self.scale_jitter is None:
            sample = crop_and_resize(sample, Area(0, 0, height, width), Area(0, 0, *target), target)
        else:
            lowest, highest = self.scale_jitter
            factor = lowest + (highest - lowest) * draws.zoom
            sample = jitter_scale(
                sample, target, factor=factor, down=draws.down, across=draws.across
            )
        if draws.flip < self.flip:
            sample = mirror(sample)
        if self.photometric:
            sample = replace(sample, image=_recolour(sample.image, self.photometric, draws))
        return sample

    def for_evaluation(self) -> Transform:
        """Only the resize, without randomness."""
        return Transform(resize=self.resize.for_evaluation())


def crop_and_resize(sample: Sample, window: Area, spot: Area, size: tuple[int, int]) -> Sample:
    """The window of the image, resized to fill `spot` of a new image of height, width `size`.

    The boxes follow, clipped to the window; boxes outside become empty but keep their row.
    """
    cropped = sample.image[
        :, window.top : window.top + window.height, window.left : window.left + window.width
    ]
    image = F.resize(cropped, [spot.height, spot.width], antialias=True)
    if (spot.height, spot.width) != size:
        canvas = filled(*size)
        canvas[:, spot.top : spot.top + spot.height, spot.left : spot.left + spot.width] = image
        image = canvas
    scale = torch.tensor([spot.width / window.width, spot.height / window.height]).repeat(2)
    moved = sample.boxes - torch.tensor([window.left, window.top]).repeat(2)
    cut = clip(moved[None], torch.tensor([[window.height, window.width]]))[0]
    boxes = cut * scale + torch.tensor([spot.left, spot.top] * 2)
    boxes = clip(boxes[None], torch.tensor([size]))[0]  # rounding can put them slightly outside
    return replace(sample, image=image, boxes=boxes)


def jitter_scale(
    sample: Sample, size: tuple[int, int], *, factor: float, down: float, across: float
) -> Sample:
    """The sample at height, width `size`, with its content magnified by `factor`.

    `down` and `across` in [0, 1) choose the position of the window (or within the frame) from the
    first to the last possible. Boxes of which too little is left are dropped. A crowd region is
    dropped only if almost nothing is left: anchors in the rest must stay ignored.
    """
    height, width = sample.image.shape[1:]
    window, spot = Area(0, 0, height, width), Area(0, 0, *size)
    if factor > 1:
        window = _inside(height, width, share=1 / factor, down=down, across=across)
    else:
        spot = _inside(*size, share=factor, down=down, across=across)
    zoomed = crop_and_resize(sample, window, spot, size)
    scale = (spot.height / window.height) * (spot.width / window.width)
    # the area that is left against the whole box at the new scale
    visible = area(zoomed.boxes) >= LEAST_VISIBLE * scale * area(sample.boxes)
    sides = zoomed.boxes[:, 2:] - zoomed.boxes[:, :2]
    kept = (sides >= LEAST_PIXELS).all(dim=1) & (visible | sample.crowd)
    return replace(
        zoomed, boxes=zoomed.boxes[kept], labels=sample.labels[kept], crowd=sample.crowd[kept]
    )


def _inside(height: int, width: int, *, share: float, down: float, across: float) -> Area:
    """A rectangle with this share of each side, positioned within height x width."""
    inner_height, inner_width = max(1, round(height * share)), max(1, round(width * share))
    top = int(down * (height - inner_height + 1))
    left = int(across * (width - inner_width + 1))
    return Area(top, left, inner_height, inner_width)


def mirror(sample: Sample) -> Sample:
    """The sample flipped from left to right."""
    boxes = flip(sample.boxes, sample.image.shape[2])
    return replace(sample, image=F.horizontal_flip(sample.image), boxes=boxes)


def _recolour(image: Tensor, strength: float, draws: Draws) -> Tensor:
    """Photometric distortion of a uint8 image (3, H, W); `strength` is that of Transform."""
    image = F.adjust_brightness(image, 1 + strength * (2 * draws.brightness - 1))
    image = F.adjust_contrast(image, 1 + strength * (2 * draws.contrast - 1))
    image = F.adjust_saturation(image, 1 + strength * (2 * draws.saturation - 1))
    return F.adjust_hue(image, HUE_SHARE * strength * (2 * draws.hue - 1))
