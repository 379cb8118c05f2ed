"""Detections of two programs, paired by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from detector.anchors.box_coder import BoxCoder
from detector.anchors.class_code import ClassCode
from detector.export.parity import Pairs, pairs_of
from detector.export.program import OUTPUTS
from detector.postprocess import Postprocess
from detector.structures import Detections

LIMITS = Postprocess(
    ClassCode(num_classes=2), BoxCoder(), score=0.01, per_level=9, nms=0.5, per_image=4
)
BOX = [10.0, 20, 30, 60]


def lot(*rows: tuple[Sequence[float], float, int]) -> Detections:
    """One image of boxes, scores and labels, and one place left empty."""
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(
        torch.tensor([*boxes, [0.0] * 4])[None],
        torch.tensor([*scores, 0.0])[None],
        torch.tensor([*labels, 0])[None],
        torch.tensor([True] * len(rows) + [False])[None],
    )


def counts(ours: Detections, theirs: Detections) -> tuple[int, int, int]:
    """Both ways, which must agree."""
    one, other = pairs_of(ours, theirs, LIMITS), pairs_of(theirs, ours, LIMITS)
    assert one == other
    return one.detections, one.matched, one.undecided


def moved(pixels: float) -> list[float]:
    return [*BOX[:3], BOX[3] + pixels]


def test_pairs_by_hand() -> None:
    ours = lot((BOX, 0.9, 0))
    pairs = pairs_of(ours, lot((moved(0.375), 0.8995, 0)), LIMITS)
    assert pairs == Pairs(2, 2, 0, 0.375, pytest.approx(0.0005, abs=1e-6)) and pairs.agree
    for other in ((moved(0.625), 0.9, 0), (BOX, 0.898, 0), (BOX, 0.9, 1)):
        assert counts(ours, lot(other)) == (2, 0, 0)
        assert not pairs_of(ours, lot(other), LIMITS).agree


def test_a_detection_has_one_partner_and_order_does_not_matter() -> None:
    far = ([100.0, 0, 140, 30], 0.9, 0)
    assert counts(lot((BOX, 0.9, 0), far), lot(far, (BOX, 0.9, 0))) == (4, 4, 0)
    assert counts(lot((BOX, 0.9, 0), (BOX, 0.9, 0)), lot((BOX, 0.9, 0))) == (3, 2, 0)
    # the nearest partner of the first would leave the second without one
    first, second = (moved(0.25), 0.9, 0), (moved(-0.125), 0.9, 0)
    assert counts(lot(first, second), lot((moved(0.125), 0.9, 0), (moved(0.6), 0.9, 0)))[1] == 4


def test_only_detections_above_the_limit_count() -> None:
    assert counts(lot((BOX, 0.04, 0)), lot()) == (0, 0, 0)
    assert counts(lot((BOX, 0.0505, 0)), lot((BOX, 0.0497, 0))) == (1, 1, 0)
    assert counts(lot((BOX, 0.0505, 0)), lot()) == (1, 0, 1)
    assert counts(lot((BOX, 0.06, 0)), lot()) == (1, 0, 0)


def test_what_overlaps_by_just_the_limit_of_nms_is_undecided() -> None:
    """40 rows high, and 20 or 20.1 of them: IoU .5 or .5025; the other class suppresses nothing."""
    kept = (BOX, 0.9, 0)
    half, more = ([10.0, 20, 30, 40], 0.8, 0), ([10.0, 20, 30, 40.1], 0.8, 0)
    assert counts(lot(kept, half), lot(kept)) == (3, 2, 1)
    assert counts(lot(kept, more), lot(kept)) == (3, 2, 0)
    assert counts(lot(kept, (half[0], 0.8, 1)), lot(kept)) == (3, 2, 0)


def test_the_last_of_a_full_image_is_undecided() -> None:
    """per_image cuts where scores are nearly equal: either may be the last."""

    def full(last: float) -> Detections:
        each = lot((BOX, 0.9, 0), ([100, 0, 140, 30 + last], 0.3, 0))
        return Detections(*(getattr(each, n)[:, :2] for n in OUTPUTS))

    assert counts(full(0), full(100)) == (4, 2, 2)


def test_few_may_be_undecided() -> None:
    assert Pairs(200, 198, 2, 0.0, 0.0).agree and not Pairs(200, 197, 3, 0.0, 0.0).agree
    assert not Pairs(200, 199, 0, 0.0, 0.0).agree


def test_under_agnostic_nms_the_other_class_suppresses_too() -> None:
    kept, half = (BOX, 0.9, 0), ([10.0, 20, 30, 40], 0.8, 1)
    pairs = pairs_of(lot(kept, half), lot(kept), replace(LIMITS, agnostic=True))
    assert (pairs.detections, pairs.matched, pairs.undecided) == (3, 2, 1)


def test_pairs_of_several_images_are_one() -> None:
    """Counts are summed, and of differences the largest is told."""
    total = Pairs(4, 3, 1, 0.25, 0.0002) + Pairs(10, 9, 0, 0.125, 0.0005)
    assert total == Pairs(14, 12, 1, 0.25, 0.0005)
