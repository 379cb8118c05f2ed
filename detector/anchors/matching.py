"""The assignment of anchors to boxes.

N images, A anchors, G boxes of an image (padded).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor

from detector.anchors.generator import AnchorGenerator
from detector.boxes import area, centred_inside, intersection
from detector.settings.section import Fraction, Section, Share, item
from detector.structures import BACKGROUND, IGNORED, Batch, Targets

# Elements of a chunk, N * G * anchors, of which about eight float32 tensors exist at a time. GPUs
# are efficient only with large kernels.
CPU_PAIRS = 6_000_000
GPU_PAIRS = 2**25
# IoUs that differ by less than this share are equal: the two passes, once compiled, may round
# differently
TIE = 1e-6


Assignment = Callable[[Tensor, Batch], Targets]  # anchors (A, 4) and a batch


@dataclass(frozen=True, kw_only=True)
class Matcher:
    """Max-IoU assignment (Lin et al. 2017, section 4; Faster R-CNN, section 3.1.2).

    An anchor is foreground if its best IoU is `foreground` or more, background if it is less than
    `background`, and ignored in between. With `low_quality`, each box also gets the anchors that
    overlap it best, even if these overlap another box more; a box whose best IoU is 0 gets none.
    Anchors that are not foreground, and of whose area more than the share `crowd_overlap` lies in a
    crowd, are ignored. So are anchors centred in the padding, which match no box: what an image
    teaches must not depend on the sizes of the other images of its batch.

    If two boxes coincide, no anchor can match the second. With `multi_label`, for class codes under
    which a box may have several labels, each of them gets the labels of both.
    """

    foreground: float
    background: float
    low_quality: bool
    crowd_overlap: float = 0.5
    multi_label: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.background <= self.foreground <= 1 or self.foreground == 0:
            raise ValueError(
                f"background is {self.background} and foreground {self.foreground}; expected IoUs "
                "from 0 to 1, the first not above the second, which is above 0."
            )
        if not 0 <= self.crowd_overlap <= 1:
            raise ValueError(
                f"crowd_overlap is {self.crowd_overlap}; it should lie between 0 and 1."
            )

    def __call__(self, anchors: Tensor, batch: Batch) -> Targets:
        """Anchors (A, 4) and a batch -> Targets; memory is bounded, and the host never waits."""
        # a maximum over no boxes would be an error
        if anchors.numel() and batch.boxes.numel():
            matched = self._assign(anchors, batch)
        else:
            shape = len(batch), len(anchors)
            matched = torch.full(shape, BACKGROUND, device=anchors.device)
        return targets_of(anchors, batch, matched, multi_label=self.multi_label)

    def _assign(self, anchors: Tensor, batch: Batch) -> Tensor:
        """(N, A) like Targets.matches, before anchors centred in the padding are ignored."""
        matches = [self._match(chunk, batch) for chunk in _chunks(anchors, batch)]
        columns = list(zip(*matches, strict=True))
        best, box, in_crowd = (torch.cat(chunks, dim=1) for chunks in columns[:3])
        matched = torch.where(best >= self.foreground, box, BACKGROUND)
        unsure = (best >= self.background) & (best < self.foreground)
        matched = torch.where(unsure | (in_crowd & (best < self.foreground)), IGNORED, matched)
        if self.low_quality:
            rescued = self._rescue(anchors, batch, torch.stack(columns[3]).amax(dim=0))
            matched = torch.where(rescued >= 0, rescued, matched)
        return matched

    def _match(self, chunk: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N, chunk) best IoU, its box, whether in a crowd; and best IoU of each box (N, G)."""
        shared = intersection(batch.boxes[:, :, None], chunk)
        overlap = _overlaps(shared, chunk, batch)
        best, box = overlap.max(dim=1)
        in_crowd = _in_crowd(shared, chunk, batch, above=self.crowd_overlap)
        return best, box, in_crowd, overlap.amax(dim=2)

    def _rescue(self, anchors: Tensor, batch: Batch, best: Tensor) -> Tensor:
        """(N, A) the box that an anchor overlaps best of all anchors, or -1.

        Of several such boxes, the one it overlaps most. best (N, G): the best IoU of each box. The
        IoUs are computed again, since to keep them all would break the memory bound.
        """
        best = best[..., None]
        rescued = []
        for chunk in _chunks(anchors, batch):
            overlap = _overlaps(intersection(batch.boxes[:, :, None], chunk), chunk, batch)
            is_best = (overlap >= best * (1 - TIE)) & (best > 0)
            value, box = overlap.masked_fill(~is_best, -1).max(dim=1)
            rescued.append(torch.where(value >= 0, box, -1))
        return torch.cat(rescued, dim=1)


