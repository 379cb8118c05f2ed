"""Means over the last half of a training, by hand; and its validations."""

from pathlib import Path

import pytest

from detector.lab.records import confounders, validations


def record(step: int, **figures: float) -> dict[str, float]:
    named = {key.replace("__", "/"): value for key, value in figures.items()}
    return {"step": step, "loss/total": 0.0, **named}


def test_the_last_half_counts_each_step_once() -> None:
    """Of 10 steps: the record at 8 stands for four of them (5 to 8), that at 10 for two."""
    run = [
        record(1, gradient__norm=100),
        record(4, gradient__norm=100),
        record(8, gradient__norm=3),
        {"step": 8, "validation/AP": 0.5},
        record(10, gradient__norm=9),
    ]
    assert confounders([run])["gradient_norm"] == pytest.approx((4 * 3 + 2 * 9) / 6)


def test_runs_count_alike_and_the_ratio_is_of_means() -> None:
    first = [record(2, loss__classification=3, loss__box=1, gradient__clipped_steps=1)]
    second = [record(8, loss__classification=1, loss__box=3, gradient__clipped_steps=0.5)]
    found = confounders([first, second])
    assert found["classification_over_box"] == 1 and found["clipped_share"] == 0.75
    assert found["divisor"] is None and found["gradient_norm"] is None


def test_what_is_absent_is_none() -> None:
    every = ("clipped_share", "divisor", "gradient_norm", "classification_over_box")
    assert confounders([]) == dict.fromkeys(every)
    assert confounders([[record(1, loss__classification=1, loss__box=0)]]) == dict.fromkeys(every)
    older = [record(1, loss__box=2), record(2, loss__box=2, divisor__classification=7)]
    assert confounders([older])["divisor"] == 7


def test_an_undefined_ap_is_no_number_in_the_history(tmp_path: Path) -> None:
    """COCO writes -1 for it; a loss may well be -1."""
    lines = ['{"epoch": 1, "validation/AP": -1, "validation/loss": -1}', '{"epoch": 1.5}',
             '{"epoch": 2, "validation/AP": 0.25, "validation/loss": null}']  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert validations(tmp_path, "AP") == [(1, None), (2, 0.25)]
    assert validations(tmp_path, "loss") == [(1, -1.0), (2, None)]
