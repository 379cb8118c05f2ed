"""How much AP50 each kind of error costs, after TIDE (Bolya et al. 2020).

D detections and G boxes of all images together, d and g of one image, K classes. Boxes are x, y,
width, height in pixels.

Two libraries give the same results where every class has boxes and detections, no two scores are
equal and no crowd is near. In other cases they differ:

- In hotcoco's tide_errors the missed boxes of a class without detections cost nothing, a crowd
  counts as a box that a detection may have meant, and a detection with a corrected class comes
  after equal scores of that class.
- tidecv 1.0.1 counts a class without boxes as AP 0, fixes detections that match a crowd, puts
  fixed detections before right ones of equal score, reports a negative gain as 0, and uses 100
  detections of an image where COCO uses 100 of each class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.coco_matching import matched

FOREGROUND = 0.5  # IoU that a hit needs
BACKGROUND = 0.1  # IoU up to which a detection is on background
RIGHT = -1  # in _Detections.kinds: no error
KINDS = ("classification", "localisation", "both", "duplicate", "background")
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, NOTHING = range(5)  # indices in KINDS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Errors:
    """AP50, and its gain if one kind of error alone is fixed."""

    ap50: float | None  # None without boxes
    gains: dict[str, float | None]  # KINDS and `missed`


@dataclass(frozen=True, eq=False)
class _Boxes:
    """The ground-truth boxes without crowds, by image."""

    images: Ints  # (G,)
    classes: Ints  # (G,) 0 .. K-1
    xywh: Floats  # (G, 4)
    matched: Bools  # (G,) by a detection


@dataclass(frozen=True, eq=False)
class _Detections:
    """The detections that match no crowd, by image, and within an image in their original order.

    COCO ranks equal scores in this order.
    """

    images: Ints  # (D,)
    classes: Ints  # (D,) 0 .. K-1
    xywh: Floats  # (D, 4)
    scores: Floats  # (D,)
    kinds: Ints  # (D,) an index in KINDS, or RIGHT
    nearest: Ints  # (D,) the box nearest to a detection of wrong class or location, else -1


def error_split(
    detections: Floats, ground_truth: dict[str, Any], image_ids: Sequence[int]
) -> Errors:
    """The errors of section 2.2 of the paper, and the AP that each costs, section 2.3.

    A wrong detection has the first kind that applies, in the order of the authors' tidecv:
    localisation (IoU 0.1 to 0.5 with a box of its class), classification (0.5 or more with a box of
    another class), duplicate (0.5 or more with a box of its class that a higher-scored detection
    matches), background (0.1 or less with every box), both (0.1 to 0.5 with one of another class).

    To fix localisation or classification errors, the highest-scored detection nearest to each
    unmatched box becomes right, with the class of that box, and the others are removed. To fix
    duplicate, background and both errors, these detections are removed. Boxes are `missed` if no
    detection matches them or is nearest to them; to fix this, they are removed. A class that has
    neither boxes nor detections afterwards is left out of the mean. A class without boxes is never
    in the mean, as in COCO. The mean over no class is None.

    Gains do not add up. They may be slightly negative, because AP has only 101 recall thresholds.

    Args:
        detections, ground_truth, image_ids: as for `evaluation.coco.evaluate`; image_ids not empty.
    """
    categories = sorted(category["id"] for category in ground_truth["categories"])
    entries = matched(
        detections,
        ground_truth,
        image_ids=sorted(set(image_ids)),
        category_ids=categories,
        thresholds=[FOREGROUND],
    )
    labels = {category_id: label for label, category_id in enumerate(categories)}
    boxes = _boxes(entries, ground_truth, labels)
    classified = _classified(_detections(entries, detections, labels), boxes)
    best = _best(classified, boxes)
    counts = np.bincount(boxes.classes, minlength=len(categories))
    missed = ~boxes.matched
    missed[classified.nearest[classified.nearest >= 0]] = False
    left = counts - np.bincount(boxes.classes[missed], minlength=len(categories))
    chosen = np.flatnonzero(counts)  # COCO's mean is over the classes with boxes
    base = _mean_ap(classified, counts, chosen)
    fixed = {
        name: _mean_ap(_fixed(classified, boxes, best, kind), counts, chosen)
        for kind, name in enumerate(KINDS)
    }
    fixed["missed"] = _mean_ap(classified, left, chosen)
    gains = {name: None if ap is None or base is None else ap - base for name, ap in fixed.items()}
    return Errors(base, gains)


def _boxes(
    entries: list[dict[str, Any]], ground_truth: dict[str, Any], labels: dict[int, int]
) -> _Boxes:
    xywh = {a["id"]: a["bbox"] for a in ground_truth["annotations"]}
    rows = [
        (entry["image_id"], labels[entry["category_id"]], is_matched, *xywh[box_id])
        for entry in sorted(entries, key=lambda entry: entry["image_id"])
        for box_id, ignored, is_matched in zip(
            entry["gtIds"], entry["gtIgnore"], entry["gtMatched"][0], strict=True
        )
        if not ignored
    ]
    table = np.array(rows, np.float64).reshape(-1, 7)
    images, classes, is_matched = table[:, :3].T.astype(np.int64)
    return _Boxes(images, classes, table[:, 3:], is_matched > 0)


def _detections(entries: list[dict[str, Any]], rows: Floats, labels: dict[int, int]) -> _Detections:
    """The detections, right or BOTH for now: `_classified` determines the kind of error."""
    matches = [
        (entry["image_id"], detection_id, labels[entry["category_id"]], is_matched)
        for entry in entries
        for detection_id, ignored, is_matched in zip(
            entry["dtIds"], entry["dtIgnore"][0], entry["dtMatched"][0], strict=True
        )
        if not ignored
    ]
    images, ids, classes, is_matched = np.array(sorted(matches), np.int64).reshape(-1, 4).T
    taken = rows[ids - 1]  # hotcoco numbers the rows from 1 on
    return _Detections(
        images=images,
        classes=classes,
        xywh=taken[:, 1:5],
        scores=taken[:, 5],
        kinds=np.where(is_matched, RIGHT, BOTH),
        nearest=np.full(len(taken), -1),
    )


def _classified(detections: _Detections, boxes: _Boxes) -> _Detections:
    """The same detections with kinds of error and nearest boxes."""
    from hotcoco.primitives import bbox_iou

    kinds, nearest = detections.kinds.copy(), detections.nearest.copy()
    for image in np.unique(detections.images):
        first, last = np.searchsorted(detections.images, [image, image + 1])
        wrong = first + np.flatnonzero(kinds[first:last] != RIGHT)
        own = slice(*np.searchsorted(boxes.images, [image, image + 1]))
        same = detections.classes[wrong, None] == boxes.classes[own]
        crowds = np.zeros(same.shape[1], np.bool_)
        overlap = bbox_iou(detections.xywh[wrong], boxes.xywh[own], crowds)
        kinds[wrong], index = _kinds(overlap, same, boxes.matched[own])
        nearest[wrong] = np.where(index < 0, -1, own.start + index)
    return replace(detections, kinds=kinds, nearest=nearest)


def _kinds(overlap: Floats, same: Bools, matched_boxes: Bools) -> tuple[Ints, Ints]:
    """Kinds of error (d,) and nearest boxes (d,) of the wrong detections of an image.

    Args:
        overlap: (d, g) IoU with the boxes of the image.
        same: (d, g) whether detection and box have the same class.
        matched_boxes: (g,)

    A nearest box is an index 0 .. g-1; it is -1 unless class or location alone is wrong.
    """
    nothing = ((0, 0), (0, 1))  # adds a box without overlap, since an image may have no box
    overlap, same = np.pad(overlap, nothing), np.pad(same, nothing)
    own, other = overlap * same, overlap * ~same
    nearest_own, nearest_other = own.argmax(1), other.argmax(1)
    best, best_other = own.max(1), other.max(1)
    taken = (own * np.append(matched_boxes, False)).max(1)
    kinds = np.select(
        [
            (best >= BACKGROUND) & (best <= FOREGROUND),
            best_other >= FOREGROUND,
            taken >= FOREGROUND,
            overlap.max(1) <= BACKGROUND,
        ],
        [LOCALISATION, CLASSIFICATION, DUPLICATE, NOTHING],
        BOTH,
    )
    of_kinds = [kinds == LOCALISATION, kinds == CLASSIFICATION]
    return kinds, np.select(of_kinds, [nearest_own, nearest_other], -1)


def _best(detections: _Detections, boxes: _Boxes) -> Bools:
    """(D,): the highest-scored of the detections nearest to an unmatched box."""
    unmatched = np.append(~boxes.matched, False)[detections.nearest]  # index -1: the added False
    order = np.argsort(-detections.scores, kind="stable")
    order = order[unmatched[order]]
    _, first = np.unique(detections.nearest[order], return_index=True)
    best = np.zeros(len(detections.scores), np.bool_)
    best[order[first]] = True
    return best


def _fixed(detections: _Detections, boxes: _Boxes, best: Bools, kind: int) -> _Detections:
    """The detections after this kind of error is fixed; best (D,): as of `_best`."""
    wrong = detections.kinds == kind
    fixed = wrong & best
    classes = detections.classes.copy()
    classes[fixed] = boxes.classes[detections.nearest[fixed]]
    kept = ~wrong | fixed
    return replace(
        detections,
        classes=classes[kept],
        kinds=np.where(fixed, RIGHT, detections.kinds)[kept],
        scores=detections.scores[kept],
    )


def _mean_ap(detections: _Detections, counts: Ints, chosen: Ints) -> float | None:
    """AP50, the mean over the `chosen` classes; counts (K,): boxes of each class."""
    from hotcoco import metrics

    values = []
    for k in chosen:
        of_class = detections.classes == k
        if counts[k] or of_class.any():
            right = detections.kinds[of_class] == RIGHT
            scores = detections.scores[of_class]
            values.append(metrics.average_precision(scores, right, int(counts[k])))
    return float(np.mean(values)) if values else None
