"""Crops and frames of SSD (Liu et al. 2016, sections 2.2 and 3.6), as torchvision v2 draws them.

torchvision draws from torch's global generator; here it is seeded from the sample's own for the
time of the call, and put back. The cutting is that of geometry.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from detector.data.augmentation import Augmentation, AugmentationSettings, Context
from detector.data.batch import Sample
from detector.data.geometry import Area, crop_and_resize, only, visible
from detector.settings.section import Count, Fraction, Range


@dataclass(frozen=True)
class IoUCrop(Augmentation):
    """A window in which some box is seen to a share that is drawn, or the whole image.

    SSD, section 2.2: the window's IoU with some box is at least 0, 0.1, 0.3, 0.5, 0.7 or 0.9, or
    the image stays whole, each as often. Boxes whose centre is outside are dropped; crowd regions
    are cut, and stay while anything of them is left, so that anchors there stay ignored. An image
    without boxes stays whole.

    scale: lowest, highest share of each side. aspect: of width / height of the window.
    trials: windows that are drawn for one IoU before another IoU is drawn.
    """

    scale: tuple[float, float] = (0.3, 1.0)
    aspect: tuple[float, float] = (0.5, 2.0)
    trials: int = 40

    before_resize: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.aspect[0] <= self.aspect[1]:
            raise ValueError(
                f"found {self}; scale and aspect should be lowest, highest, above 0, and scale at "
                "most 1."
            )

    def apply(self, sample: Sample, context: Context) -> Sample:
        size = sample.size
        boxes = sample.boxes[~sample.crowd]
        # torchvision would divide by the height 0 of a window of such an image
        if not len(boxes) or int(min(size) * self.scale[0]) < 1:
            return sample
        crop = v2.RandomIoUCrop(*self.scale, *self.aspect, trials=self.trials)
        with _seeded_globally(context.generator):
            drawn = _drawn(crop, tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size))
        if not drawn:
            return sample
        window = Area(drawn["top"], drawn["left"], drawn["height"], drawn["width"])
        spot = Area(0, 0, window.height, window.width)
        cut = crop_and_resize(sample, window, spot, (window.height, window.width))
        centred = sample.crowd.clone()
        centred[~sample.crowd] = drawn["is_within_crop_area"]
        return only(cut, centred & visible(sample, cut, window, spot))


@dataclass(frozen=True)
class ZoomOut(Augmentation):
    """The image somewhere in a larger one of the mean colour, with this probability.

    SSD, section 3.6. lowest, highest: the larger one's side, in sides of the image. The frame is
    made before the resize, so its memory is that of the image times `highest` squared.
    """

    probability: float = 0.5
    lowest: float = 1.0
    highest: float = 4.0

    before_resize: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1 or not 1 <= self.lowest <= self.highest:
            raise ValueError(
                f"found {self}; probability should lie between 0 and 1, and lowest, highest be at "
                "least 1."
            )

    def apply(self, sample: Sample, context: Context) -> Sample:
        if torch.rand((), generator=context.generator).item() >= self.probability:
            return sample
        height, width = sample.size
        zoom = v2.RandomZoomOut(side_range=(self.lowest, self.highest))
        with _seeded_globally(context.generator):
            left, top, right, bottom = _drawn(zoom, sample.image)["padding"]
        size = top + height + bottom, left + width + right
        return crop_and_resize(
            sample, Area(0, 0, height, width), Area(top, left, height, width), size
        )


@contextmanager
def _seeded_globally(generator: torch.Generator) -> Iterator[None]:
    """torch's global generator of the CPU, seeded by a draw from `generator` within the block.

    Not `torch.manual_seed`, which seeds the GPUs' generators, too.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _drawn(transform: v2.Transform, about: Tensor) -> dict[str, Any]:
    """What a transform of torchvision would do; `_get_params` was its name before 0.21."""
    draw: Callable[[list[Tensor]], dict[str, Any]]
    draw = getattr(transform, "make_params", None) or transform._get_params
    return draw([about])


class IoUCropSettings(AugmentationSettings):
    """A window that shows some box to a share that is drawn (SSD, section 2.2)."""

    kind: Literal["iou_crop"] = "iou_crop"
    scale: Range = (0.3, 1.0)
    aspect: Range = (0.5, 2.0)
    trials: Count = 40

    @model_validator(mode="after")
    def _check(self) -> IoUCropSettings:
        if self.scale[1] > 1:
            raise ValueError(f"scale is {list(self.scale)}, it should end at 1 or below")
        return self

    def augmentation(self) -> IoUCrop:
        return IoUCrop(self.scale, self.aspect, self.trials)


class ZoomOutSettings(AugmentationSettings):
    """The image somewhere in one that is larger by a factor that is drawn (SSD, section 3.6)."""

    kind: Literal["zoom_out"] = "zoom_out"
    probability: Fraction = 0.5
    range: Range = (1.0, 4.0)

    @model_validator(mode="after")
    def _check(self) -> ZoomOutSettings:
        if self.range[0] < 1:
            raise ValueError(f"range is {list(self.range)}, it should begin at 1 or above")
        return self

    def augmentation(self) -> ZoomOut:
        return ZoomOut(self.probability, *self.range)
