"""results.json, the file that an ablation writes: its typed content, read and written here alone.

A value that is not known, of a failed run for example, is null. AP is a fraction, 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from detector.errors import InputError
from detector.files import write_json
from detector.lab.contrasts import Comparison, Contrast, compare_contrasts, default_contrasts
from detector.lab.statistics import Interval, Success, replicate_correlation, success, valued
from detector.settings.ablation import Published
from detector.settings.figures import worst_value

T = TypeVar("T")


@dataclass(frozen=True)
class Tuning:
    """How a variant's values were chosen, by trials on images set aside from the training set."""

    keys: Mapping[str, tuple[Any, ...]]  # key -> the values that were tried
    values: Mapping[str, float | None]  # trial -> metric; null: it diverged, or it is undefined
    chosen: Mapping[str, Any] | None  # key -> the best value; null where no trial has a metric
    at_edge: tuple[str, ...]  # keys whose chosen value is the least or largest of three or more
    lead: float | None  # of the best trial over the second best, at least 0; null: it is alone
    tuned_variant: str | None  # the variant with the chosen values; null where they are its own


@dataclass(frozen=True)
class VariantResult:
    """One variant; those that tuning added stand at the end of the list."""

    name: str
    question: str
    published: Published | None
    changes: Mapping[str, tuple[Any, Any]]  # key -> the baseline's value, the variant's
    values: Mapping[int, float | None]  # seed -> metric at the last validation; null: the training
    # failed, or the metric is undefined there (AP of a class without boxes)
    n: int  # of the seeds that count: those with a value and, at the metric's worst, the diverged
    mean: float | None  # of these, as the next two
    standard_deviation: float | None
    interval: Interval | None  # 95 % t-interval of the mean
    confounders: Mapping[str, float | None]  # as of lab/records.py; and score_threshold,
    # which is postprocess.score
    tuning: Tuning | None  # null where nothing is tuned, or a trial failed without diverging
    diverged: tuple[int, ...] = ()  # seeds whose training diverged; others without a value failed
    # otherwise, or have an undefined one, and count for nothing
    not_finite: tuple[int, ...] = ()  # seeds whose training was finished with a loss or a metric of
    # one's own that is not finite; they count as the diverged do
    figures: Mapping[str, Mapping[int, float | None]] = field(default_factory=dict)  # those of
    # `metrics`: name -> seed -> value at the last validation
    measures: Mapping[str, Mapping[int, float | None]] = field(default_factory=dict)  # of the last
    # checkpoint's diagnosis: name -> seed -> value; without the seeds that were not diagnosed
    validations: Mapping[int, Sequence[tuple[float, float | None]]] = field(default_factory=dict)
    # seed -> epoch and metric of each validation

    @property
    def outcomes(self) -> Mapping[int, float | None]:
        """Seed -> value, None of one without, except of those that count for nothing."""
        none = {*self.diverged, *self.not_finite}
        return {s: v for s, v in self.values.items() if v is not None or s in none}

    @property
    def lost(self) -> int:
        """How many of the runs that count have no value."""
        return sum(value is None for value in self.outcomes.values())

    @property
    def success(self) -> Success:
        """How many runs came to a value, and their mean."""
        return success(self.outcomes.values())


@dataclass(frozen=True)
class RunnerTime:
    """Where the time of the last call that had anything to run went, in seconds."""

    workers: int  # runs at a time
    wall: float
    busy: float  # in processes of the runs, over all workers
    idle: float  # after a worker's last run while others had theirs, over all workers
    overhead: float | None  # what the runner itself took, as a share of busy; null without any

    @classmethod
    def of(cls, workers: int, *, wall: float, busy: float, idle: float) -> RunnerTime:
        """With the overhead: the time of all workers that is neither busy nor idle."""
        overhead = (workers * wall - busy - idle) / busy if busy else None
        return cls(workers, wall, busy, idle, overhead)


@dataclass(frozen=True)
class SeedBootstrap:
    """A variant against the baseline of the same seed, over resampled validation images."""

    variant: str
    seed: int
    difference: float  # in AP
    interval: Interval  # 95 %
    p: float  # two-sided
    lacking: float  # the share of the resamples without a box of some class


