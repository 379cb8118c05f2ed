"""Adaptive assignment.    N images, A anchors, G boxes of an image (padded), M anchors a cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import torch
from torch import Tensor

from detector.anchors.generator import AnchorGenerator
from detector.anchors.matching import MatchingSettings, crowded, pairs_at_a_time, targets_of
from detector.boxes import centred_inside, iou
from detector.settings.section import Count, Fraction
from detector.structures import BACKGROUND, IGNORED, Batch, Targets


@dataclass(frozen=True, eq=False)
class ATSS:
    """Adaptive training sample selection (Zhang et al. 2020, algorithm 1).

    Of each level the `candidates` cells nearest to a box's centre are its candidates, with all
    their anchors (the paper has one a cell). A candidate is foreground if its IoU is at least the
    mean plus the standard deviation of the candidates' IoUs, and its centre lies in the box; where
    several boxes want an anchor, the one with the highest IoU has it. All others are background,
    but for crowds and padding, which are as under max-IoU. No anchor is ignored for its IoU. A box
    without the centre of an anchor in it has none.
    """

    anchor_generator: AnchorGenerator
    _: KW_ONLY
    candidates: int = 9
    crowd_overlap: float = 0.5
    multi_label: bool = False

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"candidates is {self.candidates}; it should be at least 1.")

    def __call__(self, anchors: Tensor, batch: Batch) -> Targets:
        """Anchors (A, 4) of the batch's image shape -> Targets; bounded memory, never waits."""
        matched = torch.full((len(batch), len(anchors)), BACKGROUND, device=anchors.device)
        if batch.boxes.numel():
            in_crowd = crowded(anchors, batch, above=self.crowd_overlap)
            matched = self._assign(anchors, batch, matched.masked_fill(in_crowd, IGNORED))
        return targets_of(anchors, batch, matched, multi_label=self.multi_label)

    def _assign(self, anchors: Tensor, batch: Batch, matched: Tensor) -> Tensor:
        """`matched` (N, A), with the index of a box where an anchor is foreground."""
        images, boxes = batch.present.shape
        columns, overlaps = self._foreground(anchors, batch)
        rows = torch.arange(images * boxes, device=anchors.device)[:, None]
        cells = (rows // boxes * len(anchors) + columns).flatten()
        best = torch.zeros_like(matched, dtype=overlaps.dtype).flatten()
        best.scatter_reduce_(0, cells, overlaps.flatten(), "amax")
        winner = (overlaps > 0) & (overlaps == best[cells].view_as(overlaps))
        box = torch.where(winner, rows % boxes, boxes)  # of equal ones the first, as under max-IoU
        first = torch.full_like(matched, boxes).flatten()
        first.scatter_reduce_(0, cells, box.flatten(), "amin")
        first = first.view_as(matched)
        return torch.where(first < boxes, first, matched)

    def _foreground(self, anchors: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Candidates (N * G, C) as indices of anchors, and their IoU, 0 where not foreground."""
        images, boxes = batch.present.shape
        usable = (batch.present & ~batch.crowd).flatten()
        sizes = batch.sizes.repeat_interleave(boxes, dim=0, output_size=images * boxes)
        lengths = self.anchor_generator.level_lengths(*batch.images.shape[-2:])
        step = max(1, pairs_at_a_time(anchors) // max(lengths))
        chunks = zip(
            *(values.split(step) for values in (batch.boxes.flatten(0, 1), sizes, usable)),
            strict=True,
        )
        parts = [self._of_boxes(anchors, lengths, *chunk) for chunk in chunks]
        columns, overlaps = zip(*parts, strict=True)
        return torch.cat(columns), torch.cat(overlaps)

    def _of_boxes(
        self, anchors: Tensor, lengths: list[int], boxes: Tensor, sizes: Tensor, usable: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `_foreground`, of boxes (B, 4) in images of sizes (B, 2)."""
        columns = torch.cat(list(self._nearest(anchors, lengths, boxes, sizes)), dim=1)
        near = anchors[columns]
        x, y = ((near[..., i] + near[..., i + 2]) / 2 for i in range(2))
        counted = (x < sizes[:, 1:]) & (y < sizes[:, :1])
        overlaps = torch.where(counted, iou(near, boxes[:, None]), 0.0)
        count = counted.sum(1, keepdim=True)
        mean = overlaps.sum(1, keepdim=True) / count.clamp(min=1)
        squares = torch.where(counted, (overlaps - mean).square(), 0.0).sum(1, keepdim=True)
        # the sample's standard deviation (n - 1), as in the authors' code
        threshold = mean + (squares / (count - 1).clamp(min=1)).sqrt()
        left, top, right, bottom = boxes[:, None].unbind(-1)
        inside = (x > left) & (x < right) & (y > top) & (y < bottom)
        keep = counted & inside & (overlaps >= threshold) & usable[:, None]
        return columns, torch.where(keep, overlaps, 0.0)

    def _nearest(
        self, anchors: Tensor, lengths: list[int], boxes: Tensor, sizes: Tensor
    ) -> Iterator[Tensor]:
        """Of each level, the anchors (B, up to candidates * M) of the cells nearest to each box."""
        each = self.anchor_generator.anchors_per_cell
        centres = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
        own = torch.arange(each, device=anchors.device)
        begin = 0
        for level in anchors.split(lengths):
            cells = level[::each]
            away = ((cells[:, :2] + cells[:, 2:]) / 2 - centres).square().sum(-1)
            # cells of the padding come last: they must not crowd out those of the image
            outside = ~centred_inside(cells, sizes)
            away = away.masked_fill(outside, torch.inf)
            # a stable sort: topk leaves open which of several equally near cells it takes
            nearest = away.sort(dim=1, stable=True).indices[:, : self.candidates]
            yield (begin + nearest[..., None] * each + own).flatten(1)
            begin += len(level)


class ATSSSettings(MatchingSettings):
    """Thresholds that adapt to each box (Zhang et al. 2020)."""

    kind: Literal["atss"] = "atss"
    candidates: Count = 9
    crowd_overlap: Fraction = 0.5

    def assignment(self, anchor_generator: AnchorGenerator, *, multi_label: bool) -> ATSS:
        return ATSS(
            anchor_generator,
            candidates=self.candidates,
            crowd_overlap=self.crowd_overlap,
            multi_label=multi_label,
        )
