"""COCO's matching of detections with boxes, kept so that AP of any images is a matter of sums.

I images and K classes by ascending id, D detections (at most 100 of a class in an image), G boxes
that count, T = 10 overlap thresholds 0.5 .. 0.95; all areas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.coco_matching import THRESHOLDS, matched


@dataclass(frozen=True, eq=False)
class Matches:
    """COCO's matching of one run; image by image, and in an image by falling score."""

    image_ids: NDArray[np.int64]  # (I,) ascending
    category_ids: NDArray[np.int64]  # (K,) ascending
    rows: NDArray[np.int64]  # (D,) of the detections that were matched
    scores: NDArray[np.float64]  # (D,)
    images: NDArray[np.int64]  # (D,) 0 .. I-1
    classes: NDArray[np.int64]  # (D,) 0 .. K-1
    hit: NDArray[np.bool_]  # (T, D) matched a box, which may be a crowd
    ignored: NDArray[np.bool_]  # (T, D) neither true nor false positive, as matched to a crowd
    truth_images: NDArray[np.int64]  # (G,) 0 .. I-1
    truth_classes: NDArray[np.int64]  # (G,) 0 .. K-1


def match(
    detections: NDArray[np.float64], ground_truth: dict[str, Any], image_ids: Sequence[int]
) -> Matches:
    """The matches of detections and boxes of the images `image_ids`, which are hotcoco's.

    `detections` is float64 (D, 7): image id, x, y, width, height, score, category id, all known to
    `ground_truth`, as `load_detections` and `load_ground_truth` give them. Others than those of
    `image_ids` do not count.
    """
    images = np.unique(np.asarray(image_ids, np.int64))
    categories = np.unique([category["id"] for category in ground_truth["categories"]])
    entries = matched(
        detections,
        ground_truth,
        image_ids=images.tolist(),
        category_ids=categories.tolist(),
        thresholds=THRESHOLDS,
    )
    row = np.searchsorted(images, [entry["image_id"] for entry in entries])
    label = np.searchsorted(categories, [entry["category_id"] for entry in entries])
    detected = [len(entry["dtScores"]) for entry in entries]
    counted = [entry["gtIgnore"].count(False) for entry in entries]
    return Matches(
        image_ids=images,
        category_ids=categories,
        # hotcoco numbers the rows from 1 on
        rows=np.array([i for entry in entries for i in entry["dtIds"]], np.int64) - 1,
        scores=np.array([score for entry in entries for score in entry["dtScores"]], np.float64),
        images=np.repeat(row, detected),
        classes=np.repeat(label, detected),
        hit=_joined(entries, "dtMatched"),
        ignored=_joined(entries, "dtIgnore"),
        truth_images=np.repeat(row, counted),
        truth_classes=np.repeat(label, counted),
    )


def _joined(entries: list[dict[str, Any]], key: str) -> NDArray[np.bool_]:
    """(T, D) of all entries, one beside the other."""
    none = np.zeros((len(THRESHOLDS), 0), np.bool_)
    parts = [np.array(entry[key], np.bool_) for entry in entries if entry["dtScores"]]
    return np.concatenate([none, *parts], axis=1)
