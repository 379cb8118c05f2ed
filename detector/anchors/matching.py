"""Which anchor answers for which box.    N images, A anchors, G boxes of an image (padded)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from detector.boxes import area, centred_inside, intersection
from detector.structures import BACKGROUND, IGNORED, Batch, Targets

# N * G * chunk; about eight float32 temporaries of it live at a time. A GPU wants large kernels.
CPU_PAIRS = 6_000_000
GPU_PAIRS = 2**25
# IoUs are equal up to this share of them: the two passes may be compiled to different roundings
TIE = 1e-6


Assignment = Callable[[Tensor, Batch], Targets]  # anchors (A, 4) and a batch


class Matcher:
    """Max-IoU assignment (Lin et al. 2017, section 4; Faster R-CNN, section 3.1.2).

    An anchor is foreground from an IoU of `foreground` up, background below `background`, and
    ignored between. With `low_quality`, each box also keeps the anchors that overlap it best,
    unless nothing overlaps it at all: a box whose best IoU is 0 makes no anchor foreground. Such an
    anchor then answers for that box, whatever else it overlapped. Anchors that are not foreground
    and lie by more than `crowd_overlap` of their area in a crowd box are ignored. So are anchors
    centred in the padding, which no box matches: what an image teaches must not depend on the
    sizes of the images that it is batched with.

    Of two boxes at one place no anchor can answer for the second. With `multi_label`, for codes
    under which a box may have several labels, each therefore has the labels of both.
    """

    def __init__(
        self,
        *,
        foreground: float,
        background: float,
        low_quality: bool,
        crowd_overlap: float = 0.5,
        multi_label: bool = False,
    ) -> None:
        if not 0 <= background <= foreground <= 1:
            raise ValueError(
                f"background is {background} and foreground {foreground}; expected IoUs from 0 to "
                "1, the first not above the second."
            )
        if not 0 <= crowd_overlap <= 1:
            raise ValueError(f"crowd_overlap is {crowd_overlap}; it should lie between 0 and 1.")
        self.foreground = foreground
        self.background = background
        self.low_quality = low_quality
        self.crowd_overlap = crowd_overlap
        self.multi_label = multi_label

    def __call__(self, anchors: Tensor, batch: Batch) -> Targets:
        """Anchors (A, 4) and a batch -> Targets; memory bounded by chunks, never waits."""
        if anchors.numel() and batch.boxes.numel():
            matched = self._assign(anchors, batch)
        else:
            shape = len(batch), len(anchors)
            matched = torch.full(shape, BACKGROUND, device=anchors.device)
        return targets_of(anchors, batch, matched, multi_label=self.multi_label)

    def _assign(self, anchors: Tensor, batch: Batch) -> Tensor:
        """(N, A) as Targets.matches, but for anchors centred in the padding."""
        matches = [self._match(chunk, batch) for chunk in _chunks(anchors, batch)]
        columns = list(zip(*matches, strict=True))
        best, box, in_crowd = (torch.cat(parts, dim=1) for parts in columns[:3])
        matched = torch.where(best >= self.foreground, box, BACKGROUND)
        unsure = (best >= self.background) & (best < self.foreground)
        matched = torch.where(unsure | (in_crowd & (best < self.foreground)), IGNORED, matched)
        if self.low_quality:
            rescued = self._rescue(anchors, batch, torch.stack(columns[3]).amax(dim=0))
            matched = torch.where(rescued >= 0, rescued, matched)
        return matched

    def _match(self, chunk: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N, chunk) best IoU, its box, whether in a crowd; and (N, G) best IoU of each box."""
        overlap, inside = _overlaps(chunk, batch)
        best, box = overlap.max(dim=1)
        in_crowd = (inside > self.crowd_overlap) & batch.crowd[..., None]
        return best, box, in_crowd.any(dim=1), overlap.amax(dim=2)

    def _rescue(self, anchors: Tensor, batch: Batch, best: Tensor) -> Tensor:
        """(N, A) the box for which an anchor is one of the best, or -1; of several, its nearest.

        best (N, G) is the best IoU that any anchor has with each box.
        """
        best = best[..., None]
        found = []
        for chunk in _chunks(anchors, batch):
            overlap, _ = _overlaps(chunk, batch)
            of_the_best = (overlap >= best * (1 - TIE)) & (best > 0)
            value, box = overlap.masked_fill(~of_the_best, -1).max(dim=1)
            found.append(torch.where(value >= 0, box, -1))
        return torch.cat(found, dim=1)


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
    chunks = _chunks(anchors, batch)
    inside = [(_overlaps(chunk, batch)[1] > above) & batch.crowd[..., None] for chunk in chunks]
    return torch.cat([chunk.any(dim=1) for chunk in inside], dim=1)


def _overlaps(chunk: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """(N, G, chunk) IoU, 0 for what cannot match, and the share of the anchor inside the box."""
    boxes = batch.boxes[:, :, None]
    shared = intersection(boxes, chunk)
    tiny = torch.finfo(shared.dtype).tiny
    union = (area(boxes) + area(chunk) - shared).clamp(min=tiny)
    usable = (batch.present & ~batch.crowd)[..., None] & centred_inside(chunk, batch.sizes)[:, None]
    return (shared / union) * usable, shared / area(chunk).clamp(min=tiny)


def _shared_labels(batch: Batch) -> Tensor:
    """bool (N, G, K): the labels of all boxes that lie exactly where a box lies, crowds apart."""
    usable = batch.present & ~batch.crowd
    same = (batch.boxes[:, :, None] == batch.boxes[:, None]).all(dim=-1)
    same &= usable[:, :, None] & usable[:, None]
    return batch.labels | ((same.float() @ batch.labels.float()) > 0)
