"""Losses whose target is how well the predicted box fits: a detection's score ranks its box, too.

`terms.quality` y is the IoU of an anchor's predicted box with its own; the target of its class is
y, and 0 elsewhere. Only for sigmoid decisions; p is the probability of the class, not of the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from detector.anchors.class_code import Terms
from detector.loss.elementwise import ElementwiseLoss, ElementwiseSettings
from detector.loss.focal import minus_alpha
from detector.loss.settings import SIGMOID
from detector.settings.section import Fraction, NotNegative, item

SMALL = 1e-6  # distance of p from y below which a root of it would have too steep a slope


class _Soft(NamedTuple):
    """Each (..., T)."""

    target: Tensor  # y, 0..1
    log_p: Tensor  # of the class, not of the truth
    log_not_p: Tensor

    @staticmethod
    def of(terms: Terms) -> _Soft:
        assert terms.quality is not None, "the loss has reads_quality"
        quality = terms.quality.to(terms.log_p.dtype)
        return _Soft(
            torch.where(terms.positive, quality, 0.0),
            torch.where(terms.positive, terms.log_p, terms.log_q),
            torch.where(terms.positive, terms.log_q, terms.log_p),
        )

    def minus_cross_entropy(self) -> Tensor:
        return self.target * self.log_p + (1 - self.target) * self.log_not_p


@dataclass(frozen=True, kw_only=True)
class QualityFocal(ElementwiseLoss):
    """-alpha_t |y - p|^gamma ((1 - y) log(1 - p) + y log p).

    Li et al. 2020 (Generalized Focal Loss), equation 2, where gamma is called beta, is 2, and there
    is no alpha. With every y = 1 it is the focal loss.
    """

    reads_quality = True
    alpha: float | None = None
    gamma: float = 2.0

    def __call__(self, terms: Terms) -> Tensor:
        soft = _Soft.of(terms)
        cost = minus_alpha(terms, self.alpha) * soft.minus_cross_entropy()
        if self.gamma == 0:
            return cost
        apart = (soft.target - soft.log_p.exp()).abs().clamp(min=SMALL)
        hard = torch.where(soft.target > 0, apart.log(), soft.log_p)  # log p is exact where y is 0
        return cost * (self.gamma * hard).exp()


@dataclass(frozen=True, kw_only=True)
class Varifocal(ElementwiseLoss):
    """-y (y log p + (1 - y) log(1 - p)) where y > 0, and -(1 - alpha) p^gamma log(1 - p) elsewhere.

    Zhang et al. 2021 (VarifocalNet), equation 2. Its alpha, 0.75, weighs negatives, and so is
    1 - alpha of ours, 0.25; positives weigh y and are not focused. alpha None: negatives weigh 1.
    """

    reads_quality = True
    alpha: float | None = 0.25
    gamma: float = 2.0

    def __call__(self, terms: Terms) -> Tensor:
        soft = _Soft.of(terms)
        weight = 1.0 if self.alpha is None else 1 - self.alpha
        negative = weight * soft.log_not_p
        if self.gamma != 0:
            negative = negative * (self.gamma * soft.log_p).exp()
        return -torch.where(soft.target > 0, soft.target * soft.minus_cross_entropy(), negative)


class QualityFocalSettings(ElementwiseSettings):
    kind: str = "quality_focal"
    alpha: Fraction | None = item(None, "weight of positives, 1 - alpha of negatives; null: all 1")
    gamma: NotNegative = item(2.0, "focusing, on the distance of the score from the IoU")

    def contradictions(self) -> dict[str, bool]:
        return super().contradictions() | {
            f"kind {self.kind} wants a score of its own for each class, and in a softmax they sum "
            f"to 1: {SIGMOID}": self.one_of_all,
        }  # fmt: skip

    def elementwise(self) -> ElementwiseLoss:
        return QualityFocal(alpha=self.alpha, gamma=self.gamma)


class VarifocalSettings(QualityFocalSettings):
    kind: str = "varifocal"
    alpha: Fraction | None = item(0.25, "negatives weigh 1 - alpha, positives their IoU")
    gamma: NotNegative = item(2.0, "focusing of negatives")

    def contradictions(self) -> dict[str, bool]:
        return super().contradictions() | {
            "kind varifocal takes a background channel for a class that always fits and never "
            "quietens it: set background to negatives or ignored": self.background == "class",
        }  # fmt: skip

    def elementwise(self) -> ElementwiseLoss:
        return Varifocal(alpha=self.alpha, gamma=self.gamma)
