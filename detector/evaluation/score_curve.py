"""What the detections above each score are worth, and above which the best, by F1 at IoU 0.5.

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


@dataclass(frozen=True, eq=False)
class ScoreCurve:
    """What detections at or above each score are worth, S scores in falling order."""

    scores: NDArray[np.float64]  # (S,) each once
    precision: NDArray[np.float64]  # (S,)
    recall: NDArray[np.float64]  # (S,) NaN without boxes
    f1: NDArray[np.float64]  # (S,)
    wrong: NDArray[np.int64]  # (S,) false positives, in all images

    @classmethod
    def of(cls, scores: NDArray[np.float64], right: NDArray[np.bool_], boxes: int) -> ScoreCurve:
        """Of detections (D,) in any order, and the number of boxes to find."""
        falling, (hits, wrong) = sums_above(scores, np.stack([right, ~right]).astype(np.int64))
        count = hits + wrong
        recall = hits / boxes if boxes else np.full(len(falling), np.nan)
        return cls(falling, hits / count, recall, 2 * hits / (count + boxes), wrong)

    @property
    def best(self) -> int | None:
        """Index of the highest F1, the first of equals; None where nothing is right."""
        return int(self.f1.argmax()) if self.f1.any() else None


@dataclass(frozen=True)
class BestF1:
    """What the detections of a class above `score` are worth."""

    score: float
    f1: float  # 2 precision recall / (precision + recall)
    precision: float
    recall: float
    boxes: int


def sums_above(scores: NDArray[np.float64], columns: NDArray[Any]) -> tuple[Any, Any]:
    """The scores (S,) in falling order, each once, and the sums (C, S) at or above each.

    Of scores (D,) and columns (C, D), in any order.
    """
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    # equal scores are above the same thresholds: only behind the last of them is there a point
    last = np.flatnonzero(np.diff(falling, append=-np.inf))
    return falling[last], np.cumsum(columns[:, order], axis=1)[:, last]


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
        scores, right, boxes = hits(own)
        best = _best(ScoreCurve.of(scores, right, boxes), boxes, lowest=lowest)
        if best is not None:
            found[category["id"]] = best
    return found


def hits(entries: list[dict[str, Any]]) -> tuple[NDArray[Any], NDArray[Any], int]:
    """Scores (D,), which of them are right (D,), and how many boxes there are.

    Of `entries` as of `coco_matching.matched`, at their first threshold; crowds count neither way.
    """
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


def _best(curve: ScoreCurve, boxes: int, *, lowest: float) -> BestF1 | None:
    at = curve.best
    if at is None:
        return None
    following = np.append(curve.scores[1:], min(lowest, curve.scores[-1]))
    return BestF1(
        score=float((curve.scores[at] + following[at]) / 2),
        f1=float(curve.f1[at]),
        precision=float(curve.precision[at]),
        recall=float(curve.recall[at]),
        boxes=boxes,
    )
