"""The members of the family of the focal loss, each a cost of a term from log probabilities.

The last two have a quality as their target, so that a detection's score ranks its box, too:
`terms.quality` y is the IoU of an anchor's predicted box with its own; the target of its class is
y, and 0 elsewhere. Only for sigmoid decisions; p is the probability of the class, not of the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor

from detector.anchors.class_code import Terms
from detector.loss.elementwise import SIGMOID, ElementwiseLoss, ElementwiseSettings
from detector.settings.section import Below1, Fraction, NotNegative, item

SMALL = 1e-6  # distance of p from y below which a root of it would have too steep a slope


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
        if self.gamma == 0:  # also where log(1 - p_t) is -inf: 0 * -inf is not 0
            return weight * terms.log_p
        return weight * (self.gamma * terms.log_q).exp() * terms.log_p


@dataclass(frozen=True, kw_only=True)
class Poly1(ElementwiseLoss):
    """Focal loss + epsilon (1 - p_t)^(gamma + 1), all times alpha_t.

    Leng et al. 2022 (PolyLoss): the focal loss is a sum over j >= 1 of (1 - p_t)^(j + gamma) / j,
    and Poly-1 makes the coefficient of its first term 1 + epsilon; alpha_t is a factor of the whole
    sum, so that it is one of the added term too. An epsilon of -1 takes the first term away.
    """

    epsilon: float
    alpha: float | None = None
    gamma: float = 0.0

    def __call__(self, terms: Terms) -> Tensor:
        first = ((self.gamma + 1) * terms.log_q).exp()
        plain = Focal(alpha=self.alpha, gamma=self.gamma)(terms)
        return plain - self.epsilon * minus_alpha(terms, self.alpha) * first


@dataclass(frozen=True, kw_only=True)
class Smoothed(ElementwiseLoss):
    """The mean cost under the smoothed target q' = (1 - epsilon) delta + epsilon u.

    Szegedy et al. 2016 (Inception v2 and v3), section 7, with u uniform over the outcomes of a
    term: the two of a binary decision, so that its targets are 1 - epsilon / 2 and epsilon / 2, or
    all C of a choice. For cross entropy that is their loss; one that focuses is averaged the same
    way, each outcome with its own p_t and alpha_t.
    """

    elementwise: ElementwiseLoss
    epsilon: float

    def __call__(self, terms: Terms) -> Tensor:
        blind = terms.mean_over_outcomes(self.elementwise)
        return (1 - self.epsilon) * self.elementwise(terms) + self.epsilon * blind


def _soft_target(terms: Terms) -> tuple[Tensor, Tensor, Tensor]:
    """y, log p and log(1 - p) of the class, not of the truth: each (..., T)."""
    if terms.quality is None:
        raise ValueError(
            "terms.quality is None; a loss that reads it needs the IoU of each anchor's predicted "
            "box with its own."
        )
    target = torch.where(terms.positive, terms.quality.to(terms.log_p.dtype), 0.0)
    log_p = torch.where(terms.positive, terms.log_p, terms.log_q)
    log_not_p = torch.where(terms.positive, terms.log_q, terms.log_p)
    return target, log_p, log_not_p


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
        target, log_p, log_not_p = _soft_target(terms)
        cost = minus_alpha(terms, self.alpha) * (target * log_p + (1 - target) * log_not_p)
        if self.gamma == 0:
            return cost
        apart = (target - log_p.exp()).abs().clamp(min=SMALL)
        hard = torch.where(target > 0, apart.log(), log_p)  # log p is exact where y is 0
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
        target, log_p, log_not_p = _soft_target(terms)
        positive = target * (target * log_p + (1 - target) * log_not_p)
        negative = (1.0 if self.alpha is None else 1 - self.alpha) * log_not_p
        if self.gamma != 0:
            negative = negative * (self.gamma * log_p).exp()
        return -torch.where(target > 0, positive, negative)


class FocalSettings(ElementwiseSettings):
    kind: str = item("focal", "this or a kind below, or module:Class")
    alpha: Fraction | None = item(0.25, "weight of positives, 1 - alpha of negatives; null: all 1")
    gamma: NotNegative = item(2.0, "focusing; 0 is cross-entropy")
    smoothing: Below1 = item(0.0, "share of a target that is spread evenly over its outcomes")

    def elementwise(self) -> ElementwiseLoss:
        return self._smoothed(Focal(alpha=self.alpha, gamma=self.gamma))

    def _smoothed(self, hard: ElementwiseLoss) -> ElementwiseLoss:
        return Smoothed(elementwise=hard, epsilon=self.smoothing) if self.smoothing else hard


class PolySettings(FocalSettings):
    kind: str = "poly"
    epsilon: Annotated[float, Field(ge=-1)] = item(1.0, "factor of (1 - p_t)^(gamma + 1), added")

    def elementwise(self) -> ElementwiseLoss:
        return self._smoothed(Poly1(epsilon=self.epsilon, alpha=self.alpha, gamma=self.gamma))


class QualityFocalSettings(ElementwiseSettings):
    kind: str = "quality_focal"
    alpha: Fraction | None = item(None, "weight of positives, 1 - alpha of negatives; null: all 1")
    gamma: NotNegative = item(2.0, "focusing, on the distance of the score from the IoU")

    @model_validator(mode="after")
    def _check_activation(self) -> QualityFocalSettings:
        if self.one_of_all:
            raise ValueError(
                f"kind {self.kind} wants a score of its own for each class, and in a softmax they "
                f"sum to 1: {SIGMOID}"
            )
        return self

    def elementwise(self) -> ElementwiseLoss:
        return QualityFocal(alpha=self.alpha, gamma=self.gamma)


class VarifocalSettings(QualityFocalSettings):
    kind: str = "varifocal"
    alpha: Fraction | None = item(0.25, "negatives weigh 1 - alpha, positives their IoU")
    gamma: NotNegative = item(2.0, "focusing of negatives")

    @model_validator(mode="after")
    def _check_background(self) -> VarifocalSettings:
        if self.background == "class":
            raise ValueError(
                "kind varifocal takes a background channel for a class that always fits and never "
                "quietens it: set background to negatives or ignored"
            )
        return self

    def elementwise(self) -> ElementwiseLoss:
        return Varifocal(alpha=self.alpha, gamma=self.gamma)
