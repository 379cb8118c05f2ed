"""Augmentations that put several images of the epoch into one: mosaic and mixup."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar, Literal

import torch

from detector.data.augmentation import Augmentation, AugmentationSettings, Context, check_fraction
from detector.data.batch import Sample, filled
from detector.data.geometry import Area, crop_and_resize, inside, only, visible
from detector.settings.section import Fraction, Positive

CENTRE = (0.2, 0.8)  # share of each side at which the four images of a mosaic may meet
LEAST_SIDE = 8  # pixels; torch cannot resize to a single pixel, and a fifth of this is two


@dataclass(frozen=True)
class Mosaic(Augmentation):
    """Four images around a centre that is drawn, with this probability.

    Bochkovskiy et al. 2020 (YOLOv4), section 3.3. The result has the size of the first image, which
    is at the top left. Of each, a window at a random position fills its quarter, at a scale between
    those at which it would just cover its quarter and just cover all. Boxes of which too little is
    left are dropped. An image below 8 pixels a side stays as it is.
    """

    probability: float = 0.5

    before_resize: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fraction("probability", self.probability)

    def apply(self, sample: Sample, context: Context) -> Sample:
        height, width = sample.size
        draw, down, across = torch.rand(3, generator=context.generator).tolist()
        if draw >= self.probability or min(height, width) < LEAST_SIDE:
            return sample
        middle, centre = _meeting(height, down), _meeting(width, across)
        spots = [
            Area(0, 0, middle, centre),
            Area(0, centre, middle, width - centre),
            Area(middle, 0, height - middle, centre),
            Area(middle, centre, height - middle, width - centre),
        ]
        images = [sample, *(context.more() for _ in spots[1:])]
        filling = [
            _fill(image, spot, sample.size, context.generator)
            for image, spot in zip(images, spots, strict=True)
        ]
        return _joined(sample, filling, spots, sample.size)


def _meeting(side: int, draw: float) -> int:
    """The pixel of a side at which two images meet."""
    return round(side * (CENTRE[0] + (CENTRE[1] - CENTRE[0]) * draw))


def _fill(sample: Sample, spot: Area, whole: tuple[int, int], generator: torch.Generator) -> Sample:
    """A window of the sample at the size of `spot`, of a mosaic of height, width `whole`."""
    height, width = sample.size
    draw, down, across = torch.rand(3, generator=generator).tolist()
    smallest = max(spot.height / height, spot.width / width)
    scale = smallest + (max(whole[0] / height, whole[1] / width) - smallest) * draw
    tall = min(max(round(spot.height / scale), 1), height)
    wide = min(max(round(spot.width / scale), 1), width)
    window = inside(sample.size, (tall, wide), down=down, across=across)
    target = Area(0, 0, spot.height, spot.width)
    cut = crop_and_resize(sample, window, target, (spot.height, spot.width))
    return only(cut, visible(sample, cut, window, target))


def _joined(
    first: Sample, samples: list[Sample], spots: list[Area], size: tuple[int, int]
) -> Sample:
    """One sample of height, width `size`, each of the samples at its spot; the rest is as `first`.

    Boxes and labels come in the order of the samples.
    """
    image = filled(*size)
    boxes = []
    for sample, (top, left, height, width) in zip(samples, spots, strict=True):
        image[:, top : top + height, left : left + width] = sample.image
        boxes.append(sample.boxes + torch.tensor([left, top, left, top]))
    return replace(
        first,
        image=image,
        boxes=torch.cat(boxes),
        labels=torch.cat([sample.labels for sample in samples]),
        crowd=torch.cat([sample.crowd for sample in samples]),
    )


@dataclass(frozen=True)
class Mixup(Augmentation):
    """The image blended with another one, with this probability; the boxes of both count in full.

    Zhang et al. 2018; for detection Zhang et al. 2019 (Bag of freebies), section 3.1: both keep
    their size, in a frame of the larger sides, and the share is drawn from Beta(beta, beta).
    """

    probability: float = 0.5
    beta: float = 1.5

    before_resize: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fraction("probability", self.probability)
        if self.beta <= 0:
            raise ValueError(f"beta is {self.beta}; it should be above 0.")

    def apply(self, sample: Sample, context: Context) -> Sample:
        if torch.rand((), generator=context.generator).item() >= self.probability:
            return sample
        # torch's Beta takes no generator; Python's is the same in all versions
        seed = int(torch.randint(2**62, (), generator=context.generator))
        share = Random(seed).betavariate(self.beta, self.beta)
        other = context.more()
        height, width = map(max, sample.size, other.size)
        size = height, width
        framed = [_joined(one, [one], [Area(0, 0, *one.size)], size) for one in (sample, other)]
        first, second = (one.image.float() for one in framed)
        blend = (share * first + (1 - share) * second).round().to(torch.uint8)
        return replace(_joined(sample, framed, [Area(0, 0, *size)] * 2, size), image=blend)


class MosaicSettings(AugmentationSettings):
    """Four images of the epoch around a centre that is drawn (YOLOv4)."""

    kind: Literal["mosaic"] = "mosaic"
    probability: Fraction = 0.5

    def augmentation(self) -> Mosaic:
        return Mosaic(self.probability)


class MixupSettings(AugmentationSettings):
    """Blended with another image of the epoch, in shares drawn from Beta(beta, beta)."""

    kind: Literal["mixup"] = "mixup"
    probability: Fraction = 0.5
    beta: Positive = 1.5

    def augmentation(self) -> Mixup:
        return Mixup(self.probability, self.beta)
