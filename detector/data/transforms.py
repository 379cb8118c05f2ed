"""From an image as it is in its file to a sample of a batch: resize and augmentations."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, model_validator

from detector.data.augmentation import (
    Context,
    Draws,
    Step,
    applied,
    no_more,
)
from detector.data.augmentations import Flip, Photometric, ScaleJitter
from detector.data.batch import Sample
from detector.data.geometry import Area, crop_and_resize
from detector.settings.one_of import OneOf, Values
from detector.settings.section import Count, NotEmpty, Section, item


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
    """What is done to a sample: augmentations before the resize, the resize, the other ones.

    augmentations: in the order in which they run; each says with `before_resize` on which side of
        the resize. `ScaleJitter` is a part of the resize, wherever it stands in the list.
    """

    resize: Resize
    augmentations: Sequence[Step] = ()

    def __post_init__(self) -> None:
        for kind in (Flip, ScaleJitter, Photometric):  # of the same `Draws`, so the same again
            if sum(isinstance(step, kind) for step in self.augmentations) > 1:
                raise ValueError(f"augmentations has {kind.__name__} twice; give it once.")

    def __call__(
        self, sample: Sample, generator: torch.Generator, more: Callable[[], Sample] = no_more
    ) -> Sample:
        """The transformed sample; all random numbers come from `generator`.

        more: another sample as it is in its file, chosen by the same generator; for augmentations
            that put several into one.
        """
        draws = Draws(*torch.rand(len(Draws._fields), generator=generator).tolist())
        context = Context(generator=generator, draws=draws, more=more)
        jitters = [step for step in self.augmentations if isinstance(step, ScaleJitter)]
        before: list[Step] = []
        after: list[Step] = []
        for step in self.augmentations:
            if not isinstance(step, ScaleJitter):
                # a function may say it by an attribute, as an Augmentation does
                (before if getattr(step, "before_resize", False) else after).append(step)
        for step in before:
            sample = applied(step, sample, context)
        target = self.resize.target(*sample.size, draw=draws.shorter)
        if jitters:
            sample = jitters[0].resized(sample, target, draws)
        else:
            sample = crop_and_resize(sample, Area(0, 0, *sample.size), Area(0, 0, *target), target)
        for step in after:
            sample = applied(step, sample, context)
        return sample

    def for_evaluation(self) -> Transform:
        """Only the resize, without randomness."""
        return Transform(resize=self.resize.for_evaluation())
