"""Encoding boxes as deltas to anchors, and decoding them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LONGEST = math.log(1000 / 16)  # torchvision's limit: a 16-pixel anchor grows to at most 1000 pixels


class BoxCoder:
    """The box deltas dx, dy, dw, dh of R-CNN (Girshick et al. 2014, appendix C).

    dx = (x - x_anchor) / w_anchor of the centres, dw = log(w / w_anchor); y and h likewise. They
    are not scaled by standard deviations, as in torchvision's RetinaNet.
    """

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Boxes (..., 4) with positive sides, anchors (..., 4), in pixels -> deltas (..., 4)."""
        centre, size = _centre_and_size(boxes)
        anchor_centre, anchor_size = _centre_and_size(anchors)
        shift = (centre - anchor_centre) / anchor_size
        return torch.cat([shift, (size / anchor_size).log()], dim=-1)

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Deltas (..., 4) and anchors (..., 4) -> float32 boxes (..., 4) in pixels, not clipped."""
        # float32: float16 has no fractions of a pixel above 1024
        shift, growth = deltas.float().split(2, dim=-1)
        anchor_centre, anchor_size = _centre_and_size(anchors)
        centre = shift * anchor_size + anchor_centre
        # clamped: the exp of a large delta would be infinite
        half = growth.clamp(max=LONGEST).exp() * anchor_size / 2
        return torch.cat([centre - half, centre + half], dim=-1)


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + size / 2, size
