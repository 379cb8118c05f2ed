"""Which groups of anchors the loss and its gradient come from: positives, easy, hard negatives.

N images, A anchors of one image, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detector.anchors.class_code import ClassCode
from detector.structures import Targets

GROUPS = ("positives", "easy_negatives", "hard_negatives")
HARD = 0.5  # a negative with p_t below 0.5 is not "well classified" (Lin et al. 2017, section 3)
CHUNK = 2**20  # logits whose scores exist at a time


def origin(
    losses: Tensor, logits: Tensor, gradient: Tensor, targets: Targets, *, code: ClassCode
) -> Tensor:
    """What each of GROUPS adds to the loss and to the gradient at the logits: float64 (2, 3).

    A negative is hard if some class scores above 0.5 there. The gradient is measured by its L1
    norm, in which groups add up, as the pulls of many anchors on shared weights do where they
    agree; in the L2 norm a hundred thousand small pulls would count for nothing.

    Args:
        losses: detached (N, A), divided as in the step; 0 where an anchor does not count.
        logits: detached (N, A, C).
        gradient: (N, A, C), of the loss in the logits, times any one factor.
    """
    hard = _highest_scores(logits, code) > HARD
    negative = targets.background
    members = torch.stack([targets.foreground, negative & ~hard, negative & hard])
    pulls = torch.linalg.vector_norm(gradient, ord=1, dim=-1, dtype=torch.float32)
    given = torch.stack([losses.float(), pulls])
    return torch.where(members, given[:, None], 0.0).sum((2, 3), dtype=torch.float64)


def _highest_scores(logits: Tensor, code: ClassCode) -> Tensor:
    """(N, A): the score of the likeliest class; rows go in chunks, for scores may be large."""
    rows = logits.flatten(0, 1).split(max(1, CHUNK // logits.shape[-1]))
    return torch.cat([code.scores(part).amax(-1) for part in rows]).view(logits.shape[:2])
