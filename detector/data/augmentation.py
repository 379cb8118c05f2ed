"""What an augmentation is: a function of a sample and a generator, or an object that needs more.

g boxes of one sample, K classes. Every random number of a sample comes from one generator, whose
state depends on seed, epoch and row alone; so samples do not depend on workers, ranks or a resume.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from detector.data.batch import Sample
from detector.errors import InputError
from detector.imported import calling, imported, is_own, name_of
from detector.settings.section import Section

Function = Callable[[Sample, torch.Generator], Sample]


class Draws(NamedTuple):
    """Random numbers, uniform in [0, 1), of the resize, scale jitter, flip and photometric changes.

    All are always drawn, before anything else is, so that switching on one of these does not
    change the draws of another.
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


@dataclass(frozen=True)
class Context:
    """What an augmentation of one sample may draw from."""

    generator: torch.Generator  # on the CPU
    draws: Draws
    more: Callable[[], Sample]  # another sample of the epoch as it is in its file; may be the same


class Augmentation(ABC):
    """An augmentation that needs more than a generator, or that comes before the resize."""

    # True: takes the image as it is in its file, since it changes which part of it there is, and
    # pixels should be resampled once. False: takes the resized image.
    before_resize: ClassVar[bool] = False

    @abstractmethod
    def apply(self, sample: Sample, context: Context) -> Sample:
        """The changed sample. Never writes to the tensors of the old one."""


Step = Augmentation | Function


def check_fraction(name: str, value: float) -> None:
    """ValueError if an argument of this name does not lie between 0 and 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}; it should lie between 0 and 1.")


def no_more() -> Sample:
    """For samples that do not come from a data set.    Raises ValueError"""
    raise ValueError(
        "this augmentation needs more samples, and there is no data set: give Transform's call a "
        "function `more`, which returns one"
    )


def applied(step: Step, sample: Sample, context: Context) -> Sample:
    """The sample after one augmentation.

    Raises InputError where one that is not of this package fails, or returns something else than
    a sample; it names the file and line.
    """
    if isinstance(step, Augmentation) and not is_own(step):
        return step.apply(sample, context)
    with calling(step, f"image {sample.image_id}"):
        if isinstance(step, Augmentation):
            changed = step.apply(sample, context)
        else:
            changed = step(sample, context.generator)
    _check(name_of(step), changed, classes=sample.labels.shape[1])
    return changed


def _check(name: str, sample: Any, *, classes: int) -> None:
    """InputError if what a user's augmentation gave cannot be trained on."""
    if not isinstance(sample, Sample):
        raise InputError(
            f"{name}: it returned a {type(sample).__name__}; an augmentation returns a Sample, as "
            "dataclasses.replace(sample, image=...) gives one."
        )
    count = len(sample.boxes)
    expected = {
        "image": (torch.uint8, (3, *sample.image.shape[1:3])),
        "boxes": (torch.float32, (count, 4)),
        "labels": (torch.bool, (count, classes)),
        "crowd": (torch.bool, (count,)),
    }
    for field, (dtype, shape) in expected.items():
        value: Tensor = getattr(sample, field)
        if value.dtype != dtype or tuple(value.shape) != shape:
            raise InputError(
                f"{name}: it returned a Sample whose {field} is {value.dtype} of shape "
                f"{tuple(value.shape)}; expected {dtype} of shape {shape}."
            )
    height, width = sample.size
    near, far = sample.boxes[:, :2], sample.boxes[:, 2:]
    if not ((near >= 0) & (near < far) & (far <= torch.tensor([width, height]))).all():
        raise InputError(
            f"{name}: it returned boxes {sample.boxes.tolist()} for an image of {width} x {height} "
            "pixels; they should be x1 y1 x2 y2 with x1 < x2 and y1 < y2, inside the image."
        )


class AugmentationSettings(Section):
    """The settings of one kind of augmentation: its keys, and what they make."""

    kind: str

    @abstractmethod
    def augmentation(self) -> Step:
        """The augmentation with these settings."""


class FunctionSettings(AugmentationSettings):
    """A function of a user's own, named as "module:function"."""

    def augmentation(self) -> Function:
        function: Function = imported(self.kind)
        return function
