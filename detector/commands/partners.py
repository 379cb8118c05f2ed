"""The losses of torch and torchvision that a benchmark holds ours against.

Each takes logits (N, A, C) and targets, and makes what its library wants of them itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from detector.structures import Targets

LossOf = Callable[[Tensor, Targets], Tensor]


def _focal(logits: Tensor, targets: Targets) -> Tensor:
    hot = _one_hot(logits, targets)
    return sigmoid_focal_loss(logits, hot, alpha=0.25, gamma=2, reduction="sum")


def _binary(logits: Tensor, targets: Targets) -> Tensor:
    hot = _one_hot(logits, targets)
    return F.binary_cross_entropy_with_logits(logits, hot, reduction="sum")


def _with_background(logits: Tensor, targets: Targets) -> Tensor:
    classes = targets.labels.int().argmax(-1).gather(1, targets.matches.clamp(min=0))
    truth = torch.where(targets.foreground, classes, targets.labels.shape[-1])
    return F.cross_entropy(logits.flatten(0, 1), truth.flatten(), reduction="sum")


def _one_hot(logits: Tensor, targets: Targets) -> Tensor:
    """Float targets like the logits, made as in torchvision's RetinaNetClassificationHead."""
    hot = torch.zeros_like(logits)
    image, anchor = targets.foreground.nonzero(as_tuple=True)
    hot[image, anchor] = targets.labels[image, targets.matches[image, anchor]].to(logits.dtype)
    return hot


PARTNERS: dict[str, LossOf] = {
    "cross_entropy": _binary,
    "background_cross_entropy": _with_background,
    "focal": _focal,
}
