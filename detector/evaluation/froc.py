"""Recall against false positives an image, as in FROC (Bunch et al. 1978), at IoU 0.5.

All classes are pooled at one common score threshold. AP, with its 100 detections an image, hardly
sees the false positives that a detector has where its recall is high; here they are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.score_curve import ScoreCurve, hits

GRID = tuple((2.0 ** np.arange(-6, 7)).tolist())  # false positives an image: 1/64, 1/32 .. 64
RECALLS = (0.5, 0.8)


@dataclass(frozen=True)
class Froc:
    """The curve, on a grid that all models share, so that curves can be averaged.

    Null where the detections end before: fewer than so many false positives, or so much recall.
    """

    per_image: int  # detections that an image could have; more would have been cut
    false_positives: tuple[float, ...]  # an image: GRID
    recall: tuple[float | None, ...]  # the highest with no more than so many
    at_recall: dict[str, float | None]  # recall, of RECALLS -> false positives an image


def froc(
    entries: list[dict[str, Any]],
    detections: NDArray[np.float64],
    *,
    images: int,
    per_image: int,
) -> Froc | None:
    """The curve of detections that no score threshold has cut; None without boxes.

    Args:
        entries: as of `coco_matching.matched` for `detections` (D, 7), at IoU 0.5 first.
        images: how many were looked at.
        per_image: how many detections of an image were kept. What an image with so many has lost
            is not known, so the curve ends above the lowest score that such an image has.
    """
    scores, right, boxes = hits(entries)
    if not boxes:
        return None
    curve = ScoreCurve.of(scores, right, boxes)
    known = curve.scores > _cut_at(detections, per_image)
    recall, wrong = curve.recall[known], curve.wrong[known] / images
    return Froc(
        per_image=per_image,
        false_positives=GRID,
        recall=tuple(_recall(recall, wrong, limit) for limit in GRID),
        at_recall={f"{level:g}": _false_positives(recall, wrong, level) for level in RECALLS},
    )


def _cut_at(detections: NDArray[np.float64], per_image: int) -> float:
    """The score above which no image can have lost a detection for having too many."""
    scores = detections[:, 5]
    _, image, counts = np.unique(detections[:, 0], return_inverse=True, return_counts=True)
    lowest = np.full(len(counts), np.inf)
    np.minimum.at(lowest, image, scores)
    return float(lowest[counts >= per_image].max(initial=-np.inf))


def _recall(recall: NDArray[np.float64], wrong: NDArray[np.float64], limit: float) -> float | None:
    """The highest recall with at most `limit` false positives an image."""
    count = int(np.searchsorted(wrong, limit, side="right"))
    highest = float(recall[count - 1]) if count else 0.0
    # where the detections have ended, others that were not kept might have found more
    return None if count == len(wrong) and highest < 1 else highest


def _false_positives(
    recall: NDArray[np.float64], wrong: NDArray[np.float64], level: float
) -> float | None:
    """The fewest false positives an image with at least so much recall."""
    first = int(np.searchsorted(recall, level))
    return float(wrong[first]) if first < len(wrong) else None
