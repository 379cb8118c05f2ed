"""Summaries and numbers of replicates against scipy, published tables and worked numbers."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from detector.lab.statistics import (
    Success,
    replicate_correlation,
    replicates_needed,
    seeds_needed,
    success,
    summarize,
    valued,
)


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


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


def test_one_replicate_has_a_mean_alone() -> None:
    summary = summarize([0.25])
    assert (summary.n, summary.mean) == (1, 0.25)
    assert summary.standard_deviation is None and summary.interval is None


def test_equal_values_have_deviation_0() -> None:
    summary = summarize([0.1] * 3)
    assert summary.standard_deviation == 0
    assert summary.interval is None  # which of width 0 would be certain that the next is equal


@pytest.mark.parametrize("bad", [[], [0.3, math.nan], [math.inf, 0.3], [[0.1, 0.2]]])
def test_what_is_no_value_is_refused(bad: list) -> None:
    with pytest.raises(ValueError):
        summarize(bad)


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


@pytest.mark.parametrize("deviation", [0.0, 1e-300, 1e-6, 0.005 / 40, 0.005 / 20])
def test_two_pairs_are_the_fewest(deviation: float) -> None:
    assert seeds_needed(deviation, effect=0.005) == 2


def test_a_small_effect_takes_many() -> None:
    """(1.959964 + 0.841621)^2 / 0.01^2 = 78488.8 under the normal, 1.96^2 / 2 = 1.9 for the t."""
    assert seeds_needed(0.5, effect=0.005) == 78491


def test_a_stricter_level_takes_more() -> None:
    """(2.4977 + 0.8416)^2 / 0.5^2 = 44.6 under the normal, 2.4977^2 / 2 = 3.1 for the t."""
    assert seeds_needed(1.0, effect=0.5, level=0.05 / 4) == 48


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
        seeds_needed(**{"standard_deviation": 0.01, "effect": 0.005, **wrong})


def test_any_spread_has_an_answer() -> None:
    """A loss that explodes has a deviation of 10^20; its number of pairs is no number to count."""
    assert seeds_needed(1e20, effect=0.005) > 10**12


def test_replicates_needed_by_hand() -> None:
    """Deviation 1 from 3 values, 2 degrees: chi2 of 2.5 % above is 7.3778, of 97.5 % 0.050636.

    So it may be sqrt(2 / 7.3778) = 0.52066 to sqrt(2 / 0.050636) = 6.2847.
    """
    needed = replicates_needed(1.0, n=3, effect=0.8, tests=1)
    assert needed.n == 15  # Cohen's table
    assert needed.low == seeds_needed(0.52066, effect=0.8) == 6
    assert needed.high == seeds_needed(6.2847, effect=0.8) == 487


def test_more_contrasts_need_more_replicates() -> None:
    one, seven = (replicates_needed(1.0, n=5, effect=1.0, tests=m) for m in (1, 7))
    assert seven.n == seeds_needed(1.0, effect=1.0, level=0.05 / 7) > one.n == 10


def test_a_diverged_run_has_the_worst_value() -> None:
    assert valued([0.5, None, 0.25], 0.0) == [0.5, 0.0, 0.25]
    assert valued([0.5, None], None) == [0.5, None]


def test_success_stands_beside_the_mean() -> None:
    assert success([0.5, None, 0.25, None]) == Success(4, 2, 0.375)
    assert success([None]) == Success(1, 0, None)


def test_what_replicates_share_by_hand() -> None:
    """Two variants, centred -1, 0, 1 and -1, 1, 0: shared -1, 1/2, 1/2; mean square 2 (3/2) / 2.

    The rest, 0, -1/2, 1/2 and its opposite: 1 / 2. (1.5 - .5) / (1.5 + .5) = .5.
    """
    assert replicate_correlation(np.array([[1.0, 2, 3], [6, 8, 7]])) == pytest.approx(0.5)
    assert replicate_correlation(np.array([[1.0, 2, 3], [7, 8, 9]])) == pytest.approx(1)
    assert replicate_correlation(np.array([[1.0, 2, 3], [9, 8, 7]])) == pytest.approx(-1)
    # shared -1/3, 0, 1/3: 3 (2/9) / 2 = 1/3; the rest 16/3 over 4; (1/3 - 4/3) / (1/3 + 2 4/3)
    third = np.array([[1.0, 2, 3], [1, 2, 3], [3, 2, 1]])
    assert replicate_correlation(third) == pytest.approx(-1 / 3)
    assert replicate_correlation(np.array([[1.0, 1], [2, 2]])) is None
    assert replicate_correlation(np.array([[1.0, 2]])) is None
