"""The score above which detections of a class are best, by F1 at IoU 0.5.

D detections of a class in all images; a detection counts as right by COCO's matching.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.coco_matching import matched

IOU = 0.5


@dataclass(frozen=True)
class BestF1:
    """What the detections of a class above `score` are worth."""

    score: float
    f1: float  # 2 precision recall / (precision + recall)
    precision: float
    recall: float
    boxes: int


def best_f1(
    detections: NDArray[np.float64],
    ground_truth: dict[str, Any],
    image_ids: Sequence[int],
    *,
    lowest: float,
) -> dict[int, BestF1]:
    """The best threshold of each category id; those without boxes, or without a hit, have none.

    The score lies midway between the last detection kept and the next one, so that rounding moves
    none of them. Of thresholds that are equally good it is the highest.

    Args:
        detections, ground_truth, image_ids: as for `evaluation.coco.evaluate`; image_ids not empty.
        lowest: the score below which the detections were dropped.

    Boxes of crowds are not counted, nor are detections that match one.
    """
    entries = matched(
        detections,
        ground_truth,
        image_ids=sorted(set(image_ids)),
        category_ids=[category["id"] for category in ground_truth["categories"]],
        thresholds=[IOU],
    )
    found = {}
    for category in ground_truth["categories"]:
        own = [entry for entry in entries if entry["category_id"] == category["id"]]
        best = _best(*_hits(own), lowest=lowest)
        if best is not None:
            found[category["id"]] = best
    return found


def _hits(entries: list[dict[str, Any]]) -> tuple[NDArray[Any], NDArray[Any], int]:
    """Scores (D,), which of them are right (D,), and how many boxes there are, of one class."""
    pairs = [
        (score, is_matched > 0)
        for entry in entries
        for score, ignored, is_matched in zip(
            entry["dtScores"], entry["dtIgnore"][0], entry["dtMatched"][0], strict=True
        )
        if not ignored
    ]
    scores, right = np.array(pairs, np.float64).reshape(-1, 2).T
    boxes = sum(not ignored for entry in entries for ignored in entry["gtIgnore"])
    return scores, right > 0, boxes


def _best(scores: NDArray[Any], right: NDArray[Any], boxes: int, *, lowest: float) -> BestF1 | None:
    if not right.any():
        return None
    order = np.argsort(-scores)
    scores, hits = scores[order], right[order].cumsum()
    following = np.append(scores[1:], min(lowest, scores[-1]))
    f1 = 2 * hits / (np.arange(1, len(scores) + 1) + boxes)
    f1[:-1][scores[:-1] == scores[1:]] = -1  # no threshold parts equal scores
    last = int(f1.argmax())
    return BestF1(
        score=float((scores[last] + following[last]) / 2),
        f1=float(f1[last]),
        precision=float(hits[last] / (last + 1)),
        recall=float(hits[last] / boxes),
        boxes=boxes,
    )
