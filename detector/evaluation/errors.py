"""Which kinds of error cost AP50, in the manner of TIDE (Bolya et al. 2020).

D detections and G boxes of all images together, d and g of one image, K classes. Boxes are x, y,
width, height in pixels.

Two libraries do the same and agree with this where every class has boxes and detections, no two
scores are equal and no crowd is near. Elsewhere they answer otherwise:

- hotcoco's tide_errors lets the missed boxes of a class without detections cost nothing, takes a
  crowd for a box that a detection may have been meant for, and places a detection that is given
  another class behind equal scores of that class.
- tidecv 1.0.1 counts a class without boxes as AP 0, mends detections that a crowd hides, puts
  mended detections before right ones of equal score, writes a negative gain as 0, and looks at 100
  detections of an image where COCO looks at 100 of each class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.coco_matching import matched

FOREGROUND = 0.5  # IoU that a hit needs
BACKGROUND = 0.1  # IoU up to which a detection is about nothing
RIGHT = -1  # in _Detections.kinds: no error
KINDS = ("classification", "localisation", "both", "duplicate", "background")
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, NOTHING = range(5)  # places in KINDS

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Errors:
    """AP50, and by how much it rises where one kind of error alone is mended."""

    ap50: float | None  # None without boxes
    gains: dict[str, float | None]  # KINDS and `missed`


@dataclass(frozen=True, eq=False)
class _Boxes:
    """Those that count: crowds do not."""

    images: Ints  # (G,)
    classes: Ints  # (G,) 0 .. K-1
    places: NDArray[np.float64]  # (G, 4)
    found: Bools  # (G,)


@dataclass(frozen=True, eq=False)
class _Detections:
    """Those that count, image by image, and in an image in the order of the rows.

    In this order equal scores are counted, as COCO does.
    """

    images: Ints  # (D,)
    classes: Ints  # (D,) 0 .. K-1
    places: NDArray[np.float64]  # (D, 4)
    scores: NDArray[np.float64]  # (D,)
    kinds: Ints  # (D,) a place in KINDS, or RIGHT
    goals: Ints  # (D,) the box that a detection of wrong class or place was meant for, or -1
    best: Bools  # (D,) the likeliest one meant for a box that nothing found


def error_split(
    detections: NDArray[np.float64], ground_truth: dict[str, Any], image_ids: Sequence[int]
) -> Errors:
    """The errors of section 2.2 of the paper and the AP that each costs, section 2.3.

    A wrong detection has the first of these kinds that fits, in the order of the authors' tidecv:
    localisation (IoU 0.1 to 0.5 with a box of its class), classification (from 0.5 with a box of
    another class), duplicate (from 0.5 with a box of its class, which a likelier one found),
    background (up to 0.1 with every box), both (0.1 to 0.5 with a box of another class). To mend
    the first two makes the likeliest of those meant for a box that nothing found right, in the
    class of that box, and takes the others out; to mend the next three takes them out. `missed`
    boxes are those that nothing found and nothing was meant for; to mend them takes them out. A
    class that is left with neither boxes nor detections leaves the mean; a class without boxes from
    the first is not in it, as in COCO. None is a mean of no class.

    Gains do not add up, and a little of one may be negative by the 101 thresholds of recall.

    Args:
        detections, ground_truth, image_ids: as of `evaluation.coco.evaluate`; image_ids not empty.
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
    found = _judged(_detections(entries, detections, categories), boxes)
    counts = np.bincount(boxes.classes, minlength=len(categories))
    missed = ~boxes.found
    missed[found.goals[found.goals >= 0]] = False
    left = counts - np.bincount(boxes.classes[missed], minlength=len(categories))
    base = _mean_ap(found, counts, counts > 0)
    mended = {name: _mean_ap(_mended(found, boxes, k), counts, counts > 0)
              for k, name in enumerate(KINDS)}  # fmt: skip
    mended["missed"] = _mean_ap(found, left, counts > 0)
    return Errors(base, {name: _difference(ap, base) for name, ap in mended.items()})


def _difference(ap: float | None, base: float | None) -> float | None:
    return None if ap is None or base is None else ap - base


def _column(entries: list[dict[str, Any]], key: str) -> Ints:
    """The lists of all entries, one behind the other; of a list by threshold, the only one."""
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
    places = {a["id"]: a["bbox"] for a in ground_truth["annotations"]}
    counts = _column(entries, "gtIgnore") == 0
    images, classes = _owners(entries, "gtIds", categories)
    ids = _column(entries, "gtIds")[counts].tolist()
    return _Boxes(
        images=images[counts],
        classes=classes[counts],
        places=np.array([places[i] for i in ids], np.float64).reshape(-1, 4),
        found=_column(entries, "gtMatched")[counts] > 0,
    )


