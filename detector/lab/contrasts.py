"""Declared contrasts of variants: tested and estimated together, and tested for equivalence.

Each contrast has one value a replicate, whatever its variants share in one: a paired t-test. It
takes these values as normal and the replicates as independent, and nothing else; the correction is
Bonferroni's. Why these and no others, by simulation: docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from detector.lab.statistics import (
    LEVEL,
    ROUNDING,
    Interval,
    ReplicatesNeeded,
    finite_array,
    replicates_needed,
    valued,
)
from detector.settings.ablation import ContrastNames

Outcomes = Mapping[str, Mapping[int, float | None]]  # variant -> replicate -> value; None: it
# ran and has no value, as one that diverged. A replicate that did not run is not there.
UNPLANNED = "it was not declared before the first result, and what is chosen by a look has no p"


@dataclass(frozen=True)
class Contrast:
    """What is compared: a sum of the variants' values, weighted by coefficients that sum to 0.

    Raises ValueError where they do not. Without any it is 0 whatever the runs say.
    """

    name: str  # "a - b", or "(a - b) - (c - d)"
    coefficients: Mapping[str, float]  # by variant, none of them 0
    planned: bool = True  # declared before the first run was finished

    def __post_init__(self) -> None:
        if not abs(math.fsum(self.coefficients.values())) < 1e-9:
            raise ValueError(
                f"{self.name}: found coefficients {dict(self.coefficients)}; they should sum to 0"
            )

    @classmethod
    def of(cls, names: ContrastNames) -> Contrast:
        """The first of a pair less the second; of two pairs the first less the second."""
        first, *others = [difference(*pair) for pair in names]
        return interaction(first, *others) if others else first

    @property
    def question(self) -> frozenset[tuple[str, float]]:
        """Its coefficients up to their sign: a - b asks what b - a does."""
        sign = math.copysign(1, min(self.coefficients.items(), default=("", 1.0))[1])
        return frozenset((name, sign * weight) for name, weight in self.coefficients.items())

    def renamed(self, names: Mapping[str, str]) -> Contrast:
        """The same of other variants, under its own name."""
        terms = [(names.get(name, name), weight) for name, weight in self.coefficients.items()]
        return replace(self, coefficients=_added(terms))


@dataclass(frozen=True)
class PairedTest:
    """The two-sided paired t-test of one contrast among all that were declared with it.

    The interval excludes 0 exactly where p < 0.05: both are corrected for the number of contrasts.
    """

    standard_error: float
    degrees_of_freedom: int
    interval: Interval  # all of the family's hold their truths together in 95 % of experiments
    p: float  # corrected, at most 1
    p_alone: float  # before the correction: as if this were the only contrast


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests (TOST) of whether a contrast lies between -margin and margin.

    p < 0.05 exactly where the interval lies within the margin: then the two are called equal to
    within it. A p above says nothing, least of all that they differ.
    """

    margin: float  # in the unit of the metric
    interval: Interval  # each side's ends err, over the whole family, in at most 5 %: "90 %"
    p: float  # corrected, at most 1


@dataclass(frozen=True)
class Comparison:
    """What the replicates say of one contrast."""

    contrast: Contrast
    values: Mapping[int, float]  # of the contrast, by replicate that all its variants have
    mean: float | None  # the estimate; None without a value
    test: PairedTest | None  # None: see untested
    untested: str  # the sentence that says why there is no test; empty where there is one
    equivalence: Equivalence | None  # these two None without a test, or without a margin
    needed: ReplicatesNeeded | None  # to find a difference as large as the margin

    @property
    def different(self) -> bool:
        """Whether p is below .05 after the correction."""
        return self.test is not None and self.test.p < LEVEL

    @property
    def equal(self) -> bool:
        """Whether it is shown to lie within the margin; it may be different, too, by less."""
        return self.equivalence is not None and self.equivalence.p < LEVEL

    @property
    def verdict(self) -> str:
        """What may be said of it, in words; never that there is no difference."""
        margin = self.equivalence.margin if self.equivalence else 0.0
        if not self.contrast.planned:
            return "not planned"
        if self.test is None:
            return "not tested"
        if self.different:
            return f"different, by less than {margin:g}" if self.equal else "different"
        return f"equal within ±{margin:g}" if self.equal else "not told apart"


def default_contrasts(
    names: Sequence[str], baseline: str, tuned: Mapping[str, str]
) -> tuple[ContrastNames, ...]:
    """Each variant less the baseline, and each at its tuned values less the baseline at its own.

    tuned: variant -> the name that it has at its tuned values, of those that tune.
    """
    pairs = [(name, baseline) for name in names]
    if baseline in tuned:
        pairs += [(own, tuned[baseline]) for own in tuned.values()]
    return tuple((pair,) for pair in dict.fromkeys(pairs) if pair[0] != pair[1])


def difference(variant: str, other: str) -> Contrast:
    """variant - other."""
    return Contrast(f"{variant} - {other}", _added([(variant, 1.0), (other, -1.0)]))


