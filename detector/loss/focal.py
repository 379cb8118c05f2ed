"""Cross entropy and the focal loss of each term, from log probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from detector.anchors.class_code import Terms
from detector.loss.elementwise import ElementwiseLoss, ElementwiseSettings
from detector.loss.smoothing import Smoothed
from detector.settings.section import Below1, Fraction, NotNegative, item


def minus_alpha(terms: Terms, alpha: float | None) -> Tensor | float:
    """-alpha_t (..., T), in the terms' dtype: where() of two numbers gives float32."""
    if alpha is None:
        return -1.0
    positive, other = (terms.log_p.new_full((), number) for number in (-alpha, alpha - 1))
    return torch.where(terms.positive, positive, other)


@dataclass(frozen=True, kw_only=True)
class Focal(ElementwiseLoss):
    """-alpha_t (1 - p_t)^gamma log p_t (Lin et al. 2017, equations 4 and 5).

    alpha: weight of positive terms, 1 - alpha is that of the others; None: all weigh 1.
    gamma: focusing, >= 0; 0 is cross-entropy.
    """

    alpha: float | None = 0.25
    gamma: float = 2.0

    def __call__(self, terms: Terms) -> Tensor:
        weight = minus_alpha(terms, self.alpha)
        if self.gamma == 0:  # log(1 - p_t) may be -inf, and 0 * -inf is not 0
            return weight * terms.log_p
        return weight * (self.gamma * terms.log_q).exp() * terms.log_p


class FocalSettings(ElementwiseSettings):
    kind: str = item("focal", "focal | poly | ghm | quality_focal | varifocal | module:Class")
    alpha: Fraction | None = item(0.25, "weight of positives, 1 - alpha of negatives; null: all 1")
    gamma: NotNegative = item(2.0, "focusing; 0 is cross-entropy")
    smoothing: Below1 = item(0.0, "share of a target that is spread evenly over its outcomes")

    def elementwise(self) -> ElementwiseLoss:
        return self._smoothed(Focal(alpha=self.alpha, gamma=self.gamma))

    def _smoothed(self, hard: ElementwiseLoss) -> ElementwiseLoss:
        return Smoothed(elementwise=hard, epsilon=self.smoothing) if self.smoothing else hard
