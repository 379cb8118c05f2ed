"""Statistics over replicates: means, success, and how many replicates a difference takes.

A replicate is one seed, or one seed and one draw of the data, from which every variant is trained.
Everything here takes replicates as independent, and their values as normal.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05  # of tests, and of all intervals of one family together, which hold 95 %
ROUNDING = 1e-12  # of the largest value: a spread below it is that of the arithmetic, not of runs
LARGEST_EFFECT = 1e4  # in deviations: 2 pairs find it; far beyond, scipy's noncentral t is NaN
SMALLEST_EFFECT = 1e-6  # likewise: some 10^13 pairs; far below, their number overflows
Values = Sequence[float] | NDArray[np.float64]  # one a replicate


class Interval(NamedTuple):
    """Both ends belong to it."""

    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """Values of n replicates; one has neither deviation nor interval, equal ones no interval."""

    n: int
    mean: float
    standard_deviation: float | None  # of one run, not of the mean; divided by n - 1
    interval: Interval | None  # 95 % t-interval of the mean


@dataclass(frozen=True)
class Success:
    """How often a variant's runs came to a value, and its mean where they did."""

    runs: int
    succeeded: int
    mean: float | None  # of those that succeeded; None where none did


@dataclass(frozen=True)
class ReplicatesNeeded:
    """How many find a difference of a given size four times in five, and how well that is known."""

    n: int
    low: int  # for the lower and upper end of the deviation's 95 % chi-square interval
    high: int


def complete_mean(values: Collection[float | None]) -> float | None:
    """None where a run has no value, or there is none: the mean of the others would flatter."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def valued(outcomes: Iterable[float | None], worst: float | None) -> list[float | None]:
    """The outcomes, with the worst value in place of none.

    A variant is what it gives to somebody who trains it once: dropping the runs that diverged
    would compare its good luck with the other's mean.
    """
    return [worst if outcome is None else outcome for outcome in outcomes]


def success(outcomes: Iterable[float | None]) -> Success:
    """To be shown beside a mean in which diverged runs count with the worst value."""
    runs = list(outcomes)
    known = [outcome for outcome in runs if outcome is not None]
    return Success(len(runs), len(known), float(np.mean(known)) if known else None)


def replicate_correlation(table: NDArray[np.float64]) -> float | None:
    """Intraclass correlation of the replicates: the share of the variance that a replicate moves.

    table: values of each variant (rows) by replicate, all finite. Of two variants' runs it is how
    much those of one replicate are alike; 0: pairing them gives nothing, below: chance, or runs of
    one replicate that are less alike than others. ICC(3,1) of Shrout and Fleiss 1979, in which a
    variant is a judge. None of fewer than two variants or replicates, and of values that are equal.
    """
    variants, replicates = table.shape
    if min(variants, replicates) < 2:
        return None
    centred = table - table.mean(axis=1, keepdims=True)
    shared = centred.mean(axis=0)
    between = variants * float((shared**2).sum()) / (replicates - 1)
    rest = float(((centred - shared) ** 2).sum()) / ((replicates - 1) * (variants - 1))
    whole = between + (variants - 1) * rest
    return (between - rest) / whole if whole > 0 else None


def summarize(values: Values) -> Summary:
    """Mean, deviation and interval of one value a replicate; at least one, all finite."""
    array = finite_array(values)
    mean, n = float(array.mean()), len(array)
    if n < 2:
        return Summary(n, mean, None, None)
    if np.ptp(array) <= ROUNDING * np.abs(array).max():
        # AP 0, 0, 0 is a floor: that the next run gives 0 again is no estimate of a spread of 0
        return Summary(n, mean, 0.0, None)
    deviation = float(array.std(ddof=1))
    half = float(stats.t.isf(LEVEL / 2, n - 1)) * deviation / math.sqrt(n)
    return Summary(n, mean, deviation, Interval(mean - half, mean + half))


def seeds_needed(
    standard_deviation: float, *, effect: float, power: float = 0.8, level: float = LEVEL
) -> int:
    """The fewest pairs, at least 2, whose two-sided paired t-test finds `effect` with `power`.

    The deviation is that of the differences by replicate, in the unit of the effect.
    """
    if not (standard_deviation >= 0 and effect > 0 and 0 < level < 1 and 0 < power < 1):
        raise ValueError(
            f"found deviation {standard_deviation}, effect {effect}, power {power} and level "
            f"{level}; they should be at least 0, above 0, and between 0 and 1"
        )
    deviation = min(max(standard_deviation, effect / LARGEST_EFFECT), effect / SMALLEST_EFFECT)
    size = effect / deviation
    # power rises with n: double until it is enough, then bisect between
    enough = 2
    while _power(enough, size, level) < power:
        enough *= 2
    pairs = range(2, enough + 1)
    return pairs[bisect_left(pairs, power, hi=enough - 2, key=lambda n: _power(n, size, level))]


def replicates_needed(
    standard_deviation: float, *, n: int, effect: float, tests: int
) -> ReplicatesNeeded:
    """`seeds_needed` after the correction for `tests` contrasts, for a deviation known from n.

    The deviation of few replicates is itself a guess (from 3, it may be 0.5 to 6.3 times what was
    found), and so the answer comes with its interval.
    """
    degrees = n - 1
    ends = stats.chi2.isf([LEVEL / 2, 1 - LEVEL / 2], degrees)
    deviations = standard_deviation * np.sqrt(degrees / np.array([degrees, *ends]))
    needed = [seeds_needed(float(d), effect=effect, level=LEVEL / tests) for d in deviations]
    return ReplicatesNeeded(*needed)


def finite_array(values: Sequence[float | None] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Float64 (n,); a run without a value must not come here as NaN."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"found {values}; expected one finite value a replicate, and at least one")
    return array


def _power(n: int, size: float, level: float) -> float:
    """P(|t| of n pairs > critical) where differences have mean `size` and deviation 1.

    The lower tail is the upper one of -t: scipy's own lower tail is NaN at some sizes.
    """
    critical, shift = stats.t.isf(level / 2, n - 1), size * math.sqrt(n)
    with np.errstate(divide="ignore"):  # scipy 1.11 to 1.13 warn at good values
        tails = stats.nct.sf(critical, n - 1, [shift, -shift])
    return float(tails.sum())
