"""Boxes as deltas to anchors and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LONGEST = math.log(1000 / 16)  # a 16-pixel anchor may grow to 1000 pixels; beyond, exp overflows


class BoxCoder:
    """The code of R-CNN (Girshick et al. 2014, appendix C): dx, dy, dw, dh.

    dx = (x - x_anchor) / w_anchor of the centres, dw = log(w / w_anchor); y and h likewise.
    """

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Boxes (..., 4) with positive sides and anchors (..., 4) in pixels -> deltas (..., 4)."""
        centre, size = _centre_and_size(boxes)
        anchor_centre, anchor_size = _centre_and_size(anchors)
        shift = (centre - anchor_centre) / anchor_size
        return torch.cat([shift, (size / anchor_size).log()], dim=-1)

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Deltas (..., 4) and anchors (..., 4) -> float32 boxes (..., 4) in pixels, not clipped."""
        shift, growth = deltas.float().split(2, dim=-1)
        anchor_centre, anchor_size = _centre_and_size(anchors)
        centre = shift * anchor_size + anchor_centre
        half = growth.clamp(max=LONGEST).exp() * anchor_size / 2
        return torch.cat([centre - half, centre + half], dim=-1)


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + size / 2, size