def _detections(
    entries: list[dict[str, Any]], rows: NDArray[np.float64], categories: list[int]
) -> _Detections:
    """Right or not; the kinds of error are still to come."""
    counts = _column(entries, "dtIgnore") == 0
    images, classes = _owners(entries, "dtIds", categories)
    ids = _column(entries, "dtIds")
    order = np.lexsort((ids, images))
    order = order[counts[order]]
    taken = rows[ids[order] - 1]  # hotcoco numbers the rows from 1 on
    return _Detections(
        images=images[order],
        classes=classes[order],
        places=taken[:, 1:5],
        scores=taken[:, 5],
        kinds=np.where(_column(entries, "dtMatched")[order] > 0, RIGHT, BOTH),
        goals=np.full(len(taken), -1),
        best=np.zeros(len(taken), np.bool_),
    )


def _judged(found: _Detections, boxes: _Boxes) -> _Detections:
    """The same with kinds of error, goals, and the best of each box."""
    kinds, goals = found.kinds.copy(), found.goals.copy()
    for mine, theirs in _by_image(found.images, boxes.images):
        wrong = mine[kinds[mine] != RIGHT]
        same = found.classes[wrong, None] == boxes.classes[theirs]
        overlap = _overlap(found.places[wrong], boxes.places[theirs])
        kinds[wrong], aims = _kinds(overlap, same, boxes.found[theirs])
        goals[wrong] = np.append(theirs, -1)[aims]
    free = np.append(~boxes.found, False)[goals]  # where there is no goal, the last
    order = np.argsort(-found.scores, kind="stable")
    order = order[free[order]]
    best = found.best.copy()
    best[order[np.unique(goals[order], return_index=True)[1]]] = True
    return replace(found, kinds=kinds, goals=goals, best=best)


def _by_image(first: Ints, second: Ints) -> Iterator[tuple[Ints, Ints]]:
    """For each image of `first`, the places of it in the first and in the second."""
    orders = [np.argsort(images, kind="stable") for images in (first, second)]
    names = np.unique(first)
    ends = [
        np.searchsorted(images[order], [names, names + 1])
        for images, order in zip((first, second), orders, strict=True)
    ]
    for (a, b), (c, d) in zip(ends[0].T, ends[1].T, strict=True):
        yield orders[0][a:b], orders[1][c:d]


def _overlap(places: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(d, 4) and (g, 4) -> IoU (d, g)"""
    from hotcoco.primitives import bbox_iou

    if not len(places) or not len(boxes):
        return np.zeros((len(places), len(boxes)))
    overlap: NDArray[np.float64] = bbox_iou(places, boxes, np.zeros(len(boxes), np.bool_))
    return overlap


def _kinds(overlap: NDArray[np.float64], same: Bools, found: Bools) -> tuple[Ints, Ints]:
    """Of wrong detections: IoU (d, g), same class (d, g), boxes found (g,) -> kinds (d,), aims (d,)

    An aim is 0 .. g-1, or -1.
    """
    nothing = ((0, 0), (0, 1))  # a box that nothing overlaps: an image may have no other
    overlap, same = np.pad(overlap, nothing), np.pad(same, nothing)
    own, other = overlap * same, overlap * ~same
    nearest, nearest_other = own.argmax(1), other.argmax(1)
    best, best_other = own.max(1), other.max(1)
    taken = (own * np.append(found, False)).max(1)
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
    aims = np.select([kinds == LOCALISATION, kinds == CLASSIFICATION], [nearest, nearest_other], -1)
    return kinds, aims


def _mended(found: _Detections, boxes: _Boxes, kind: int) -> _Detections:
    """The detections that there would be without this kind of error."""
    wrong = found.kinds == kind
    mended = wrong & found.best
    classes = found.classes.copy()
    classes[mended] = boxes.classes[found.goals[mended]]
    kept = ~wrong | mended
    columns = {
        "classes": classes[kept],
        "kinds": np.where(mended, RIGHT, found.kinds)[kept],
        "scores": found.scores[kept],
    }
    return replace(found, **columns)


def _mean_ap(found: _Detections, counts: Ints, chosen: Bools) -> float | None:
    """AP50 with `counts` (K,) boxes, the mean over the chosen classes (K,)."""
    from hotcoco import metrics

    values = []
    for k in np.flatnonzero(chosen):
        mine = found.classes == k
        if counts[k] or mine.any():
            right = found.kinds[mine] == RIGHT
            values.append(metrics.average_precision(found.scores[mine], right, int(counts[k])))
    return float(np.mean(values)) if values else None
