"""COCO's matching on boxes of which each overlap is seen; ids unsorted and with gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detector.coco_matching import THRESHOLDS, matched

TRUTH: dict[str, Any] = {
    "images": [{"id": 30}, {"id": 10}, {"id": 20}],
    "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 30, "category_id": 9, "bbox": [0, 0, 10, 8], "area": 80,
         "iscrowd": 0},
        {"id": 2, "image_id": 10, "category_id": 4, "bbox": [5, 5, 900, 400], "area": 360000,
         "iscrowd": 0},
    ],
}  # fmt: skip
FOUND = np.array([
    [10, 5, 5, 900, 400, 0.6, 4],  # the cat
    [30, 0, 0, 10, 5, 0.9, 9],  # 5 / 8 of the dog
    [20, 0, 0, 10, 8, 0.7, 9],  # nothing there
])  # fmt: skip
EVERY = {"image_ids": [30, 10, 20], "category_ids": [9, 4]}


def entries(**ids: list[int]) -> dict[tuple[int, int], dict[str, Any]]:
    found = matched(FOUND, TRUTH, thresholds=[0.5, 0.75], **{**EVERY, **ids})
    return {(one["image_id"], one["category_id"]): one for one in found}


def test_entries_have_the_ids_of_the_file() -> None:
    """Of the dog at .5 alone; of the cat at both, though COCO would call it large."""
    found = entries()
    assert set(found) == {(30, 9), (10, 4), (20, 9)}
    hits = {key: (np.array(one["dtMatched"]) > 0).tolist() for key, one in found.items()}
    assert hits == {(30, 9): [[True], [False]], (10, 4): [[True], [True]],
                    (20, 9): [[False], [False]]}  # fmt: skip
    assert not any(np.array(one["dtIgnore"]).any() for one in found.values())
    assert [one["gtIgnore"] for one in found.values()].count([False]) == 2


def test_only_what_is_asked_for() -> None:
    assert set(entries(image_ids=[20, 30])) == {(30, 9), (20, 9)}
    assert set(entries(category_ids=[4])) == {(10, 4)}
    with pytest.raises(ValueError, match="names no image"):
        entries(image_ids=[])


def test_the_detections_stay_as_they_are() -> None:
    """Inside, ids are others."""
    before = FOUND.copy()
    entries()
    assert np.array_equal(FOUND, before)


def test_a_hundred_detections_of_a_class_count() -> None:
    rows = np.repeat(FOUND[2:], 103, axis=0)
    (entry,) = matched(rows, TRUTH, image_ids=[20], category_ids=[9], thresholds=THRESHOLDS)
    assert len(entry["dtScores"]) == 100 and len(entry["dtMatched"]) == 10
