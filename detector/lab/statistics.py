"""Statistics over seeds: means, paired differences, Holm's correction, and power.

Everything here takes the seeds as independent and their values (or differences) as normal.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05  # of intervals, which hold 95 %, and of tests
ROUNDING = 1e-12  # of the largest value: a spread below it is that of the arithmetic, not of seeds
LARGEST_EFFECT = 1e4  # in deviations: 2 pairs find it; far beyond, scipy's noncentral t is NaN
Values = Sequence[float] | NDArray[np.float64]  # one a seed


class Interval(NamedTuple):
    """Both ends belong to it."""

    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """Values of n seeds; one seed has neither deviation nor interval."""

    n: int
    mean: float
    standard_deviation: float | None  # of one seed, not of the mean; divided by n - 1
    interval: Interval | None  # 95 % t-interval of the mean


@dataclass(frozen=True)
class Paired(Summary):
    """The summary of the differences by seed, and p of the two-sided paired t-test."""

    differences: tuple[float, ...]
    p: float | None


def summarize(values: Values) -> Summary:
    """Mean, deviation and interval of one value a seed; at least one, all finite."""
    array = _array(values)
    mean, n = float(array.mean()), len(array)
    if n < 2:
        return Summary(n, mean, None, None)
    # std of equal values is not always 0, for their mean is rounded
    deviation = float(array.std(ddof=1)) if np.ptp(array) > 0 else 0.0
    half = float(stats.t.isf(LEVEL / 2, n - 1)) * deviation / math.sqrt(n)
    return Summary(n, mean, deviation, Interval(mean - half, mean + half))


def paired(values: Values, baseline: Values) -> Paired:
    """The differences values - baseline; both hold one value a seed, in one order of seeds.

    Differences that are equal to within rounding leave the t-test 0/0 or d/0. It then says what
    its interval, a point, says: p is 1 if all are 0 (nothing differs) and otherwise 0, the limit
    as the spread shrinks. Such a 0 is only as good as its assumption, that seeds spread at all.
    """
    first, second = _array(values), _array(baseline)
    if len(first) != len(second):
        raise ValueError(f"there are {len(first)} values, {len(second)} of the baseline")
    # paired (Student 1908), since runs of one seed share weights and order of images: what a seed
    # moves in both cancels in their difference
    differences = first - second
    tolerance = ROUNDING * np.abs([first, second]).max()
    if np.ptp(differences) <= tolerance:
        differences[:] = differences[0] if abs(differences[0]) > tolerance else 0.0
    summary = summarize(differences)
    if summary.n < 2:
        p = None
    elif summary.standard_deviation == 0:
        p = 1.0 if summary.mean == 0 else 0.0
    else:
        p = float(stats.ttest_1samp(differences, 0.0).pvalue)
    return Paired(**vars(summary), differences=tuple(differences.tolist()), p=p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p adjusted for their number (Holm 1979), in the given order; each is at most 1.

    The k-th smallest of m, from k = 0, is multiplied by m - k and is at least its predecessor.
    None stays None and does not count in m.
    """
    adjusted = list(p_values)
    # Holm rather than Bonferroni: as safe under any dependence of the tests, and never weaker
    tests = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    highest = 0.0
    for rank, (p, index) in enumerate(tests):
        highest = max(highest, min(1.0, (len(tests) - rank) * p))
        adjusted[index] = highest
    return adjusted


def seeds_needed(
    standard_deviation: float, *, effect: float = 0.005, power: float = 0.8, level: float = LEVEL
) -> int:
    """The fewest pairs, at least 2, whose two-sided paired t-test finds `effect` with `power`.

    The deviation is that of the differences by seed, in the unit of the effect (0.005: half a
    point of AP). One that comes from a few seeds is itself a guess, and so is the answer.
    """
    if not (standard_deviation >= 0 and effect > 0 and 0 < level < 1 and 0 < power < 1):
        raise ValueError(
            f"found deviation {standard_deviation}, effect {effect}, power {power} and level "
            f"{level}; they should be at least 0, above 0, and between 0 and 1"
        )
    size = effect / max(standard_deviation, effect / LARGEST_EFFECT)
    # power rises with n: double until it is enough, then bisect between
    enough = 2
    while _power(enough, size, level) < power:
        enough *= 2
    pairs = range(2, enough + 1)
    return pairs[bisect_left(pairs, power, hi=enough - 2, key=lambda n: _power(n, size, level))]


def _array(values: Values) -> NDArray[np.float64]:
    """Float64 (n,); a failed run has no value and must not come here as NaN."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"found {values}; expected one finite value a seed, and at least one")
    return array


def _power(n: int, size: float, level: float) -> float:
    """P(|t| of n pairs > critical) where differences have mean `size` and deviation 1.

    The lower tail is the upper one of -t: scipy's own lower tail is NaN at some sizes.
    """
    critical, shift = stats.t.isf(level / 2, n - 1), size * math.sqrt(n)
    with np.errstate(divide="ignore"):  # scipy 1.11 to 1.13 warn at good values
        tails = stats.nct.sf(critical, n - 1, [shift, -shift])
    return float(tails.sum())