@dataclass(frozen=True)
class Amendment:
    """A change of the design after the first run was finished."""

    date: str  # ISO 8601, UTC
    reason: str  # as of --amend
    before: Mapping[str, Any]  # key of the design -> its value; null: none was recorded
    after: Mapping[str, Any]
    results_seen: bool  # whether results.json had been written by then


@dataclass(frozen=True, kw_only=True)
class Results:
    """The whole file."""

    ablation: str  # the file that describes it
    metric: str
    baseline: str
    seeds: tuple[int, ...]
    variants: tuple[VariantResult, ...]
    failed_trials: tuple[str, ...]  # names of the trials that failed without diverging
    seconds: Mapping[str, float | None]  # run -> seconds of its processes, without those that were
    # killed or stopped; null of one that diverged in an earlier call
    runner: RunnerTime
    contrasts: tuple[Contrast, ...] = ()
    margin: float | None = None  # of equivalence, in the metric's unit; null: none was declared
    by_seed: tuple[str, ...] | None = None  # key=value of the config in which {seed} is the run's,
    # as of data that are drawn anew; null of older versions: not known
    amendments: tuple[Amendment, ...] = ()  # p-values hold as they are only where there is none
    bootstrap: tuple[SeedBootstrap, ...] | None = None  # None, absent from the file: not computed

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """What the values say of each contrast."""
        outcomes: dict[str, Mapping[int, float | None]] = {
            name: {} for contrast in self.contrasts for name in contrast.coefficients
        }
        outcomes |= {variant.name: variant.outcomes for variant in self.variants}
        worst = worst_value(self.metric)
        return compare_contrasts(outcomes, self.contrasts, worst=worst, margin=self.margin)

    @property
    def replicate_correlation(self) -> float | None:
        """As of the function of that name, over the seeds that count in every variant."""
        seeds = [s for s in self.seeds if all(s in v.outcomes for v in self.variants)]
        rows = [
            valued([v.outcomes[seed] for seed in seeds], worst_value(self.metric))
            for v in self.variants
        ]
        known = [row for row in rows if row and None not in row]
        return replicate_correlation(np.array(known, np.float64)) if known else None


RESULTS_FILE = TypeAdapter(Results)
COMPARISONS = TypeAdapter(tuple[Comparison, ...])


def read_results(file: Path) -> Results:
    """The content of a results.json; InputError where the file is none.

    Comparisons are computed from the values, also those of a file that was written with other
    statistics. One without contrasts is of a version that always compared with the baseline.
    """
    again = "delete it, and write it again by detector ablate"
    results = read_typed(file, RESULTS_FILE, "the results.json of an ablation", remedy=again)
    if results.contrasts:
        return results
    tunings = {v.name: v.tuning for v in results.variants if v.tuning}
    tuned = {name: tuning.tuned_variant or name for name, tuning in tunings.items()}
    added = {tuning.tuned_variant for tuning in tunings.values()}
    names = [v.name for v in results.variants if v.name not in added]
    pairs = default_contrasts(names, results.baseline, tuned)
    return replace(results, contrasts=tuple(map(Contrast.of, pairs)))


def read_typed(file: Path, content: TypeAdapter[T], what: str, *, remedy: str) -> T:
    """The content of a JSON file; InputError, which names the first fault, where it is another."""
    try:
        return content.validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise InputError(f"{file}: it is not {what} ({where}: {first['msg']}); {remedy}.") from None


def write_results(file: Path, results: Results) -> None:
    """Write results.json whole; the bootstrap only where it was computed, and by_seed where known.

    What follows from the values is written for other programs, and not read again.
    """
    absent = {key for key in ("bootstrap", "by_seed") if getattr(results, key) is None}
    content = RESULTS_FILE.dump_python(results, exclude=absent)
    for variant, entry in zip(results.variants, content["variants"], strict=True):
        entry["success"] = asdict(variant.success)
    comparisons = COMPARISONS.dump_python(results.comparisons)
    for comparison, entry in zip(results.comparisons, comparisons, strict=True):
        entry["verdict"] = comparison.verdict
    derived = {"comparisons": comparisons, "replicate_correlation": results.replicate_correlation}
    write_json(file, content | derived)
