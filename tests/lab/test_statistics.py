"""The lab's statistics against scipy, published tables, worked numbers and simulations."""

import dataclasses
import json
import math
import warnings

import numpy as np
import pytest
from scipy import stats

from detector.lab.statistics import Interval, holm, paired, seeds_needed, summarize

ABOVE = [0.36, 0.34, 0.41]  # the differences are 3, 1 and 2 hundredths
BASE = [0.33, 0.33, 0.39]


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def simulated(n: int, *, effect: float, trials: int = 1000) -> list:
    """Paired runs whose seeds move both sides by 0.03 and their difference by 0.005."""
    generator = np.random.default_rng(0)
    base = generator.normal(0.3, 0.03, (trials, n))
    above = base + generator.normal(effect, 0.005, (trials, n))
    return [paired(*sides) for sides in zip(above, base, strict=True)]


def test_summary_by_hand() -> None:
    """1, 2, 3: deviation 1; t(2) = 4.302653 leaves 2.5 % above; 4.302653 / sqrt 3 = 2.484138."""
    summary = summarize([3, 1, 2])
    assert (summary.n, summary.mean, summary.standard_deviation) == (3, 2.0, 1.0)
    assert summary.interval == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)


def test_summary_is_scipys() -> None:
    values = [0.31, 0.335, 0.32, 0.29, 0.33]
    summary = summarize(values)
    expected = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert summary.interval == pytest.approx(expected, rel=1e-12)
    assert summary.standard_deviation == pytest.approx(stats.tstd(values), rel=1e-12)


def test_one_seed_has_a_mean_alone() -> None:
    summary, comparison = summarize([0.25]), paired([0.25], [0.125])
    assert (summary.n, summary.mean) == (1, 0.25)
    assert (comparison.mean, comparison.differences) == (0.125, (0.125,))
    for one in (summary, comparison):
        assert one.standard_deviation is None and one.interval is None
    assert comparison.p is None


def test_equal_values_have_deviation_0() -> None:
    summary = summarize([0.1] * 3)
    assert summary.standard_deviation == 0
    assert summary.interval == Interval(summary.mean, summary.mean)


def test_paired_by_hand() -> None:
    """Mean 2, deviation 1: t = 2 sqrt 3 = 3.4641; two degrees: p = 1 - t / sqrt(t^2 + 2)."""
    comparison = paired(ABOVE, BASE)
    assert comparison.differences == pytest.approx((0.03, 0.01, 0.02))
    assert (comparison.n, comparison.mean) == (3, pytest.approx(0.02))
    assert comparison.standard_deviation == pytest.approx(0.01)
    assert comparison.interval == pytest.approx((0.02 - 0.02484138, 0.02 + 0.02484138), abs=1e-8)
    assert comparison.p == pytest.approx(1 - math.sqrt(12 / 14))  # 0.0742


@pytest.mark.parametrize("n", [2, 3, 10])
def test_paired_is_scipys(n: int) -> None:
    generator = np.random.default_rng(n)
    above, base = generator.normal(0.3, 0.02, (2, n))
    comparison, expected = paired(above, base), stats.ttest_rel(above, base)
    assert comparison.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert comparison.interval == pytest.approx(tuple(expected.confidence_interval()), rel=1e-9)


@pytest.mark.parametrize(
    ("values", "baseline", "mean", "p"),
    [
        ([0.3, 0.2, 0.1], [0.3, 0.2, 0.1], 0.0, 1.0),
        ([0.1 + 0.2, 0.3], [0.3, 0.3], 0.0, 1.0),  # 5.6e-17 apart
        ([0.1 + 0.2] * 2, [0.3] * 2, 0.0, 1.0),
        ([0.75, 0.5], [0.5, 0.25], 0.25, 0.0),
        ([0.3, 0.4], [0.2, 0.3], 0.1, 0.0),  # 0.09999999999999998 and 0.10000000000000003
        ([-0.3, -0.4], [-0.2, -0.3], -0.1, 0.0),
        ([0.0, 0.0], [0.0, 0.0], 0.0, 1.0),
    ],
)
def test_differences_without_spread(
    values: list[float], baseline: list[float], mean: float, p: float
) -> None:
    comparison = paired(values, baseline)
    assert comparison.p == p and comparison.standard_deviation == 0
    assert comparison.mean == pytest.approx(mean, rel=1e-12, abs=0)
    assert comparison.interval == Interval(comparison.mean, comparison.mean)


def test_a_small_spread_is_a_spread() -> None:
    """Differences of 1 and 3 parts in 10^9: t = 2 / 1 = 2; one degree: p = 1 - 2/pi atan 2."""
    comparison = paired([0.5 + 1e-9, 0.5 + 3e-9], [0.5, 0.5])
    assert comparison.p == pytest.approx(1 - 2 / math.pi * math.atan(2), rel=1e-6)


