"""Boxes in a row, and detections that hit or miss them, for figures that are redone by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from detector.coco_matching import matched

HIT, MISS = True, False
Scored = Sequence[tuple[float, bool]]
CATEGORIES = (7, 3, 5)
IMAGES = (1, 2)


def boxes_at(count: int, *, category: int = 7, image: int = 1) -> list[dict[str, Any]]:
    """Boxes of 10 x 8 in a row, 100 pixels apart."""
    return [
        {"image_id": image, "category_id": category, "bbox": [100 * k, 5, 10, 8], "iscrowd": 0}
        for k in range(count)
    ]


def truth_of(annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """Two images and three classes, as of `load_ground_truth`."""
    return {
        "images": [{"id": image} for image in IMAGES],
        "categories": [{"id": category, "name": str(category)} for category in CATEGORIES],
        "annotations": [
            {"id": number, "area": 80, **annotation}
            for number, annotation in enumerate(annotations, start=1)
        ],
    }


def rows_of(scored: Scored, *, category: int = 7, image: int = 1, shift: float = 0) -> np.ndarray:
    """Hits are on the boxes of the row one after the other, `shift` pixels to the right of them,
    misses below them."""
    hits = iter(range(len(scored)))
    rows = [
        (image, 100 * next(hits) + shift if hit else 0, 5 if hit else 500, 10, 8, score, category)
        for score, hit in scored
    ]
    return np.array(rows, np.float64).reshape(-1, 7)


def entries_of(
    rows: np.ndarray, truth: dict[str, Any], *, per_image: int = 100
) -> list[dict[str, Any]]:
    """COCO's matching at IoU 0.5."""
    return matched(rows, truth, image_ids=list(IMAGES), category_ids=sorted(CATEGORIES),
                   thresholds=[0.5], per_image=per_image)  # fmt: skip