def interaction(first: Contrast, second: Contrast) -> Contrast:
    """first - second, of two differences: by how much the one is larger."""
    negative = [(name, -weight) for name, weight in second.coefficients.items()]
    terms = [*first.coefficients.items(), *negative]
    return Contrast(f"({first.name}) - ({second.name})", _added(terms))


def _added(terms: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Weights by variant, those of one variant added up, without those that are then 0."""
    sums = dict.fromkeys([name for name, _ in terms], 0.0)
    for name, weight in terms:
        sums[name] += weight
    return {name: weight for name, weight in sums.items() if weight}


def compare_contrasts(
    outcomes: Outcomes,
    contrasts: Sequence[Contrast],
    *,
    worst: float | None,
    margin: float | None = None,
) -> tuple[Comparison, ...]:
    """Test the contrasts that were planned, corrected for their number; in their order.

    worst: the value of a run without one: 0 of AP and the like; None where a metric has no worst
    value, as a loss. margin: what counts as equal, in the metric's unit, above 0; None: no test of
    equivalence.

    Each contrast's values, one a replicate, go through a paired t-test with Bonferroni's correction
    over the planned contrasts, those without a test included; the others are estimated alone.
    ValueError for a variant that has no outcomes, a value that is not finite, and a margin that is
    not above 0.
    """
    if margin is not None and not 0 < margin < math.inf:
        raise ValueError(f"found margin {margin}; expected a number above 0")
    missing = {v for contrast in contrasts for v in contrast.coefficients} - {*outcomes}
    if missing:
        raise ValueError(f"found no outcomes of {sorted(missing)}, only of {sorted(outcomes)}")
    tests = sum(contrast.planned for contrast in contrasts)
    return tuple(_compare_one(outcomes, one, worst, margin, tests) for one in contrasts)


def _compare_one(
    outcomes: Outcomes, contrast: Contrast, worst: float | None, margin: float | None, tests: int
) -> Comparison:
    first, *others = (outcomes[variant] for variant in contrast.coefficients)
    replicates = [key for key in first if all(key in other for other in others)]
    columns = {
        variant: valued([outcomes[variant][key] for key in replicates], worst)
        for variant in contrast.coefficients
    }
    absent = [name for name, column in columns.items() if None in column]
    if absent or not replicates:
        reason = (
            f"a run of {absent[0]} has no value, and the metric has no worst one to count it with"
            if absent
            else "no replicate has run in all of its variants"
        )
        return Comparison(contrast, {}, None, None, reason, None, None)
    table = np.array([finite_array(columns[variant]) for variant in contrast.coefficients])
    values = np.array(list(contrast.coefficients.values())) @ table
    by_replicate = dict(zip(replicates, values.tolist(), strict=True))
    mean = float(values.mean())
    reason = _without_spread(contrast, table, values) if contrast.planned else UNPLANNED
    if reason:
        return Comparison(contrast, by_replicate, mean, None, reason, None, None)
    n, deviation = len(values), float(values.std(ddof=1))
    error = deviation / math.sqrt(n)
    return Comparison(
        contrast=contrast,
        values=by_replicate,
        mean=mean,
        test=_test(mean, error, n - 1, tests),
        untested="",
        equivalence=_equivalence(mean, error, n - 1, tests, margin) if margin else None,
        needed=replicates_needed(deviation, n=n, effect=margin, tests=tests) if margin else None,
    )


def _without_spread(
    contrast: Contrast, table: NDArray[np.float64], values: NDArray[np.float64]
) -> str:
    """Why a t-test would divide by a spread that is none; empty where it does not.

    table: values of each variant of the contrast (rows), by replicate.
    """
    n, tolerance = len(values), ROUNDING * np.abs(table).max()
    if n < 2:
        return "one replicate says nothing of the spread, and a test compares with that"
    for variant, row in zip(contrast.coefficients, table, strict=True):
        # AP 0, 0, 0 is a floor: that the next run gives 0 again is no estimate of a spread of 0
        if np.ptp(row) <= tolerance:
            return f"the {n} values of {variant} are all {row[0]:.4g}: no spread to test against"
    if np.ptp(values) <= tolerance:
        return f"it is {values[0]:.4g} in each of {n} replicates: no spread to test against"
    return ""


def _test(mean: float, error: float, degrees: int, tests: int) -> PairedTest:
    # Bonferroni rather than Holm: only of a one-step correction are there intervals that say the
    # same as p
    half = float(stats.t.isf(LEVEL / tests / 2, degrees)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, degrees))
    return PairedTest(error, degrees, Interval(mean - half, mean + half), min(1.0, tests * p), p)


def _equivalence(mean: float, error: float, degrees: int, tests: int, margin: float) -> Equivalence:
    """Schuirmann 1987, with Bonferroni's correction."""
    half = float(stats.t.isf(LEVEL / tests, degrees)) * error
    p = float(stats.t.sf((margin - abs(mean)) / error, degrees))  # of the nearer end, the larger p
    return Equivalence(margin, Interval(mean - half, mean + half), min(1.0, tests * p))
