"""A gate for long tails: rare classes are not pushed down by every box of a frequent one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.anchors.class_code import Terms
from detector.loss.elementwise import ElementwiseLoss, ElementwiseWrapper


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