def _chunks(anchors: Tensor, batch: Batch) -> Iterator[Tensor]:
    rows = max(1, batch.boxes.shape[0] * batch.boxes.shape[1])
    yield from anchors.split(max(1, pairs_at_a_time(anchors) // rows))


def pairs_at_a_time(anchors: Tensor) -> int:
    """How many pairs of an anchor and a box are looked at together."""
    return CPU_PAIRS if anchors.device.type == "cpu" else GPU_PAIRS


def targets_of(anchors: Tensor, batch: Batch, matched: Tensor, *, multi_label: bool) -> Targets:
    """Targets from matches (N, A), of which those in the padding become IGNORED."""
    matched = torch.where(centred_inside(anchors, batch.sizes), matched, IGNORED)
    labels = _shared_labels(batch) if multi_label else batch.labels
    return Targets(anchors, matched, batch.boxes, labels, batch.keys)


def crowded(anchors: Tensor, batch: Batch, *, above: float) -> Tensor:
    """bool (N, A): anchors with more than this share of their area in a crowd box."""
    boxes = batch.boxes[:, :, None]
    chunks = _chunks(anchors, batch)
    parts = [_in_crowd(intersection(boxes, one), one, batch, above=above) for one in chunks]
    return torch.cat(parts, dim=1)


def _overlaps(shared: Tensor, chunk: Tensor, batch: Batch) -> Tensor:
    """(N, G, chunk): the IoU, from the intersections, or 0 where a match is impossible."""
    boxes, tiny = batch.boxes[:, :, None], torch.finfo(shared.dtype).tiny
    union = (area(boxes) + area(chunk) - shared).clamp(min=tiny)
    usable = (batch.present & ~batch.crowd)[..., None] & centred_inside(chunk, batch.sizes)[:, None]
    return (shared / union) * usable


def _in_crowd(shared: Tensor, chunk: Tensor, batch: Batch, *, above: float) -> Tensor:
    """bool (N, chunk), from the intersections (N, G, chunk): as `crowded`.

    The share of the anchor is what COCO takes for the overlap with a crowd: intersection over
    detection.
    """
    inside = shared / area(chunk).clamp(min=torch.finfo(shared.dtype).tiny)
    return ((inside > above) & batch.crowd[..., None]).any(dim=1)


def _shared_labels(batch: Batch) -> Tensor:
    """bool (N, G, K): for each box, the labels of all boxes that coincide with it; no crowds."""
    usable = batch.present & ~batch.crowd
    same = (batch.boxes[:, :, None] == batch.boxes[:, None]).all(dim=-1)
    same &= usable[:, :, None] & usable[:, None]
    # float, because matrix products of bool do not exist
    return batch.labels | ((same.float() @ batch.labels.float()) > 0)


class MatchingSettings(Section):
    """The settings of one kind of assignment: its keys, and what they make."""

    kind: str

    @abstractmethod
    def assignment(self, anchor_generator: AnchorGenerator, *, multi_label: bool) -> Assignment:
        """The assignment with these settings; `multi_label` as of Matcher."""


class MaxIoUSettings(MatchingSettings):
    kind: Literal["max_iou"] = item("max_iou", "by thresholds of the IoU")
    foreground: Share = item(0.5, "an anchor at or above this IoU with a box is foreground")
    background: Fraction = item(0.4, "below this IoU with every box it is background; else ignored")
    low_quality: bool = item(
        default=True, description="a box also gets its best anchors, if they overlap it at all"
    )
    crowd_overlap: Fraction = item(
        0.5, "share of an anchor in a crowd box above which it is ignored"
    )

    @model_validator(mode="after")
    def _check(self) -> MaxIoUSettings:
        if self.background > self.foreground:
            raise ValueError(
                f"background is {self.background}, above foreground {self.foreground}; "
                "it should be at most foreground"
            )
        return self

    def assignment(self, anchor_generator: AnchorGenerator, *, multi_label: bool) -> Matcher:
        return Matcher(
            foreground=self.foreground,
            background=self.background,
            low_quality=self.low_quality,
            crowd_overlap=self.crowd_overlap,
            multi_label=multi_label,
        )
