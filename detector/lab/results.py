"""results.json, the file that an ablation writes: its typed content, read and written here alone.

A value that is not known, of a failed run for example, is null. AP is a fraction, 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from detector.errors import InputError
from detector.files import write_json
from detector.lab.contrasts import Contrast
from detector.lab.statistics import Interval, Summary
from detector.settings.ablation import Published

T = TypeVar("T")
ALPHA = 0.05  # a difference is called significant where its corrected p is below it


@dataclass(frozen=True)
class Difference(Summary):
    """From the baseline, over the seeds that both have finished.

    p and p_holm are null without a test: of one seed, and where a variant's values are all equal.
    The interval agrees with p_holm: both are corrected over the declared variants, by Bonferroni's
    rule (in docs/ablations/, of 2026-11-27 and before, p_holm alone, by Holm's).
    """

    differences: tuple[float, ...]
    p: float | None  # before the correction
    p_holm: float | None  # after it; null of a variant that tuning added, whose baseline is not
    # tuned here, and whose interval is its own
    seeds_for_half_a_point: int | None  # pairs that find a difference of 0.005 with a power of 80 %

    @property
    def significant(self) -> bool:
        """Whether p is below ALPHA after the correction."""
        return self.p_holm is not None and self.p_holm < ALPHA


@dataclass(frozen=True)
class Tuning:
    """How a variant's values were chosen, by trials on images set aside from the training set."""

    keys: Mapping[str, tuple[Any, ...]]  # key -> the values that were tried
    values: Mapping[str, float | None]  # trial -> metric; null: it diverged, or it is undefined
    chosen: Mapping[str, Any] | None  # key -> the best value; null where no trial has a metric
    at_edge: tuple[str, ...]  # keys whose chosen value is the least or largest of three or more
    lead: float | None  # of the best trial over the second best, at least 0; null: it is alone
    tuned_variant: str | None  # the variant with the chosen values; null where they are its own
    difference: Difference | None  # of the variant at its chosen values from the baseline at its
    # own, p_holm over these differences; null of the baseline, and where either has none


@dataclass(frozen=True)
class VariantResult:
    """One variant; those that tuning added stand at the end of the list."""

    name: str
    question: str
    published: Published | None
    changes: Mapping[str, tuple[Any, Any]]  # key -> the baseline's value, the variant's
    values: Mapping[int, float | None]  # seed -> metric at the last validation; null: the training
    # failed, or the metric is undefined there (AP of a class without boxes)
    n: int  # of these values that are known
    mean: float | None
    standard_deviation: float | None
    interval: Interval | None  # 95 % t-interval of the mean
    difference: Difference | None  # null of the baseline, and without a seed that both have
    confounders: Mapping[str, float | None]  # as of lab/records.py; and score_threshold,
    # which is postprocess.score
    tuning: Tuning | None  # null where nothing is tuned, or a trial failed without diverging


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
    # killed or stopped; null of a trial that diverged in an earlier call
    runner: RunnerTime
    contrasts: tuple[Contrast, ...] = ()
    margin: float | None = None  # of equivalence, in the metric's unit; null: none was declared
    amendments: tuple[Amendment, ...] = ()  # p-values hold as they are only where there is none
    bootstrap: tuple[SeedBootstrap, ...] | None = None  # None, absent from the file: not computed


RESULTS_FILE = TypeAdapter(Results)


def read_results(file: Path) -> Results:
    """The content of a results.json; InputError where the file is none."""
    again = "delete it, and write it again by detector ablate"
    return read_typed(file, RESULTS_FILE, "the results.json of an ablation", remedy=again)


def read_typed(file: Path, content: TypeAdapter[T], what: str, *, remedy: str) -> T:
    """The content of a JSON file; InputError, which names the first fault, where it is another."""
    try:
        return content.validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise InputError(f"{file}: it is not {what} ({where}: {first['msg']}); {remedy}.") from None


def write_results(file: Path, results: Results) -> None:
    """Write results.json whole; the bootstrap only where it was computed."""
    absent = {"bootstrap"} if results.bootstrap is None else None
    write_json(file, RESULTS_FILE.dump_python(results, exclude=absent))
