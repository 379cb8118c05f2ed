"""Outputs -> Detections.

N images, A anchors, K classes, D detections kept per image, T candidates per image before NMS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms, nms

from detector.anchors.box_coder import BoxCoder
from detector.anchors.class_code import ClassCode
from detector.boxes import centred_inside, clip
from detector.structures import Detections, Outputs


@dataclass(eq=False)
class Postprocess:
    """Per-level top-k, decoding, clipping and NMS (Lin et al. 2017, section 4.1)."""

    class_code: ClassCode
    box_coder: BoxCoder
    _: KW_ONLY
    # pairs of anchor and class are dropped unless their score is above it; (K,): that of the class
    score: float | Tensor
    per_level: int  # pairs kept on each level
    nms: float  # IoU above which the lower-scored of two detections of a group is dropped
    per_image: int  # D
    agnostic: bool = False  # one group for NMS, rather than a group a class

    def __call__(
        self, outputs: Outputs, anchors: Tensor, level_lengths: Sequence[int], sizes: Tensor
    ) -> Detections:
        """Outputs -> Detections in pixels of the resized images.

        anchors (A, 4); level_lengths: anchors per level; sizes (N, 2) height, width.
        """
        candidates = self.candidates(outputs, anchors, level_lengths, sizes)
        images = [self._suppress(*image) for image in zip(*candidates, strict=True)]
        boxes, scores, labels = (torch.stack(column) for column in zip(*images, strict=True))
        return Detections(boxes, scores.clamp(min=0), labels, scores >= 0)

    def traceable(
        self, outputs: Outputs, anchors: Tensor, level_lengths: Sequence[int], sizes: Tensor
    ) -> Detections:
        """As `__call__`, but by tensor operations alone, which torch.export can trace.

        All images go through one NMS, whose time grows with the square of their number. Where
        scores are equal, the order may differ.
        """
        boxes, scores, labels = self.candidates(outputs, anchors, level_lengths, sizes)
        apart = self._apart(boxes, nms_groups(labels, agnostic=self.agnostic), sizes)
        # on one spot only the first of the missing survives; each would be compared with all others
        apart = torch.where((scores >= 0)[..., None], apart, apart.new_tensor([-2, -2, -1, -1]))
        kept = nms(apart.flatten(0, 1), scores.flatten(), self.nms)
        survives = (
            torch.zeros_like(scores, dtype=torch.bool).flatten().index_fill(0, kept, value=True)
        )
        scores = torch.where(survives.view_as(scores), scores, -1.0)
        missing = max(0, self.per_image - scores.shape[1])
        scores, best = F.pad(scores, (0, missing), value=-1.0).topk(self.per_image, dim=1)
        boxes = F.pad(boxes, (0, 0, 0, missing)).gather(1, best[..., None].expand(-1, -1, 4))
        labels = F.pad(labels, (0, missing)).gather(1, best)
        present = scores >= 0
        return Detections(boxes, scores.clamp(min=0), labels, present)

    def _apart(self, boxes: Tensor, groups: Tensor, sizes: Tensor) -> Tensor:
        """Boxes moved so that those of another image or group do not overlap.

        Each image and group gets a square of its own on a grid: in a single row, coordinates would
        be so large that float32 has no fractions of a pixel left.
        """
        columns = math.ceil(math.sqrt(self.class_code.num_classes))
        rows = math.ceil(self.class_code.num_classes / columns)
        # .shape: len would make the number of images a constant of the trace
        image = torch.arange(groups.shape[0], device=groups.device)[:, None]
        square = torch.stack([groups % columns, image * rows + groups // columns], dim=-1)
        return boxes + (square * sizes.max()).repeat(1, 1, 2)

    def candidates(
        self, outputs: Outputs, anchors: Tensor, level_lengths: Sequence[int], sizes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (N, T, 4), scores (N, T) and labels (N, T) before NMS.

        T depends on shapes, not on values, so that the host need not wait for the device. The score
        is -1 where it is too low, the deltas are not finite, or the anchor is centred in the
        padding, which training ignores.
        """
        levels = zip(
            outputs.class_logits.split(list(level_lengths), dim=1),
            outputs.box_deltas.split(list(level_lengths), dim=1),
            anchors.split(list(level_lengths)),
            strict=True,
        )
        candidates = (self._level(*level, sizes) for level in levels)
        boxes, scores, labels = zip(*candidates, strict=True)
        return clip(torch.cat(boxes, dim=1), sizes), torch.cat(scores, 1), torch.cat(labels, 1)

    def _level(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, sizes: Tensor
    ) -> tuple[Tensor, ...]:
        # float32: in float16 many scores would be equal, and their order arbitrary
        scores = self.class_code.scores(logits.float())
        classes = scores.shape[-1]
        usable = centred_inside(anchors, sizes) & deltas.isfinite().all(dim=-1)
        scores = torch.where(usable[..., None] & (scores > self.score), scores, -1.0).flatten(1)
        # a pair is anchor * K + class: one anchor may give detections of several classes
        scores, pair = scores.topk(min(self.per_level, scores.shape[1]), dim=1)
        anchor = pair // classes
        chosen = deltas.gather(1, anchor[..., None].expand(-1, -1, 4))
        return self.box_coder.decode(chosen, anchors[anchor]), scores, pair % classes

    def _suppress(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        present = scores >= 0
        boxes, scores, labels = boxes[present], scores[present], labels[present]
        groups = nms_groups(labels, agnostic=self.agnostic)
        kept = batched_nms(boxes, scores, groups, self.nms)[: self.per_image]
        missing = self.per_image - len(kept)
        return (
            F.pad(boxes[kept], (0, 0, 0, missing)),
            F.pad(scores[kept], (0, missing), value=-1.0),
            F.pad(labels[kept], (0, missing)),
        )


def nms_groups(labels: Tensor, *, agnostic: bool) -> Tensor:
    """The group of each detection, int64 as `labels`; those of other groups do not suppress it."""
    return torch.zeros_like(labels) if agnostic else labels
