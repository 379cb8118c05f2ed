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

from collections.abc import Iterator, Sequence
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
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Errors:
    """AP50, and its gain if one kind of error alone is fixed."""

    ap50: float | None  # None without boxes
    gains: dict[str, float | None]  # KINDS and `missed`


@dataclass(frozen=True, eq=False)
class _Boxes:
    """The ground-truth boxes without crowds."""

    images: Ints  # (G,)
    classes: Ints  # (G,) 0 .. K-1
    xywh: NDArray[np.float64]  # (G, 4)
    matched: Bools  # (G,) by a detection


@dataclass(frozen=True, eq=False)
class _Detections:
    """The detections that match no crowd, by image, and within an image in their original order.

    COCO ranks equal scores in this order.
    """

    images: Ints  # (D,)
    classes: Ints  # (D,) 0 .. K-1
    xywh: NDArray[np.float64]  # (D, 4)
    scores: NDArray[np.float64]  # (D,)
    kinds: Ints  # (D,) an index in KINDS, or RIGHT
    nearest: Ints  # (D,) the box nearest to a detection of wrong class or location, else -1
    best: Bools  # (D,) the highest-scored of those nearest to an unmatched box


def error_split(
    detections: NDArray[np.float64], ground_truth: dict[str, Any], image_ids: Sequence[int]
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
    boxes = _boxes(entries, ground_truth, categories)
    classified = _classified(_detections(entries, detections, categories), boxes)
    counts = np.bincount(boxes.classes, minlength=len(categories))
    missed = ~boxes.matched
    missed[classified.nearest[classified.nearest >= 0]] = False
    left = counts - np.bincount(boxes.classes[missed], minlength=len(categories))
    base = _mean_ap(classified, counts, counts > 0)
    fixed = {name: _mean_ap(_fixed(classified, boxes, k), counts, counts > 0)
             for k, name in enumerate(KINDS)}  # fmt: skip
    fixed["missed"] = _mean_ap(classified, left, counts > 0)
    return Errors(base, {name: _difference(ap, base) for name, ap in fixed.items()})


def _difference(ap: float | None, base: float | None) -> float | None:
    return None if ap is None or base is None else ap - base


def _column(entries: list[dict[str, Any]], key: str) -> Ints:
    """The lists of all entries, concatenated; of lists by threshold, the only threshold's."""
    lists = [entry[key][0] if entry[key] and isinstance(entry[key][0], list) else entry[key]
             for entry in entries]  # fmt: skip
    return np.array([value for values in lists for value in values], np.int64)


def _owners(entries: list[dict[str, Any]], key: str, categories: list[int]) -> tuple[Ints, Ints]:
    """Image id and class of each item of the entries' lists `key`."""
    lengths = [len(entry[key]) for entry in entries]
    images = np.array([entry["image_id"] for entry in entries], np.int64)
    classes = np.searchsorted(categories, [entry["category_id"] for entry in entries])
    return np.repeat(images, lengths), np.repeat(classes, lengths)


def _boxes(
    entries: list[dict[str, Any]], ground_truth: dict[str, Any], categories: list[int]
) -> _Boxes:
    boxes = {a["id"]: a["bbox"] for a in ground_truth["annotations"]}
    counts = _column(entries, "gtIgnore") == 0
    images, classes = _owners(entries, "gtIds", categories)
    ids = _column(entries, "gtIds")[counts].tolist()
    return _Boxes(
        images=images[counts],
        classes=classes[counts],
        xywh=np.array([boxes[i] for i in ids], np.float64).reshape(-1, 4),
        matched=_column(entries, "gtMatched")[counts] > 0,
    )


def _detections(
    entries: list[dict[str, Any]], rows: NDArray[np.float64], categories: list[int]
) -> _Detections:
    """The detections, right or BOTH for now: `_classified` determines the kind of error."""
    counts = _column(entries, "dtIgnore") == 0
    images, classes = _owners(entries, "dtIds", categories)
    ids = _column(entries, "dtIds")
    order = np.lexsort((ids, images))
    order = order[counts[order]]
    taken = rows[ids[order] - 1]  # hotcoco numbers the rows from 1 on
    return _Detections(
        images=images[order],
        classes=classes[order],
        xywh=taken[:, 1:5],
        scores=taken[:, 5],
        kinds=np.where(_column(entries, "dtMatched")[order] > 0, RIGHT, BOTH),
        nearest=np.full(len(taken), -1),
        best=np.zeros(len(taken), np.bool_),
    )


def _classified(detections: _Detections, boxes: _Boxes) -> _Detections:
    """The same detections with kinds of error, nearest boxes, and the best of each box."""
    kinds, nearest = detections.kinds.copy(), detections.nearest.copy()
    for rows, box_rows in _by_image(detections.images, boxes.images):
        wrong = rows[kinds[rows] != RIGHT]
        same = detections.classes[wrong, None] == boxes.classes[box_rows]
        overlap = _overlap(detections.xywh[wrong], boxes.xywh[box_rows])
        kinds[wrong], nearest_in_image = _kinds(overlap, same, boxes.matched[box_rows])
        nearest[wrong] = np.append(box_rows, -1)[nearest_in_image]
    free = np.append(~boxes.matched, False)[nearest]  # index -1 takes the appended False
    order = np.argsort(-detections.scores, kind="stable")
    order = order[free[order]]
    best = detections.best.copy()
    best[order[np.unique(nearest[order], return_index=True)[1]]] = True
    return replace(detections, kinds=kinds, nearest=nearest, best=best)


def _by_image(first: Ints, second: Ints) -> Iterator[tuple[Ints, Ints]]:
    """For each image id in `first`, its indices in `first` and in `second`."""
    orders = [np.argsort(images, kind="stable") for images in (first, second)]
    names = np.unique(first)
    ends = [
        np.searchsorted(images[order], [names, names + 1])
        for images, order in zip((first, second), orders, strict=True)
    ]
    for (a, b), (c, d) in zip(ends[0].T, ends[1].T, strict=True):
        yield orders[0][a:b], orders[1][c:d]


def _overlap(detected: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(d, 4) and (g, 4) -> IoU (d, g)"""
    from hotcoco.primitives import bbox_iou

    if not len(detected) or not len(boxes):
        return np.zeros((len(detected), len(boxes)))
    overlap: NDArray[np.float64] = bbox_iou(detected, boxes, np.zeros(len(boxes), np.bool_))
    return overlap


def _kinds(overlap: NDArray[np.float64], same: Bools, matched_boxes: Bools) -> tuple[Ints, Ints]:
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


def _fixed(detections: _Detections, boxes: _Boxes, kind: int) -> _Detections:
    """The detections after this kind of error is fixed."""
    wrong = detections.kinds == kind
    fixed = wrong & detections.best
    classes = detections.classes.copy()
    classes[fixed] = boxes.classes[detections.nearest[fixed]]
    kept = ~wrong | fixed
    columns = {
        "classes": classes[kept],
        "kinds": np.where(fixed, RIGHT, detections.kinds)[kept],
        "scores": detections.scores[kept],
    }
    return replace(detections, **columns)


def _mean_ap(detections: _Detections, counts: Ints, chosen: Bools) -> float | None:
    """AP50, the mean over the `chosen` classes (K,); `counts` (K,): boxes of each class."""
    from hotcoco import metrics

    values = []
    for k in np.flatnonzero(chosen):
        of_class = detections.classes == k
        if counts[k] or of_class.any():
            right = detections.kinds[of_class] == RIGHT
            scores = detections.scores[of_class]
            values.append(metrics.average_precision(scores, right, int(counts[k])))
    return float(np.mean(values)) if values else None
