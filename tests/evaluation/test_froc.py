"""Recall against false positives an image, on two images whose counts are redone by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from truth_and_detections import HIT, MISS, boxes_at, entries_of, rows_of, truth_of

from detector.evaluation.froc import GRID, Froc, froc


def curve(
    rows: np.ndarray, annotations: list[dict[str, Any]], *, per_image: int = 100
) -> Froc | None:
    return froc(entries_of(rows, truth_of(annotations)), rows, images=2, per_image=per_image)


def at(found: Froc | None, false_positives: float) -> float | None:
    assert found is not None
    return dict(zip(found.false_positives, found.recall, strict=True))[false_positives]


def of(*scored: tuple[float, bool], **where: int) -> np.ndarray:
    return rows_of(scored, **where)


def test_two_images_share_their_false_positives() -> None:
    """Four boxes in two images. Falling scores: hit, miss, hit, hit, miss, miss, hit, miss.

    Recall .25, .25, .5, .75, .75, .75, 1 with 0, .5, .5, .5, 1, 1.5, 1.5 false positives an image.
    """
    rows = np.concatenate(
        [
            of((0.9, HIT), (0.8, MISS), (0.4, MISS)),
            of((0.7, HIT), (0.6, HIT), (0.5, MISS), (0.3, HIT), (0.2, MISS), image=2),
        ]
    )
    found = curve(rows, [*boxes_at(1), *boxes_at(3, image=2)])
    assert found is not None and found.at_recall == {"0.5": 0.5, "0.8": 1.5}
    assert found.false_positives == GRID and GRID[0] == 1 / 64 and GRID[-1] == 64
    assert [at(found, limit) for limit in (0.25, 0.5, 1, 2)] == [0.25, 0.75, 0.75, 1]


def test_all_classes_have_one_threshold() -> None:
    """By class each is perfect at its own threshold; pooled, the misses of 3 outrank hits of 7."""
    rows = np.concatenate([of((0.3, HIT)), of((0.9, HIT), (0.8, MISS), (0.7, MISS), category=3)])
    found = curve(rows, [*boxes_at(1), *boxes_at(1, category=3)])
    assert found is not None and found.at_recall == {"0.5": 0.0, "0.8": 1.0}


@pytest.mark.parametrize("order", [1, -1])
def test_equal_scores_are_taken_together(order: int) -> None:
    """No threshold lies between a hit and a miss of 0.5."""
    rows = of((0.5, HIT), (0.5, MISS))[::order]
    found = curve(rows, boxes_at(1))
    assert found is not None and found.at_recall == {"0.5": 0.5, "0.8": 0.5}
    assert at(found, 0.25) == 0 and at(found, 0.5) == 1


def test_where_the_detections_end_nothing_is_known() -> None:
    """Two of five boxes, one false positive in two images: .4 is all, unless more were kept."""
    found = curve(of((0.9, HIT), (0.8, MISS), (0.7, HIT)), boxes_at(5))
    assert found is not None and found.at_recall == {"0.5": None, "0.8": None}
    assert at(found, 0.25) == 0.2 and at(found, 0.5) is None and at(found, 64) is None


def test_no_more_is_to_be_found_than_all() -> None:
    assert at(curve(of((0.9, HIT)), boxes_at(1)), 64) == 1


def test_an_image_that_was_cut_ends_the_curve() -> None:
    """Image 1 has three detections, as many as were kept, the last of .6: lower ones of it are
    not there, so that what comes after .6 in image 2 would have too few false positives."""
    rows = np.concatenate(
        [of((0.9, HIT), (0.8, MISS), (0.6, MISS)), of((0.7, HIT), (0.5, HIT), image=2)]
    )
    annotations = [*boxes_at(1), *boxes_at(2, image=2)]
    whole, cut = (curve(rows, annotations, per_image=count) for count in (4, 3))
    assert whole is not None and whole.at_recall == {"0.5": 0.5, "0.8": 1.0}
    assert cut is not None and cut.at_recall == {"0.5": 0.5, "0.8": None}
    assert at(cut, 0.25) == pytest.approx(1 / 3) and at(cut, 1) is None


def test_more_than_a_hundred_of_a_class_in_an_image() -> None:
    """COCO's own limit would end the curve before the hit: 150 false positives, in two images."""
    rows = of(*[(0.9 - k / 1000, MISS) for k in range(150)], (0.1, HIT))
    truth = truth_of(boxes_at(1))
    found = froc(entries_of(rows, truth, per_image=1000), rows, images=2, per_image=1000)
    assert found is not None and found.at_recall == {"0.5": 75.0, "0.8": 75.0}


def test_crowds_count_neither_way() -> None:
    crowd = boxes_at(1)[0] | {"iscrowd": 1}
    assert curve(of((0.9, HIT)), [crowd]) is None
    found = curve(of((0.9, HIT), (0.8, HIT)), [*boxes_at(1), crowd | {"bbox": [100, 5, 10, 8]}])
    assert found is not None and found.at_recall == {"0.5": 0.0, "0.8": 0.0}


def test_no_detections() -> None:
    found = curve(of(), boxes_at(1))
    assert found is not None and set(found.recall) == {None} == set(found.at_recall.values())


@given(
    st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=30),
    st.lists(st.integers(0, 29), max_size=5),
)
def test_as_by_every_threshold(scored: list[tuple[int, bool]], extra: list[int]) -> None:
    """The recall at a limit is the best of all thresholds that keep within it."""
    pairs = [(score / 10, hit) for score, hit in scored]
    boxes = max(1, sum(hit for _, hit in pairs)) + len(extra)
    rows = rows_of(pairs)
    found = curve(rows, boxes_at(boxes))
    assert found is not None
    points = [
        (
            sum(hit for score, hit in pairs if score >= threshold) / boxes,
            sum(not hit for score, hit in pairs if score >= threshold) / 2,
        )
        for threshold in {score for score, _ in pairs}
    ]
    for limit, recall in zip(found.false_positives, found.recall, strict=True):
        if recall is not None:
            assert recall == max([r for r, wrong in points if wrong <= limit], default=0)
        else:
            assert max(wrong for _, wrong in points) <= limit
    for level, wrong in found.at_recall.items():
        assert wrong == min([w for r, w in points if r >= float(level)], default=None)
