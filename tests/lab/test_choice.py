"""The choice among trials, by hand."""

import pytest

from detector.config import Config
from detector.lab.records import choose
from detector.lab.variants import Trial, Variant

RATES = (0.1, 0.2, 0.4)


def with_rate(rate: float) -> Config:
    base = Config()
    return base.model_copy(update={"optimizer": base.optimizer.model_copy(update={"lr": rate})})


def variant(own: float = 0.2, rates: tuple[float, ...] = RATES) -> Variant:
    trials = tuple(
        Trial(f"lr={rate}", {"optimizer.lr": rate}, (), with_rate(rate)) for rate in rates
    )
    return Variant("a", "", (), None, with_rate(own), trials)


def values(*found: float | None) -> dict[str, float | None]:
    return dict(zip((f"lr={rate}" for rate in RATES), found, strict=True))


def test_the_highest_is_chosen_but_of_losses_the_lowest() -> None:
    assert choose(variant(), values(0.1, 0.5, 0.3), "AP").trial.name == "lr=0.2"
    assert choose(variant(), values(0.1, 0.5, 0.3), "loss").trial.name == "lr=0.1"
    assert choose(variant(), values(0.1, 0.5, 0.3), "loss/box").trial.name == "lr=0.1"
    assert choose(variant(), values(0.1, 0.5, 0.9), "AP/loss").trial.name == "lr=0.4"


def test_the_lead_by_hand() -> None:
    for of, metric, lead in (
        ((0.1, 0.5, 0.4), "AP", 0.1),
        ((0.1, 0.5, 0.4), "loss", 0.3),
        ((0.5, 0.5, 0.1), "AP", 0),
        ((0.1, None, 0.4), "AP", 0.3),
    ):
        assert choose(variant(), values(*of), metric).lead == pytest.approx(lead)
    assert choose(variant(), values(None, None, 0.4), "AP").lead is None


def test_equal_values_leave_the_variant_as_it_is() -> None:
    assert choose(variant(own=0.4), values(0.5, 0.2, 0.5), "AP").trial.name == "lr=0.4"
    assert choose(variant(own=9), values(0.5, 0.2, 0.5), "AP").trial.name == "lr=0.1"


def test_what_diverged_is_not_chosen() -> None:
    assert choose(variant(), values(None, -1, None), "AP").trial.name == "lr=0.2"
    found = choose(variant(), values(None, None, None), "AP")
    assert found.trial is None and found.at_edge == ()
    assert found.values == values(None, None, None)


def test_the_edges_of_three_numbers_are_told() -> None:
    assert choose(variant(), values(0.5, 0.1, 0.1), "AP").at_edge == ("optimizer.lr",)
    assert choose(variant(), values(0.1, 0.1, 0.5), "AP").at_edge == ("optimizer.lr",)
    assert choose(variant(), values(0.1, 0.5, 0.1), "AP").at_edge == ()
    two = variant(rates=(0.1, 0.2))
    assert choose(two, {"lr=0.1": 1.0, "lr=0.2": 0.0}, "AP").at_edge == ()
