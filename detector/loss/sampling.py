"""Which anchors count in the classification loss.

N images, A anchors of one image. A sampler gives weights 0 or 1, chosen without gradient and
without a shape or a loop that depends on the data.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from detector.boxes import iou
from detector.settings.one_of import OneOf
from detector.settings.section import Count, Fraction, Positive, Section, item
from detector.structures import Targets


class Sampler(Protocol):
    """Chooses among the `trainable` anchors (bool (N, A))."""

    @property
    def known_before(self) -> bool:
        """Whether `counts` can be told from the targets alone, before the forward pass."""

    def counts(self, targets: Targets, trainable: Tensor) -> Tensor:
        """int64 (N,): how many anchors of each image `weights` will choose."""

    def weights(self, losses: Tensor, targets: Targets, trainable: Tensor) -> Tensor:
        """Detached losses (N, A) -> weights 0 or 1 (N, A), of the losses' dtype."""


@dataclass(frozen=True)
class All:
    """Every trainable anchor, as RetinaNet does (Lin et al. 2017, section 4.1)."""

    known_before: ClassVar[bool] = True

    def counts(self, targets: Targets, trainable: Tensor) -> Tensor:
        return trainable.sum(1)

    def weights(self, losses: Tensor, targets: Targets, trainable: Tensor) -> Tensor:
        return trainable.to(losses.dtype)


@dataclass(frozen=True, kw_only=True)
class OHEM:
    """Online hard example mining: the anchors of highest loss in each image, foreground or not.

    Shrivastava et al. 2016, section 4; on anchors as in Lin et al. 2017, section 5.1. With `nms`,
    an anchor does not count if it overlaps one of higher loss that counts by more than this IoU.
    """

    per_image: int
    nms: float | None = None

    @property
    def known_before(self) -> bool:
        return self.nms is None

    def counts(self, targets: Targets, trainable: Tensor) -> Tensor:
        if not self.known_before:
            raise ValueError(
                f"nms is {self.nms}, with which the number of anchors is known only after the "
                "forward pass; set nms to None to count them before."
            )
        return trainable.sum(1).clamp(max=self.per_image)

    def weights(self, losses: Tensor, targets: Targets, trainable: Tensor) -> Tensor:
        if self.nms is None:
            chosen = _highest(losses, trainable, trainable.sum(1), most=self.per_image)
        else:
            chosen = self._highest_apart(losses, targets.anchors, trainable, overlap=self.nms)
        return chosen.to(losses.dtype)

    def _highest_apart(
        self, losses: Tensor, anchors: Tensor, trainable: Tensor, *, overlap: float
    ) -> Tensor:
        """bool (N, A): greedy NMS, one anchor of every image at a time.

        Written out because torchvision's NMS returns as many boxes as it likes, which waits for
        the device, and compares all pairs (gigabytes at 100,000 anchors) where the first
        `per_image` survivors are all that count.
        """
        left, chosen = trainable, torch.zeros_like(trainable)
        for _ in range(min(self.per_image, len(anchors))):
            best = losses.masked_fill(~left, -torch.inf).argmax(1, keepdim=True)
            picked = left.gather(1, best)  # False once nothing is left
            chosen = chosen.scatter(1, best, chosen.gather(1, best) | picked)
            near = iou(anchors[best], anchors[None]) > overlap
            left = (left & ~(near & picked)).scatter(1, best, torch.zeros_like(picked))
        return chosen


@dataclass(frozen=True, kw_only=True)
class HardNegatives:
    """All positives and, of each image, `ratio` times as many negatives of highest loss.

    Liu et al. 2016 (SSD), section 2.2. An image without positives has no loss.
    """

    ratio: float
    known_before: ClassVar[bool] = True

    def counts(self, targets: Targets, trainable: Tensor) -> Tensor:
        positives = (trainable & targets.foreground).sum(1)
        negatives = (trainable & targets.background).sum(1)
        return positives + torch.minimum(self._wanted(positives), negatives)

    def weights(self, losses: Tensor, targets: Targets, trainable: Tensor) -> Tensor:
        positive, negative = trainable & targets.foreground, trainable & targets.background
        wanted = self._wanted(positive.sum(1))
        hard = _highest(losses, negative, wanted, most=losses.shape[1])
        return (positive | hard).to(losses.dtype)

    def _wanted(self, positives: Tensor) -> Tensor:
        return (self.ratio * positives).floor().long()


