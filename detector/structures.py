"""What flows through one step.

N images, A anchors of one image (all levels), G ground-truth boxes (padded), D detections (padded),
K foreground classes, C channels of the classification head (K or K + 1).
All boxes are float32 x1 y1 x2 y2 in pixels of the resized image, before padding, unless said.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

BACKGROUND = -1  # in Targets.matches: the anchor belongs to no box
IGNORED = -2  # in Targets.matches: the anchor counts neither as foreground nor as background


@dataclass(frozen=True)
class Batch:
    """Images and their ground truth; made by the loader, moved to the device whole."""

    images: Tensor  # uint8 (N, 3, H, W), padded at the right and the bottom
    sizes: Tensor  # int64 (N, 2) height, width of the resized image before padding
    original_sizes: Tensor  # int64 (N, 2) height, width of the image in its file
    image_ids: Tensor  # int64 (N,) ids of the annotation file
    keys: Tensor  # int64 (N,) random key of the sample, from (seed, epoch, index) alone
    boxes: Tensor  # float32 (N, G, 4)
    labels: Tensor  # bool (N, G, K), multi-hot
    present: Tensor  # bool (N, G), False for padding
    crowd: Tensor  # bool (N, G), regions of many objects: never matched, only ignored

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`; copies asynchronously from pinned memory."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return replace(self, **moved)

    def pin_memory(self) -> Batch:
        """The same batch in pinned memory (called by torch's DataLoader)."""
        return replace(self, **{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})

    def __len__(self) -> int:
        return len(self.image_ids)


@dataclass(frozen=True)
class Targets:
    """Which anchor answers for which box."""

    anchors: Tensor  # float32 (A, 4)
    matches: Tensor  # int64 (N, A): index of a box in 0 .. G-1, or BACKGROUND or IGNORED
    boxes: Tensor  # float32 (N, G, 4)
    labels: Tensor  # bool (N, G, K), multi-hot
    keys: Tensor  # int64 (N,) random keys of the samples

    @property
    def foreground(self) -> Tensor:
        """bool (N, A)"""
        return self.matches >= 0

    @property
    def background(self) -> Tensor:
        """bool (N, A)"""
        return self.matches == BACKGROUND


@dataclass(frozen=True)
class Outputs:
    """What the model says of every anchor."""

    class_logits: Tensor  # (N, A, C)
    box_deltas: Tensor  # (N, A, 4)


@dataclass(frozen=True)
class Losses:
    """Of one micro-batch, already divided by the divisors of the whole step."""

    classification: Tensor
    box: Tensor
    by_anchor: Tensor  # (N, A) detached: what each anchor adds to `classification`

    @property
    def total(self) -> Tensor:
        """What is differentiated."""
        return self.classification + self.box


@dataclass(frozen=True)
class Detections:
    """Found objects, best first, padded to a fixed number an image."""

    boxes: Tensor  # float32 (N, D, 4), in pixels of the image that `sizes` described
    scores: Tensor  # float32 (N, D)
    labels: Tensor  # int64 (N, D) in 0 .. K-1
    present: Tensor  # bool (N, D), False for padding


@dataclass(frozen=True)
class Validation:
    """What an evaluation during training hands to the loop."""

    metrics: dict[str, float]  # `AP`, `AP/<class>`, `loss`, ...; fractions, -1 where undefined
    pictures: list[Tensor]  # drawn images, uint8 (3, H, W)