def test_figures_go_to_json() -> None:
    written = json.loads(json.dumps(dataclasses.asdict(paired([0.75, 0.5], [0.5, 0.25]))))
    assert written == {
        "n": 2,
        "mean": 0.25,
        "standard_deviation": 0.0,
        "interval": [0.25, 0.25],
        "differences": [0.25, 0.25],
        "p": 0.0,
    }


@pytest.mark.parametrize("bad", [[], [0.3, math.nan], [math.inf, 0.3], [[0.1, 0.2]]])
def test_what_is_no_value_is_refused(bad: list) -> None:
    for call in (summarize, lambda values: paired(values, values)):
        with pytest.raises(ValueError):
            call(bad)


def test_pairs_need_partners() -> None:
    with pytest.raises(ValueError, match="3 values, 1 of the baseline"):
        paired(ABOVE, [0.3])


@pytest.mark.parametrize("n", [3, 5])
def test_the_interval_covers_the_truth(n: int) -> None:
    trials = simulated(n, effect=0.01)
    covered = sum(trial.interval.low <= 0.01 <= trial.interval.high for trial in trials)
    assert 930 <= covered <= 970


@pytest.mark.parametrize("n", [3, 5])
def test_p_and_interval_agree_and_err_in_5_percent(n: int) -> None:
    trials = simulated(n, effect=0.0)
    found = [trial.p < 0.05 for trial in trials]
    assert found == [not trial.interval.low <= 0 <= trial.interval.high for trial in trials]
    assert 30 <= sum(found) <= 70


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # .005*4 .01*3 .03*2 max(.06, .04*1)
        ([0.01, None, 0.04, 0.03, None, 0.005], [0.03, None, 0.06, 0.06, None, 0.02]),
        ([0.6, 0.5, 0.04], [1.0, 1.0, 0.12]),
        ([0.7, 0.6], [1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([0.0, 1.0], [0.0, 1.0]),
        ([0.2], [0.2]),
        ([None], [None]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values: list, adjusted: list) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


def test_holm_leaves_its_argument() -> None:
    given = [0.03, None, 0.01]
    holm(given)
    assert given == [0.03, None, 0.01]


@pytest.mark.parametrize(
    ("effect", "power", "pairs"),
    [  # of statsmodels' TTestPower.solve_power, rounded up; 0.5 and 0.8 are in Cohen's tables too
        (0.1, 0.1, 45),  # here the wrong tail counts too: 0.0044 of 0.1006
        (0.2, 0.8, 199),
        (0.5, 0.8, 34),
        (0.5, 0.9, 44),
        (0.8, 0.8, 15),
        (1.0, 0.8, 10),
        (2.0, 0.8, 5),
        (3.0, 0.9, 4),
        (5.0, 0.8, 3),
        (10.0, 0.8, 3),
    ],
)
def test_seeds_needed_by_table(effect: float, power: float, pairs: int) -> None:
    assert seeds_needed(1.0, effect=effect, power=power) == pairs
    assert seeds_needed(0.01, effect=0.01 * effect, power=power) == pairs


def test_seeds_needed_by_default_is_for_half_a_point() -> None:
    assert seeds_needed(0.01) == 34  # d = 0.005 / 0.01


@pytest.mark.parametrize("deviation", [0.0, 1e-300, 1e-6, 0.005 / 40, 0.005 / 20])
def test_two_pairs_are_the_fewest(deviation: float) -> None:
    assert seeds_needed(deviation) == 2


def test_a_small_effect_takes_many() -> None:
    """(1.959964 + 0.841621)^2 / 0.01^2 = 78488.8 under the normal, 1.96^2 / 2 = 1.9 for the t."""
    assert seeds_needed(0.5) == 78491


def test_a_stricter_level_takes_more() -> None:
    assert seeds_needed(0.01, level=0.05 / 4) > seeds_needed(0.01, level=0.05)


@pytest.mark.parametrize("size", [1.0, 2.0])
def test_seeds_needed_in_a_simulation(size: float) -> None:
    """With the n of the answer at least 80 % of tests find it, with one pair less they do not."""
    n, generator = seeds_needed(1.0, effect=size), np.random.default_rng(0)
    shares = []
    for pairs in (n - 1, n):
        differences = generator.normal(size, 1, (40000, pairs))
        shares.append(np.mean(stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05))
    assert shares[0] < 0.8 <= shares[1]


@pytest.mark.parametrize(
    "wrong", [{"effect": 0.0}, {"power": 1.0}, {"level": 0.0}, {"standard_deviation": -1.0}]
)
def test_powers_that_do_not_exist_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError):
        seeds_needed(**{"standard_deviation": 0.01, **wrong})
