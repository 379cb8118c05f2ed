"""The threshold of the best F1, on numbers that are redone by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from truth_and_detections import HIT, MISS, Scored, boxes_at, rows_of, truth_of

from detector.evaluation.score_curve import BestF1, best_f1


def best(scored: Scored, boxes: int, *, lowest: float = 0.05) -> BestF1 | None:
    found = best_f1(rows_of(scored), truth_of(boxes_at(boxes)), [1, 2], lowest=lowest)
    return found.get(7)


def test_the_best_of_five() -> None:
    """F1 = 2 hits / (detections + boxes): 2/4, 2/5, 4/6, 6/7, 6/8."""
    scored = [(0.9, HIT), (0.8, MISS), (0.7, HIT), (0.6, HIT), (0.5, MISS)]
    assert best(scored, 3) == BestF1(
        score=pytest.approx(0.55), f1=pytest.approx(6 / 7), precision=0.75, recall=1.0, boxes=3
    )
    assert best(scored[::-1], 3) == best(scored, 3)


@pytest.mark.parametrize("scored", [[(0.5, HIT), (0.5, MISS)], [(0.5, MISS), (0.5, HIT)]])
def test_equal_scores_stay_together(scored: Scored) -> None:
    """With 0.9 alone 2/3, with both of 0.5 4/5, and with the hit alone of these it were 1."""
    found = best([(0.9, HIT), *scored], 2, lowest=0.1)
    assert found is not None
    assert (found.f1, found.score) == (pytest.approx(4 / 5), pytest.approx(0.3))


def test_of_equal_figures_the_highest_threshold() -> None:
    """2/3 with the first detection alone, and 4/6 with all four."""
    found = best([(0.9, HIT), (0.8, MISS), (0.7, MISS), (0.6, HIT)], 2)
    assert found is not None and found.score == pytest.approx(0.85) and found.precision == 1


def test_a_class_without_boxes_or_without_a_hit_has_none() -> None:
    assert best([(0.9, MISS)], 0) is None
    assert best([(0.9, MISS)], 2) is None
    assert best([], 2) is None


def test_classes_and_images_apart() -> None:
    """The boxes of class 3 are in image 2; at the same place in image 1 they are misses."""
    truth = truth_of([*boxes_at(1), *boxes_at(2, category=3, image=2)])
    rows = np.concatenate(
        [
            rows_of([(0.9, HIT)]),
            rows_of([(0.8, HIT), (0.4, HIT)], category=3, image=2),
            rows_of([(0.7, HIT)], category=3, image=1),
        ]
    )
    found = best_f1(rows, truth, [1, 2], lowest=0.2)
    assert {category: one.f1 for category, one in found.items()} == pytest.approx({7: 1, 3: 4 / 5})
    assert found[3].score == pytest.approx(0.3)
    assert best_f1(rows, truth, [2], lowest=0.2)[3].f1 == 1


def test_crowds_do_not_count() -> None:
    """Of a crowd neither the box nor the detections in it, which would be misses of score 0.8."""
    crowd = {"image_id": 1, "category_id": 7, "bbox": [0, 500, 90, 90], "iscrowd": 1}
    truth = truth_of([*boxes_at(2), crowd])
    found = best_f1(
        rows_of([(0.9, HIT), (0.8, MISS), (0.8, MISS), (0.6, HIT)]), truth, [1], lowest=0.0
    )
    assert found[7] == BestF1(score=pytest.approx(0.3), f1=1, precision=1, recall=1, boxes=2)


def test_a_hit_has_half_an_iou() -> None:
    """10 x 5 of 10 x 8 are .625, and 10 x 3 are .375."""
    rows = np.array([[1, 0, 5, 10, 5, 0.9, 7], [1, 100, 5, 10, 3, 0.8, 7]])
    found = best_f1(rows, truth_of(boxes_at(2)), [1], lowest=0.0)
    assert (found[7].f1, found[7].score) == (pytest.approx(2 / 3), pytest.approx(0.85))


def test_no_score_is_above_the_last_detection_that_it_keeps() -> None:
    """Rounding may put it a little below the score that was asked for."""
    found = best([(0.4, HIT)], 1, lowest=0.5)
    assert found is not None and found.score <= 0.4


SCORES = st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


@given(st.lists(st.tuples(SCORES, st.booleans()), max_size=6), st.integers(0, 2))
def test_no_other_threshold_is_better(scored: Scored, missed: int) -> None:
    """Against every threshold; what is above the chosen one gives the figures that it has."""
    boxes = sum(hit for _, hit in scored) + missed

    def f1(threshold: float) -> float:
        kept = [hit for score, hit in scored if score > threshold]
        return 2 * sum(kept) / max(len(kept) + boxes, 1)

    found = best(scored, boxes)
    every = [f1(tenth / 10 - 0.05) for tenth in range(1, 9)]
    assert (0 if found is None else found.f1) == pytest.approx(max(every))
    assert found is None or f1(found.score) == pytest.approx(found.f1)
