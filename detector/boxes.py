"""Geometry of boxes (..., 4) x1 y1 x2 y2 in float pixels; width is x2 - x1, without + 1.

torchvision.ops has the pairwise functions; these are batched and elementwise. They compute in
float32 at least: the area of a box of 300 x 300 pixels is infinite in float16.
"""

from __future__ import annotations

import torch
from torch import Tensor


def area(boxes: Tensor) -> Tensor:
    """(..., 4) -> (...) square pixels."""
    boxes = _at_least_float32(boxes)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """(..., 4) and (..., 4), broadcast -> (...) square pixels; 0 where they only touch."""
    a, b = _at_least_float32(a), _at_least_float32(b)
    left = torch.maximum(a[..., 0], b[..., 0])
    top = torch.maximum(a[..., 1], b[..., 1])
    right = torch.minimum(a[..., 2], b[..., 2])
    bottom = torch.minimum(a[..., 3], b[..., 3])
    return (right - left).clamp(min=0) * (bottom - top).clamp(min=0)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """(..., 4) and (..., 4), broadcast -> (...) in 0..1; 0 where both are empty."""
    shared = intersection(a, b)
    union = area(a) + area(b) - shared
    # tiny instead of an epsilon: it only keeps 0 / 0 from being NaN and changes no other result
    return shared / union.clamp(min=torch.finfo(shared.dtype).tiny)


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (N, D, 4) clipped to images of `sizes` (N, 2) height, width."""
    height, width = sizes[:, None, 0, None], sizes[:, None, 1, None]
    limit = torch.cat([width, height, width, height], dim=-1).to(boxes.dtype)
    return torch.minimum(boxes.clamp(min=0), limit)


def centred_inside(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (..., 4) and sizes (N, 2) height, width -> bool (N, ...): the centre lies inside.

    Only the right and the bottom edge are tested, where the padding lies.
    """
    boxes = _at_least_float32(boxes)
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    limits = sizes.flip(-1).reshape(-1, *[1] * (boxes.ndim - 1), 2)
    return (centres < limits).all(dim=-1)


def flip(boxes: Tensor, width: float) -> Tensor:
    """Boxes (..., 4) flipped from left to right in an image `width` pixels wide."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=-1)


def _at_least_float32(boxes: Tensor) -> Tensor:
    return boxes.to(torch.promote_types(boxes.dtype, torch.float32))