@dataclass(frozen=True, kw_only=True)
class Random:
    """`per_image` anchors at random, at most `positive_fraction` of them positives.

    Ren et al. 2015 (Faster R-CNN), section 3.1.3: negatives fill up where positives are few. The
    draw depends on the sample's key and the anchor's index alone: not on ranks or on call order.
    """

    per_image: int
    positive_fraction: float
    known_before: ClassVar[bool] = True

    def counts(self, targets: Targets, trainable: Tensor) -> Tensor:
        positives, negatives = self._split(targets, trainable)
        return positives + negatives

    def weights(self, losses: Tensor, targets: Targets, trainable: Tensor) -> Tensor:
        positives, negatives = self._split(targets, trainable)
        lots = draw(targets.keys, losses.shape[1])
        chosen = _highest(lots, trainable & targets.foreground, positives, most=self.per_image)
        filling = _highest(lots, trainable & targets.background, negatives, most=self.per_image)
        return (chosen | filling).to(losses.dtype)

    def _split(self, targets: Targets, trainable: Tensor) -> tuple[Tensor, Tensor]:
        """int64 (N,) twice: how many positives and how many negatives are drawn."""
        limit = int(self.per_image * self.positive_fraction)
        positives = (trainable & targets.foreground).sum(1).clamp(max=limit)
        negatives = (trainable & targets.background).sum(1)
        return positives, torch.minimum(negatives, self.per_image - positives)


def draw(keys: Tensor, count: int) -> Tensor:
    """Keys int64 (N,) -> int64 (N, count) in 0 .. 2**63 - 1, uniform, a function of key and column.

    The counter-based generator SplitMix64 (Steele et al. 2014, figure 16, with Stafford's mix 13):
    the mixed key gives each image its own place in the sequence.
    """
    index = torch.arange(count, device=keys.device)
    state = _mix(keys)[:, None] + (index + 1) * -0x61C8864680B583EB  # golden ratio, modulo 2**64
    return _mix(state) & 0x7FFFFFFFFFFFFFFF


def _mix(state: Tensor) -> Tensor:
    """A bijection of 64 bits; int64 products wrap, and `&` makes the shifts unsigned."""
    state = (state ^ ((state >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    state = (state ^ ((state >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return state ^ ((state >> 31) & 0x1FFFFFFFF)


def _highest(values: Tensor, among: Tensor, counts: Tensor, *, most: int) -> Tensor:
    """bool (N, A): of each row of values (N, A), the counts (N,) highest where `among` is True.

    Exactly min(counts, most, among.sum(1)) of them, ties or not.
    """
    last = -torch.inf if values.is_floating_point() else -1
    ranked = values.masked_fill(~among, last).topk(min(most, values.shape[1]), dim=1).indices
    within = torch.arange(ranked.shape[1], device=ranked.device) < counts[:, None]
    return torch.zeros_like(among).scatter(1, ranked, within) & among


class SamplerSettings(Section):
    """The settings of one kind of sampler: its keys, and what they make."""

    kind: str

    @abstractmethod
    def sampler(self) -> Sampler:
        """The sampler with these settings."""


class AllSettings(SamplerSettings):
    kind: Literal["all"] = item("all", "every anchor that is not ignored")

    def sampler(self) -> All:
        return All()


class OHEMSettings(SamplerSettings):
    """The anchors of highest loss (Shrivastava et al. 2016), after NMS at this IoU if not null."""

    kind: Literal["ohem"] = "ohem"
    per_image: Count = 512
    nms: Fraction | None = None

    def sampler(self) -> OHEM:
        return OHEM(per_image=self.per_image, nms=self.nms)


class HardNegativesSettings(SamplerSettings):
    """All positives, and `ratio` times as many negatives of highest loss (SSD, section 2.2)."""

    kind: Literal["hard_negatives"] = "hard_negatives"
    ratio: Positive = 3.0

    def sampler(self) -> HardNegatives:
        return HardNegatives(ratio=self.ratio)


class RandomSettings(SamplerSettings):
    """A random draw with at most this fraction of positives (Faster R-CNN, section 3.1.3)."""

    kind: Literal["random"] = "random"
    per_image: Count = 256
    positive_fraction: Fraction = 0.5

    def sampler(self) -> Random:
        return Random(per_image=self.per_image, positive_fraction=self.positive_fraction)


SAMPLERS = OneOf(
    base=SamplerSettings,
    kinds={
        "all": AllSettings,
        "ohem": OHEMSettings,
        "hard_negatives": HardNegativesSettings,
        "random": RandomSettings,
    },
    default=None,
)
