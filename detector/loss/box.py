"""The box loss of every foreground anchor.    N images, A anchors of one image.

Dense: where an anchor is not foreground, its own box stands in for both sides, so that the loss
and its gradient are 0 there and no shape depends on the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.anchors.box_coder import BoxCoder
from detector.boxes import area, intersection, iou
from detector.settings.section import NotNegative, Positive, Section, item
from detector.structures import Targets

# predicted deltas (N, A, 4), anchors (A, 4), true boxes (N, A, 4) -> (N, A)
Compare = Callable[[Tensor, Tensor, Tensor], Tensor]
SMALL = 1e-7  # square pixels, as in torchvision, whose own IoU losses index by masks and so wait


@dataclass(frozen=True, kw_only=True)
class BoxLoss:
    """One of the four below, on foreground anchors."""

    compare: Compare
    box_coder: BoxCoder = BoxCoder()

    def __call__(self, deltas: Tensor, targets: Targets) -> Tensor:
        """Deltas (N, A, 4), any float dtype -> (N, A) at least float32, 0 off the foreground."""
        deltas = deltas.to(torch.promote_types(deltas.dtype, torch.float32))
        deltas = torch.where(targets.foreground[..., None], deltas, 0.0)
        losses = self.compare(deltas, targets.anchors, matched_boxes(targets))
        return torch.where(targets.foreground, losses, 0.0)

    @torch.no_grad()
    def quality(self, deltas: Tensor, targets: Targets) -> Tensor:
        """Deltas (N, A, 4) -> (N, A) float32: IoU of predicted and true box, 1 off the foreground.

        There is no gradient through it.
        """
        predicted = self.box_coder.decode(deltas, targets.anchors)
        return torch.where(targets.foreground, iou(predicted, matched_boxes(targets)), 1.0)


def matched_boxes(targets: Targets) -> Tensor:
    """(N, A, 4): the box that each foreground anchor answers for, and the anchor elsewhere."""
    boxes = F.pad(targets.boxes, (0, 0, 0, 1))  # an image set without any box still has a row
    rows = targets.matches.clamp(min=0)[..., None].expand(-1, -1, 4)
    return torch.where(targets.foreground[..., None], boxes.gather(1, rows), targets.anchors)


@dataclass(frozen=True, kw_only=True)
class SmoothL1:
    """On deltas, summed over the four: x^2 / (2 beta) below beta, |x| - beta / 2 from there on.

    Girshick 2015 (Fast R-CNN), equation 3, has beta 1; beta 0 is L1.
    """

    box_coder: BoxCoder = BoxCoder()
    beta: float

    def __call__(self, deltas: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
        true = self.box_coder.encode(boxes, anchors)
        return F.smooth_l1_loss(deltas, true, beta=self.beta, reduction="none").sum(-1)


@dataclass(frozen=True, kw_only=True)
class L1:
    """On deltas: the sum of the four absolute differences."""

    box_coder: BoxCoder = BoxCoder()

    def __call__(self, deltas: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
        return F.l1_loss(deltas, self.box_coder.encode(boxes, anchors), reduction="none").sum(-1)


@dataclass(frozen=True, kw_only=True)
class GIoU:
    """On boxes: 1 - GIoU, 0 to 2 (Rezatofighi et al. 2019, algorithm 1)."""

    box_coder: BoxCoder = BoxCoder()

    def __call__(self, deltas: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
        predicted = self.box_coder.decode(deltas, anchors)
        shared = intersection(predicted, boxes)
        union = area(predicted) + area(boxes) - shared
        hull = area(_hull(predicted, boxes)) + SMALL
        return 1 - shared / (union + SMALL) + (hull - union) / hull


@dataclass(frozen=True, kw_only=True)
class CIoU:
    """On boxes: 1 - IoU + d^2 / c^2 + a v (Zheng et al. 2020, equations 8 to 11).

    d is the distance of the centres, c the diagonal of the hull, v compares the aspect ratios and
    its weight a is not differentiated.
    """

    box_coder: BoxCoder = BoxCoder()

    def __call__(self, deltas: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
        predicted = self.box_coder.decode(deltas, anchors)
        shared = intersection(predicted, boxes)
        overlap = shared / (area(predicted) + area(boxes) - shared + SMALL)
        hull = _hull(predicted, boxes)
        diagonal = (hull[..., 2:] - hull[..., :2]).square().sum(-1) + SMALL
        apart = (predicted + predicted.roll(2, -1) - boxes - boxes.roll(2, -1))[..., :2] / 2
        aspect = 4 / math.pi**2 * (_angle(boxes) - _angle(predicted)).square()
        weight = (aspect / (1 - overlap + aspect + SMALL)).detach()
        return 1 - overlap + apart.square().sum(-1) / diagonal + weight * aspect


def _hull(a: Tensor, b: Tensor) -> Tensor:
    """(..., 4): the smallest box around both."""
    corners = torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])
    return torch.cat(corners, dim=-1)


def _angle(boxes: Tensor) -> Tensor:
    """arctan(width / height) (...)"""
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    return torch.atan(width / (height + SMALL))


class BoxLossSettings(Section):
    kind: Literal["smooth_l1", "l1", "giou", "ciou"] = item(
        "smooth_l1", "smooth_l1 | l1 | giou | ciou"
    )
    beta: Positive = item(0.11, "where smooth_l1 turns from quadratic to linear")
    weight: NotNegative = item(1.0, "factor in the total loss")
