"""Poly-1: the first polynomial coefficient of cross entropy or focal loss is free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from detector.anchors.class_code import Terms
from detector.loss.elementwise import ElementwiseLoss
from detector.loss.focal import Focal, FocalSettings, minus_alpha
from detector.settings.section import item


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


class PolySettings(FocalSettings):
    kind: str = "poly"
    epsilon: Annotated[float, Field(ge=-1)] = item(1.0, "factor of (1 - p_t)^(gamma + 1), added")

    def elementwise(self) -> ElementwiseLoss:
        return self._smoothed(Poly1(epsilon=self.epsilon, alpha=self.alpha, gamma=self.gamma))
