"""Declared contrasts against R's published examples, worked numbers, properties and simulations."""

import dataclasses
import json
import math
import re
import warnings

import numpy as np
import pytest
from conftest import HOME
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.lab.contrasts import (
    Comparison,
    Contrast,
    Equivalence,
    Outcomes,
    PairedTest,
    compare_contrasts,
    default_contrasts,
    difference,
    interaction,
)

# Cushny and Peebles 1905, "Student" 1908: `sleep` of R, extra hours under two drugs
SLEEP = {
    "2": [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
    "1": [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
}
# `clinic` of R's package equivalence's tests, as in statsmodels/stats/tests/test_tost.py
CLINIC_1 = {
    "a": [2.84, 2.51, 2.41, 2.95, 3.14, 3.79, 4.14, 3.85, 3.02, 3.45, 5.37, 3.81, 4.19, 3.16, 3.84],
    "b": [2.60, 2.82, 2.18, 3.46, 4.01, 3.04, 3.47, 4.06, 2.91, 3.59, 4.51, 3.16, 3.86, 3.31, 3.02],
}
CLINIC_2 = {
    "a": [4.00, 3.26, 4.14, 3.42, 3.25, 4.34, 4.97, 4.31, 3.11, 3.41, 5.02, 4.21, 4.59, 5.30, 4.32],
    "b": [3.76, 3.66, 3.65, 3.60, 3.48, 2.87, 3.24, 3.92, 3.99, 4.21, 4.21, 3.31, 3.61, 2.97, 2.73],
}
ABOVE, BASE = [0.36, 0.34, 0.41], [0.33, 0.33, 0.39]  # apart by 3, 1 and 2 hundredths


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def table(**columns: list) -> Outcomes:
    return {name: dict(enumerate(values)) for name, values in columns.items()}


def one(outcomes: Outcomes, *, worst: float | None = None, margin: float | None = None):
    first, second = outcomes
    (comparison,) = compare_contrasts(
        outcomes, [difference(first, second)], worst=worst, margin=margin
    )
    return comparison


def the_test(comparison: Comparison) -> PairedTest:
    assert comparison.test is not None and comparison.untested == ""
    return comparison.test


def equivalence(comparison: Comparison) -> Equivalence:
    assert comparison.equivalence is not None
    return comparison.equivalence


def test_students_sleep_as_in_r() -> None:
    """t.test(extra ~ group, paired = TRUE): t = 4.0621, df = 9, p = 0.002833, 0.7001 to 2.4599."""
    comparison = one(table(**SLEEP))
    test = the_test(comparison)
    assert comparison.mean == pytest.approx(1.58) and test.degrees_of_freedom == 9
    assert comparison.mean / test.standard_error == pytest.approx(4.0621, abs=1e-4)
    assert test.p == test.p_alone == pytest.approx(0.002833, abs=5e-7)
    assert test.interval == pytest.approx((0.7001142, 2.4598858), abs=1e-7)


@pytest.mark.parametrize(
    ("data", "p", "interval"),
    [
        (CLINIC_1, 0.003166881489265175, (-0.0744336620516462, 0.4037669953849797)),
        (CLINIC_2, 0.4412034046017588, (0.1261653305099018, 0.999168002823431)),
    ],
)
def test_equivalence_as_in_r(data: dict, p: float, interval: tuple[float, float]) -> None:
    """equivalence::tost(paired, eps = 0.6)"""
    found = equivalence(one(table(**data), margin=0.6))
    assert found.p == pytest.approx(p, rel=1e-9)
    assert found.interval == pytest.approx(interval, rel=1e-9)


def test_two_contrasts_by_hand() -> None:
    """Mean 2, deviation 1: t = 2 sqrt 3 = 3.4641; two degrees: p = 1 - t / sqrt(t^2 + 2), doubled.

    t(2) leaves 0.05 / 4 above at 6.2053 (Bonferroni's table); 6.2053 / sqrt 3 = 3.5827.
    """
    outcomes = table(a=ABOVE, b=BASE, c=[0.3, 0.1, 0.2])
    first, second = compare_contrasts(
        outcomes, [difference("a", "b"), difference("c", "b")], worst=None
    )
    test, alone = the_test(first), 1 - math.sqrt(12 / 14)
    assert [*first.values.values()] == pytest.approx((0.03, 0.01, 0.02))
    assert (test.p_alone, test.p) == pytest.approx((alone, 2 * alone))  # 0.0742
    assert test.interval == pytest.approx((0.02 - 0.035827, 0.02 + 0.035827), abs=1e-6)
    assert second.contrast.name == "c - b" and second.mean == pytest.approx(-0.15)


def test_an_interaction_by_hand() -> None:
    """(a - b) - (c - d): 3 - 1, 1 - 0, 2 - 2 hundredths."""
    contrast = interaction(difference("a", "b"), difference("c", "d"))
    assert contrast.name == "(a - b) - (c - d)"
    outcomes = table(a=ABOVE, b=BASE, c=[0.26, 0.25, 0.24], d=[0.25, 0.25, 0.22])
    (found,) = compare_contrasts(outcomes, [contrast], worst=None)
    assert [*found.values.values()] == pytest.approx((0.02, 0.01, 0.0))
    assert found.mean == pytest.approx(0.01)


def test_a_variant_in_both_differences_counts_twice_or_not_at_all() -> None:
    twice = interaction(difference("a", "b"), difference("b", "c"))
    assert twice.coefficients == {"a": 1, "b": -2, "c": 1}
    assert interaction(difference("a", "b"), difference("c", "b")).coefficients == {"a": 1, "c": -1}


@pytest.mark.parametrize("weights", [{"a": 1.0}, {"a": 1.0, "b": -0.5}, {"a": math.nan}])
def test_what_is_no_contrast_is_refused(weights: dict) -> None:
    with pytest.raises(ValueError, match="sum to 0"):
        Contrast("x", weights)


def test_a_variant_less_itself_is_nothing() -> None:
    assert difference("a", "a").coefficients == {}
    assert difference("a_tuned", "a").renamed({"a_tuned": "a"}).coefficients == {}


def test_a_difference_at_the_margin_is_never_called_equal() -> None:
    """Half of the nearer test is below its null's median: p = 0.5."""
    found = one(table(a=[0.3, 0.1, 0.2], b=[0.0, 0.1, 0.0]), margin=0.5 / 3)
    assert equivalence(found).p == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("outcomes", "reason", "mean"),
    [
        (table(a=[0.0, 0.0, 0.0], b=BASE), "3 values of a are all 0", -0.35),
        (table(a=BASE, b=[0.25, 0.25, 0.25]), "3 values of b are all 0.25", 0.1),
        (table(a=[0.5, 0.5], b=[0.25, 0.25]), "all 0.5", 0.25),
        (table(a=[0.1 + 0.2, 0.3], b=[0.31, 0.4]), "2 values of a are all 0.3", -0.055),
        (table(a=[0.3, 0.4], b=[0.2, 0.3]), "it is 0.1 in each of 2", 0.1),  # but for rounding
        (table(a=[0.3], b=[0.2]), "one replicate", 0.1),
        (table(a=[], b=[0.2]), "no replicate", None),
        ({"a": {0: 0.3, 1: 0.5}, "b": {2: 0.2}}, "no replicate", None),
        (table(a=[0.3, None, 0.4], b=BASE), "a run of a has no value", None),
    ],
)
def test_what_cannot_be_tested_has_a_sentence(
    outcomes: Outcomes, reason: str, mean: float | None
) -> None:
    found = one(outcomes, margin=0.01)
    assert reason in found.untested
    assert found.test is found.equivalence is found.needed is None
    assert found.mean == (mean if mean is None else pytest.approx(mean))


def test_a_small_spread_is_a_spread() -> None:
    """Differences of 1 and 3 parts in 10^9: t = 2 / 1 = 2; one degree: p = 1 - 2/pi atan 2."""
    found = one(table(a=[0.5 + 1e-9, 0.6 + 3e-9], b=[0.5, 0.6]))
    assert the_test(found).p == pytest.approx(1 - 2 / math.pi * math.atan(2), rel=1e-5)


def test_a_diverged_run_counts_as_the_worst() -> None:
    """Differences 0.1, 0 - 0.2 and 0.1, of mean 0, where those of what succeeded have 0.1."""
    found = one(table(a=[0.3, None, 0.4], b=[0.2, 0.2, 0.3]), worst=0.0)
    assert [*found.values.values()] == pytest.approx((0.1, -0.2, 0.1))
    assert found.mean == pytest.approx(0.0) and the_test(found).p == pytest.approx(1.0)


def test_replicates_go_by_their_names() -> None:
    """Those that both have, whatever their order: 0.36 - 0.33 and 0.41 - 0.39."""
    outcomes = {"a": {(0, 7): 0.36, (1, 7): 0.41}, "b": {(1, 7): 0.39, (2, 7): 0.1, (0, 7): 0.33}}
    assert [*one(outcomes).values.values()] == pytest.approx((0.03, 0.02))


def test_a_contrast_without_a_test_still_counts() -> None:
    """It was declared: leaving it out would let what happened choose the correction."""
    outcomes = table(a=ABOVE, b=BASE, c=[0.0, 0.0, 0.0])
    first, _ = compare_contrasts(outcomes, [difference("a", "b"), difference("c", "b")], worst=None)
    assert the_test(first).p == pytest.approx(2 * the_test(first).p_alone)


def test_what_was_not_planned_is_an_estimate_and_no_test_more() -> None:
    outcomes = table(a=ABOVE, b=BASE, c=[0.3, 0.1, 0.2])
    added = dataclasses.replace(difference("a", "c"), planned=False)
    first, second = compare_contrasts(
        outcomes, [difference("a", "b"), added], worst=None, margin=0.01
    )
    assert the_test(first).p == the_test(first).p_alone
    assert second.mean == pytest.approx(0.17) and len(second.values) == 3
    assert second.test is second.equivalence is second.needed is None
    assert second.verdict == "not planned" and "before the first result" in second.untested


def test_verdicts() -> None:
    """Means of 2 and of 0, deviation 1 hundredth: p = .074 and 1; TOST's as in R, of the data."""
    above, same = table(a=ABOVE, b=BASE), table(a=[0.26, 0.25, 0.24], b=[0.25, 0.25, 0.25 - 1e-6])
    assert one(above).verdict == "not told apart"
    assert one(table(a=[0.5] * 3, b=BASE)).verdict == "not tested"
    assert one(same, margin=0.1).verdict == "equal within ±0.1"
    clear = table(a=[0.31, 0.32, 0.33], b=[0.21, 0.22, 0.23 - 1e-4])
    assert one(clear).verdict == one(clear, margin=0.05).verdict == "different"
    assert one(clear, margin=0.5).verdict == "different, by less than 0.5"


def test_a_verdict_is_of_the_corrected_p() -> None:
    """2, 1, 3, 2 hundredths: t = 4.899, three degrees: p = .0163, of four contrasts .0651."""
    outcomes = table(a=[0.22, 0.31, 0.43, 0.52], b=[0.2, 0.3, 0.4, 0.5])
    assert one(outcomes).verdict == "different"
    four = compare_contrasts(outcomes, [difference("a", "b")] * 4, worst=None)
    assert the_test(four[0]).p == pytest.approx(0.0651, abs=1e-4)
    assert four[0].verdict == "not told apart"


def test_default_contrasts_compare_like_with_like() -> None:
    """b's own values were its best, so that it stands against the tuned a, too; c tunes nothing."""
    found = default_contrasts(["a", "b", "c"], "a", {"a": "a_tuned", "b": "b"})
    assert found == ((("b", "a"),), (("c", "a"),), (("b", "a_tuned"),))
    assert default_contrasts(["a", "b"], "a", {"b": "b_tuned"}) == ((("b", "a"),),)


def test_needed_is_for_the_margin_after_the_correction() -> None:
    """Deviation 0.01, margin 0.01: d = 1. Alone 10 pairs (Cohen's table).

    Of two contrasts (2.2414 + 0.8416)^2 = 9.50 under the normal, 2.2414^2 / 2 = 2.51 for the t.
    """
    outcomes = table(a=ABOVE, b=BASE, c=[0.3, 0.1, 0.2])
    alone = one(table(a=ABOVE, b=BASE), margin=0.01).needed
    declared = [difference("a", "b"), difference("c", "b")]
    first, _ = compare_contrasts(outcomes, declared, worst=None, margin=0.01)
    assert alone is not None and alone.n == 10 and alone.low < 10 < alone.high
    assert first.needed is not None and first.needed.n == 13


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"margin": 0.0}, "margin 0.0"),
        ({"margin": math.inf}, "margin inf"),
        ({"worst": math.nan}, "finite"),
    ],
)
def test_bad_settings_are_refused(settings: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        one(table(a=[0.1, None], b=[0.2, 0.3]), **settings)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        one(table(a=[0.1, bad], b=[0.2, 0.3]))


def test_an_unknown_variant_is_named() -> None:
    with pytest.raises(ValueError, match="'c'"):
        compare_contrasts(table(a=ABOVE, b=BASE), [difference("a", "c")], worst=None)


def test_figures_go_to_json() -> None:
    written = dataclasses.asdict(one(table(a=ABOVE, b=BASE), margin=0.01))
    assert json.loads(json.dumps(written))["contrast"]["coefficients"] == {"a": 1, "b": -1}


def test_the_example_of_the_page(capsys: pytest.CaptureFixture) -> None:
    """docs/statistics.md: softmax diverged once, and is too unsteady to be told apart."""
    text = (HOME / "docs" / "statistics.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    exec(code, {})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("softmax - focal 0.0692") and "p=1.0" in first
    assert second.startswith("no_prior - focal -0.1288") and "p=0.00" in second


FEW = settings(max_examples=15, deadline=None)
VALUES = st.lists(st.integers(0, 1000).map(lambda i: i / 1000), min_size=4, max_size=4, unique=True)
VARIANTS = st.fixed_dictionaries({"a": VALUES, "b": VALUES, "c": VALUES})
DECLARED = [difference("a", "b"), difference("c", "b")]


def figures(columns: dict, contrasts: list[Contrast], margin: float = 0.05) -> list[tuple]:
    """Numbers of each contrast, those of the unit of the metric last; empty without a test."""
    found = compare_contrasts(table(**columns), contrasts, worst=None, margin=margin)
    return [
        (c.test.p, c.equivalence.p, c.mean, *c.test.interval, *c.equivalence.interval)
        if c.test and c.equivalence
        else ()
        for c in found
    ]


def same(first: list[tuple], second: list[tuple]) -> bool:
    return all(
        a == pytest.approx(b, rel=1e-6, abs=1e-9) for a, b in zip(first, second, strict=True)
    )


@FEW
@given(VARIANTS, st.lists(st.integers(-9, 9), min_size=4, max_size=4))
def test_what_a_replicate_does_to_all_variants_changes_nothing(
    columns: dict, shifts: list[int]
) -> None:
    """Whole numbers: a test of unpaired values would see a spread of several units."""
    moved = {name: np.add(values, shifts).tolist() for name, values in columns.items()}
    assert same(figures(columns, DECLARED), figures(moved, DECLARED))


@FEW
@given(VARIANTS)
def test_names_and_their_order_are_nothing_but_names(columns: dict) -> None:
    renamed = {{"a": "z", "b": "y", "c": "x"}[name]: column for name, column in columns.items()}
    renamed = dict(reversed(renamed.items()))
    swapped = figures(renamed, [difference("x", "y"), difference("z", "y")])
    assert same(figures(columns, DECLARED), swapped[::-1])


@FEW
@given(VARIANTS, st.sampled_from([0.01, 3.0, 100.0]))
def test_another_unit_scales_intervals_and_leaves_p(columns: dict, unit: float) -> None:
    scaled = {name: [unit * value for value in values] for name, values in columns.items()}
    before, after = figures(columns, DECLARED), figures(scaled, DECLARED, margin=0.05 * unit)
    assert same([(*f[:2], *(unit * x for x in f[2:])) for f in before], after)


@FEW
@given(VARIANTS)
def test_intervals_and_p_say_the_same(columns: dict) -> None:
    for p, p_equal, _, low, high, lowest, highest in filter(None, figures(columns, DECLARED)):
        assert (p < 0.05) == (low > 0 or high < 0)
        assert (p_equal < 0.05) == (-0.05 < lowest and highest < 0.05)
