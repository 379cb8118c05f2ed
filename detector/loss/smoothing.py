"""Label smoothing: the truth is believed a little less than wholly."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from detector.anchors.class_code import Terms
from detector.loss.elementwise import ElementwiseLoss


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
