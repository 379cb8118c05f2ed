"""The optimal LRP error, by hand. A box is 10 x 8; shifted by s pixels its IoU is (10-s)/(10+s)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from truth_and_detections import HIT, MISS, boxes_at, entries_of, rows_of, truth_of

from detector.evaluation.lrp import Lrp, mean_lrp, optimal_lrp


def errors(rows: np.ndarray, annotations: list[dict[str, Any]]) -> dict[int, Lrp]:
    truth = truth_of(annotations)
    return optimal_lrp(entries_of(rows, truth), rows, truth)


def test_the_best_threshold_of_four() -> None:
    """Three boxes; hits 2 pixels off have an IoU of 8/12, and cost (1/3)/(1/2) = 2/3.

    From .9: (2/3 + 0 + 2) / 3 = 8/9. From .8: (4/3 + 0 + 1) / 3 = 7/9.
    From .7: (4/3 + 1 + 1) / 4 = 5/6. From .6: (2 + 1 + 0) / 4 = 3/4, the lowest.
    """
    scored = [(0.9, HIT), (0.8, HIT), (0.7, MISS), (0.6, HIT)]
    found = errors(rows_of(scored, shift=2), boxes_at(3))
    assert found == {
        7: Lrp(
            error=pytest.approx(3 / 4),
            localisation=pytest.approx(1 / 3),
            false_positive=pytest.approx(1 / 4),
            false_negative=0.0,
            score=0.6,
        )
    }
    (without_the_last,) = errors(rows_of(scored[:3], shift=2), boxes_at(3)).values()
    assert without_the_last.error == pytest.approx(7 / 9) and without_the_last.score == 0.8
    assert without_the_last.false_negative == pytest.approx(1 / 3)


def test_a_perfect_class_and_one_that_is_never_found() -> None:
    """Class 5 has a false positive and no box, and so no error."""
    rows = np.concatenate(
        [rows_of([(0.9, HIT)]), rows_of([(0.9, MISS)], category=3),
         rows_of([(0.9, MISS)], category=5)]
    )  # fmt: skip
    found = errors(rows, [*boxes_at(1), *boxes_at(1, category=3)])
    assert found == {7: Lrp(0.0, 0.0, 0.0, 0.0, 0.9), 3: Lrp(1.0, None, None, 1.0, None)}
    # a part that a class does not have is not in its mean, as in the authors' code
    assert mean_lrp(found.values()) == Lrp(0.5, 0.0, 0.0, 0.5, None)
    assert mean_lrp([]) is None


def test_a_class_without_detections() -> None:
    assert errors(rows_of([]), boxes_at(2)) == {7: Lrp(1.0, None, None, 1.0, None)}


def test_crowds_count_neither_way() -> None:
    crowd = boxes_at(1, image=2)[0] | {"iscrowd": 1}
    rows = np.concatenate([rows_of([(0.5, HIT)]), rows_of([(0.9, HIT)], image=2)])
    assert errors(rows, [*boxes_at(1), crowd]) == {7: Lrp(0.0, 0.0, 0.0, 0.0, 0.5)}
    assert errors(rows, [crowd]) == {}


@pytest.mark.parametrize("order", [1, -1])
def test_equal_scores_are_taken_together(order: int) -> None:
    """(0 + 1 + 0) / 2, where a threshold between the two would give 0."""
    rows = rows_of([(0.5, HIT), (0.5, MISS)])[::order]
    assert errors(rows, boxes_at(1))[7].error == 0.5


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=12),
       st.integers(0, 3), st.sampled_from([0.0, 1.0, 2.5]))  # fmt: skip
def test_as_by_every_threshold(scored: list[tuple[int, bool]], missed: int, shift: float) -> None:
    boxes = sum(hit for _, hit in scored) + missed
    if not boxes:
        return
    costs = []
    for threshold in range(1, 6):
        hits = sum(hit for score, hit in scored if score >= threshold)
        wrong = sum(not hit for score, hit in scored if score >= threshold)
        place = hits * (1 - (10 - shift) / (10 + shift)) / 0.5
        costs.append((place + wrong + boxes - hits) / (wrong + boxes))
    found = errors(rows_of([(s / 10, hit) for s, hit in scored], shift=shift), boxes_at(boxes))
    assert found[7].error == pytest.approx(min(1.0, *costs))
