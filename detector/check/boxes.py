"""What is wrong with boxes: unusable, misplaced, twice there, or out of reach of the anchors.

B boxes of all images together, g boxes of one image.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from detector.boxes import iou
from detector.check.findings import Case
from detector.check.split import Split, box_rows
from detector.data.annotations import lookup
from detector.data.probe import REASONS
from detector.data.transforms import Resize
from detector.engine.preflight import resized_sides

BEYOND = 1.0  # pixels outside the image; less comes from rounding, or from corners counted from 1
WHOLE = 0.98  # share of the image
SAME = 0.9  # IoU of two boxes around one object
BOXES_AT_A_TIME = 50_000  # compared with all shapes of anchors
DEFECTS = {
    "missing image": "image_missing",
    "unreadable image": "image_unreadable",
    "size differs": "image_size_differs",
    "unknown image": "box_unknown_image",
    "unknown category": "box_unknown_category",
    "no box": "box_missing",
    "box not finite": "box_not_finite",
    "box without area": "box_without_area",
    "box outside the image": "box_outside",
}


def defect_cases(split: Split) -> Iterator[Case]:
    """What training refuses, or skips."""
    for defect in split.index.defects:
        kind = DEFECTS[defect.reason]
        of = split.of_image if defect.reason in REASONS else split.of_boxes
        yield from ((kind, of(entry)) for entry in defect.ids)


def place_cases(split: Split) -> Iterator[Case]:
    """Usable boxes at the edge of what is sensible."""
    index, content = split.index, split.content
    usable = ~index.crowd
    sizes = index.sizes[box_rows(index)][:, ::-1].astype(np.float64)  # width, height
    rows, _ = lookup(index.annotation_ids, content.ids)
    first = content.boxes[rows, :2]
    last = first + content.boxes[rows, 2:]
    beyond = np.maximum(-first, last - sizes).max(axis=1)
    sides = index.boxes[:, 2:] - index.boxes[:, :2]
    tests = {
        "box_partly_outside": beyond > BEYOND,
        "box_tiny": usable & (sides.min(axis=1) <= 1),
        "box_whole_image": usable & (sides.prod(axis=1) >= WHOLE * sizes.prod(axis=1)),
        "box_area_replaced": index.area_replaced,
    }
    for kind, where in tests.items():
        yield from ((kind, split.of_boxes(i)) for i in index.annotation_ids[where].tolist())


def pair_cases(split: Split) -> Iterator[Case]:
    """Boxes around the same object: each with the first one of its image that it repeats."""
    index = split.index
    for row in np.flatnonzero(np.diff(index.box_offsets) > 1).tolist():
        truth = index.truth(row)
        near = box_iou(truth.boxes, truth.boxes) >= SAME
        near &= ~(truth.crowd[:, None] | truth.crowd)
        ids = index.annotation_ids[index.box_offsets[row] : index.box_offsets[row + 1]].tolist()
        for later in near.triu(diagonal=1).any(dim=0).nonzero().flatten().tolist():
            first = int(near[:, later].nonzero()[0])
            kind = _pair_kind(truth.boxes, truth.labels, first, later)
            yield kind, split.of_boxes(ids[first], ids[later])


def _pair_kind(boxes: Tensor, labels: Tensor, first: int, later: int) -> str:
    if not torch.equal(labels[first], labels[later]):
        return "box_two_labels"
    same = torch.equal(boxes[first], boxes[later])
    return "box_duplicate" if same else "box_near_duplicate"


def label_cases(split: Split) -> Iterator[Case]:
    """Boxes with several labels, for a class code under which each has one."""
    several = np.diff(split.index.label_offsets) > 1
    for annotation in split.index.annotation_ids[several].tolist():
        yield "box_labels_under_softmax", split.of_boxes(annotation)


def anchor_cases(split: Split, resize: Resize, cells: Tensor, foreground: float) -> Iterator[Case]:
    """Boxes to which no anchor's shape (M, 2) comes near enough, even one at their very middle.

    Boxes of at most a pixel are left out: they are wrong themselves.
    """
    index = split.index
    anchors = torch.cat([-cells, cells], dim=1)
    reached = [
        (iou(torch.cat([-sides, sides], dim=1)[:, None], anchors) >= foreground).any(dim=1)
        for sides in resized_sides(index, resize).split(BOXES_AT_A_TIME)
    ]
    original = (index.boxes[:, 2:] - index.boxes[:, :2])[~index.crowd]
    out_of_reach = ~torch.cat(reached).numpy() & (original.min(axis=1) > 1)
    for annotation in index.annotation_ids[~index.crowd][out_of_reach].tolist():
        yield "box_fits_no_anchor", split.of_boxes(annotation)
