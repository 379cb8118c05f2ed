"""Some classes cost more than others.    K foreground classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from detector.anchors.class_code import Terms
from detector.loss.elementwise import ElementwiseLoss, ElementwiseWrapper


class ClassWeighted(ElementwiseWrapper):
    """What `elementwise` says, times the weight of the anchor's class; background weighs 1.

    As in Cui et al. 2019, section 4: a sample weighs as its label does, in all its terms (an anchor
    with several labels as their mean). A factor for all terms of one channel, background's too,
    would not move the probability at which that channel's loss is least.

    The weights belong to the training data, so they go into the checkpoint: a run is evaluated
    with those that it was trained with.
    """

    weights: Tensor

    def __init__(self, elementwise: ElementwiseLoss, weights: Tensor) -> None:
        super().__init__(elementwise)
        self.register_buffer("weights", weights.float())

    def forward(self, terms: Terms) -> Tensor:
        return self.elementwise(terms) * terms.by_label(self.weights, background=1.0)


def effective_number_weights(counts: Tensor, *, beta: float) -> Tensor:
    """Boxes of each class (K,) -> weights float64 (K,), in proportion to 1 / E_n.

    Cui et al. 2019: E_n = (1 - beta^n) / (1 - beta), the effective number of n samples
    (proposition 1), and the weights sum to K (section 4). A class without any box has none; it
    weighs 1, and the rule is that of the others.

    Args:
        counts: NaN where it is not known; then all weights are NaN.
        beta: 0 (all weigh alike) up to but not including 1 (in proportion to 1 / n).
    """
    n = counts.double()
    decay = math.log(beta) if beta > 0 else -math.inf
    raw = torch.where(n == 0, 0.0, (1 - beta) / -torch.expm1(n * decay))
    scaled = raw * (n != 0).sum() / raw.sum()
    return torch.where(n == 0, 1.0, scaled)
