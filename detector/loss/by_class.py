"""Factors of the costs by class: weights, and a gate for long tails.    K foreground classes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.anchors.class_code import Terms
from detector.loss.elementwise import Chunks, ElementwiseLoss


class ElementwiseWrapper(nn.Module, ElementwiseLoss):
    """Multiplies the costs of another element-wise loss, by buffers that a checkpoint holds."""

    def __init__(self, elementwise: ElementwiseLoss) -> None:
        super().__init__()
        self.elementwise = elementwise
        self.reads_quality = elementwise.reads_quality

    def observe(self, chunks: Chunks) -> None:
        self.elementwise.observe(chunks)


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


class Equalized(ElementwiseWrapper):
    """What `elementwise` says, times w_k = 1 - E T(f_k) (1 - y_k).

    Tan et al. 2020 (Equalization Loss), section 3: E is 1 for an anchor that is foreground, y_k
    its target, and T is 1 for a class of which fewer than a share `below` of the training boxes
    are (the paper counts images). So a foreground anchor says nothing against a rare class that it
    is not; background anchors do. Only for independent decisions.

    rare: float (K,), T of each class, which goes into the checkpoint; NaN: not known.
    """

    rare: Tensor

    def __init__(self, elementwise: ElementwiseLoss, rare: Tensor) -> None:
        super().__init__(elementwise)
        self.register_buffer("rare", rare.float())

    def forward(self, terms: Terms) -> Tensor:
        foreground = terms.positive[..., : len(self.rare)].any(-1, keepdim=True)
        rare = F.pad(self.rare, (0, terms.log_p.shape[-1] - len(self.rare)))  # not background
        spared = rare * (foreground & ~terms.positive)
        return self.elementwise(terms) * (1 - spared)


def rare_classes(counts: Tensor, *, below: float) -> Tensor:
    """Boxes of each class (K,) -> 1.0 where it has less than a share `below` of all, else 0.0.

    NaN where the counts are NaN, that is not known.
    """
    share = counts.double() / counts.sum()
    return torch.where(share.isnan(), share, (share < below).double())
