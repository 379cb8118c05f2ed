"""Optimal LRP error: misses, false positives and place in one figure, at the best threshold.

Localisation Recall Precision (Oksuz et al. 2018; and 2022, "One Metric to Measure them All") of a
class at a score threshold, from its hits, false positives FP and missed boxes FN at IoU 0.5:

    LRP = (sum over hits of (1 - IoU) / (1 - 0.5)  +  FP  +  FN) / (hits + FP + FN)

From 0, all found in place and nothing else, to 1. Optimal: at the threshold where it is lowest,
which each class has for itself. D detections of a class.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detector import boxes
from detector.evaluation.score_curve import sums_above

IOU = 0.5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Lrp:
    """The error and its three parts, which do not add up to it: each has a divisor of its own."""

    error: float  # 0 .. 1
    localisation: float | None  # mean of 1 - IoU of the hits, 0 .. 0.5; null without a hit
    false_positive: float | None  # share of the detections that are wrong; null without a hit
    false_negative: float  # share of the boxes that are missed
    score: float | None  # from which a detection counts; null without a hit, and of a mean


def optimal_lrp(
    entries: list[dict[str, Any]], detections: Floats, ground_truth: dict[str, Any]
) -> dict[int, Lrp]:
    """By category id, of those that have boxes; 1 where none of them is found.

    Args:
        entries: as of `coco_matching.matched` for `detections` (D, 7) and `ground_truth`, at IoU
            0.5 first. Crowds count neither way.
    """
    of_class = defaultdict(list)
    for entry in entries:
        of_class[entry["category_id"]].append(entry)
    truth = {annotation["id"]: annotation["bbox"] for annotation in ground_truth["annotations"]}
    found = {}
    for category, own in sorted(of_class.items()):
        count = sum(not ignored for entry in own for ignored in entry["gtIgnore"])
        if count:
            found[category] = _optimum(*_scored(own, detections, truth), count)
    return found


def mean_lrp(classes: Iterable[Lrp]) -> Lrp | None:
    """Error and parts, each averaged over the classes that have it; None without classes."""
    each = list(classes)
    if not each:
        return None

    def mean(part: str) -> Any:
        values = [value for one in each if (value := getattr(one, part)) is not None]
        return float(np.mean(values)) if values else None

    parts = ("error", "localisation", "false_positive", "false_negative")
    return Lrp(**{part: mean(part) for part in parts}, score=None)


def _scored(
    entries: list[dict[str, Any]], detections: Floats, truth: dict[int, list[float]]
) -> tuple[Floats, Floats]:
    """Scores (D,) and IoU (D,) with the box that each matches, 0 where it matches none."""
    pairs = [
        (row, box)
        for entry in entries
        for row, box, ignored in zip(
            entry["dtIds"], entry["dtMatches"][0], entry["dtIgnore"][0], strict=True
        )
        if not ignored
    ]
    rows, matches = np.array(pairs, np.int64).reshape(-1, 2).T
    taken = detections[rows - 1]  # hotcoco numbers the rows from 1 on
    hit = matches > 0
    overlap = np.zeros(len(rows))
    matched = np.array([truth[box] for box in matches[hit]], np.float64).reshape(-1, 4)
    overlap[hit] = boxes.iou(_corners(taken[hit, 1:5]), _corners(matched)).numpy()
    return taken[:, 5], overlap


def _corners(xywh: Floats) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1))


def _optimum(scores: Floats, overlap: Floats, count: int) -> Lrp:
    """The lowest error over all thresholds; count: of the boxes."""
    hit = overlap > 0  # a hit has an IoU of at least 0.5
    columns = np.stack([hit, ~hit, np.where(hit, 1 - overlap, 0.0)])
    falling, (hits, wrong, misplaced) = sums_above(scores, columns)
    if not hits.any():
        return Lrp(1.0, None, None, 1.0, None)
    missed = count - hits
    errors = (misplaced / (1 - IOU) + wrong + missed) / (hits + wrong + missed)
    at = int(errors.argmin())
    return Lrp(
        error=float(errors[at]),
        localisation=float(misplaced[at] / hits[at]) if hits[at] else None,
        false_positive=float(wrong[at] / (hits[at] + wrong[at])) if hits[at] else None,
        false_negative=float(missed[at] / count),
        score=float(falling[at]),
    )
