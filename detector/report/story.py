"""What an ablation's folder holds: results.json and, of each run, what it left.

Only results.json must be there; of the rest what is missing is None or empty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.errors import InputError
from detector.report.diagnosis import Diagnosis, read_diagnosis

LOG_LINES = 15  # of a failed run


@dataclass(frozen=True)
class Run:
    """One training."""

    name: str
    folder: str  # relative to the ablation's
    seed: int
    value: float | None  # of the metric; None where the training failed or it is undefined
    seconds: float | None
    records: tuple[Mapping[str, Any], ...]  # of metrics.jsonl
    environment: Mapping[str, Any]
    diagnosis: Diagnosis | None
    log: str  # its last lines


@dataclass(frozen=True)
class Difference:
    """From the baseline, over the seeds that both have."""

    mean: float
    standard_deviation: float | None
    interval: tuple[float, float] | None
    values: tuple[float, ...]  # by seed
    p: float | None
    p_holm: float | None
    seeds_for_half_a_point: int | None

    @property
    def told_apart_alone(self) -> bool:
        """Whether p of this one test is below 0.05."""
        return self.p is not None and self.p < 0.05

    @property
    def told_apart(self) -> bool:
        """Whether p, corrected over the variants, is below 0.05."""
        return self.p_holm is not None and self.p_holm < 0.05


@dataclass(frozen=True)
class Tuning:
    """How a variant's values were chosen, on images set aside from the training set."""

    keys: Mapping[str, Sequence[Any]]  # what was tried
    values: Mapping[str, float | None]  # combination -> the metric; None: diverged or undefined
    chosen: Mapping[str, Any] | None
    at_edge: tuple[str, ...]  # of the tried values
    lead: float | None  # of the best over the second
    tuned_variant: str | None  # None where the chosen values are the variant's own
    difference: Difference | None  # tuned variant from tuned baseline


@dataclass(frozen=True)
class Variant:
    """One column of the question; mean to difference are None where no seed allows them."""

    name: str
    question: str
    published: Mapping[str, Any] | None  # value, source
    changes: Mapping[str, tuple[Any, Any]]  # key -> the baseline's value, its own
    mean: float | None
    standard_deviation: float | None
    interval: tuple[float, float] | None
    difference: Difference | None
    confounders: Mapping[str, float | None]  # empty where none were written
    tuning: Tuning | None
    runs: tuple[Run, ...]

    @property
    def finished(self) -> tuple[Run, ...]:
        """The runs that have a value."""
        return tuple(run for run in self.runs if run.value is not None)

    @property
    def diagnoses(self) -> tuple[Diagnosis, ...]:
        """Of the finished runs that were diagnosed."""
        return tuple(run.diagnosis for run in self.finished if run.diagnosis is not None)


@dataclass(frozen=True)
class Story:
    """An ablation."""

    file: str | None  # that describes it
    command: Sequence[str] | None  # that made it
    config: str | None  # the file that all variants change
    metric: str
    baseline: str
    seeds: tuple[int, ...]
    variants: tuple[Variant, ...]
    results: Mapping[str, Any]  # all of results.json

    @property
    def runs(self) -> tuple[Run, ...]:
        """Variant by variant."""
        return tuple(run for variant in self.variants for run in variant.runs)

    @property
    def declared(self) -> tuple[Variant, ...]:
        """The variants but for those that tuning has added."""
        added = {v.tuning.tuned_variant for v in self.variants if v.tuning}
        return tuple(v for v in self.variants if v.name not in added)

    @property
    def failed_trials(self) -> tuple[str, ...]:
        """Names of the trials that failed without diverging."""
        return tuple(self.results.get("failed_trials", ()))

    def variant(self, name: str) -> Variant:
        """The variant of that name."""
        (found,) = (v for v in self.variants if v.name == name)
        return found


def read_story(folder: Path) -> Story:
    """The story that `folder` tells; InputError where results.json is missing or is not one."""
    results = _json(folder / "results.json")
    if results is None:
        raise InputError(f"{folder}: it holds no results.json; detector ablate writes one.")
    mark = _json(folder / "ablation.json") or {}
    seconds = results.get("seconds", {})
    return Story(
        file=mark.get("ablation"),
        command=mark.get("command"),
        config=mark.get("config"),
        metric=results["metric"],
        baseline=results["baseline"],
        seeds=tuple(results["seeds"]),
        variants=_tuned_beside([_variant(folder, entry, seconds) for entry in results["variants"]]),
        results=results,
    )


def _variant(folder: Path, entry: Mapping[str, Any], seconds: Mapping[str, float]) -> Variant:
    name, found = entry["name"], entry.get("difference")
    return Variant(
        name=name,
        question=entry.get("question") or "",
        published=entry.get("published"),
        changes={key: (pair[0], pair[1]) for key, pair in entry.get("changes", {}).items()},
        mean=entry.get("mean"),
        standard_deviation=entry.get("standard_deviation"),
        interval=_pair(entry.get("interval")),
        difference=_difference(found) if found else None,
        confounders=entry.get("confounders") or {},
        tuning=_tuning(entry["tuning"]) if entry.get("tuning") else None,
        runs=tuple(
            _run(folder, name, int(seed), value, seconds) for seed, value in entry["values"].items()
        ),
    )


def _tuned_beside(variants: Sequence[Variant]) -> tuple[Variant, ...]:
    """In their order, but a tuned variant behind the one that it was tuned from."""
    by_name = {v.name: v for v in variants}
    origins = {v.name: v.tuning.tuned_variant for v in variants if v.tuning}
    ordered = []
    for v in variants:
        if v.name not in origins.values():
            tuned = origins.get(v.name)
            ordered += [v] + ([by_name[tuned]] if tuned else [])
    return tuple(ordered)


def _tuning(found: Mapping[str, Any]) -> Tuning:
    difference = found.get("difference")
    return Tuning(
        keys=found["keys"],
        values=found["values"],
        chosen=found.get("chosen"),
        at_edge=tuple(found.get("at_edge", ())),
        lead=found.get("lead"),
        tuned_variant=found.get("tuned_variant"),
        difference=_difference(difference) if difference else None,
    )


def _difference(found: Mapping[str, Any]) -> Difference:
    return Difference(
        mean=found["mean"],
        standard_deviation=found.get("standard_deviation"),
        interval=_pair(found.get("interval")),
        values=tuple(found.get("differences", ())),
        p=found.get("p"),
        p_holm=found.get("p_holm"),
        seeds_for_half_a_point=found.get("seeds_for_half_a_point"),
    )


def _run(
    folder: Path, variant: str, seed: int, value: float | None, seconds: Mapping[str, float]
) -> Run:
    path = Path("runs") / variant / f"seed{seed}"
    name = f"{variant}, seed {seed}"
    return Run(
        name=name,
        folder=path.as_posix(),
        seed=seed,
        value=value,
        seconds=seconds.get(name),
        records=_records(folder / path / "metrics.jsonl"),
        environment=_json(folder / path / "environment.json") or {},
        diagnosis=read_diagnosis(folder / path / "diagnosis" / "last" / "diagnostics.json"),
        log=_tail(folder / path.parent / f"{path.name}.log"),
    )


def _pair(ends: Any) -> tuple[float, float] | None:
    return None if ends is None else (ends[0], ends[1])


def _json(path: Path) -> Any:
    """The content of a file; None where there is none."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error}); run the ablation again.") from error


def _records(path: Path) -> tuple[Mapping[str, Any], ...]:
    """The whole lines of a metrics.jsonl; a killed run may leave a part of one at the end."""
    if not path.exists():
        return ()
    *whole, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return tuple(json.loads(line) for line in whole if line)


def _tail(path: Path) -> str:
    """The last lines of a log, without what a terminal would have overwritten."""
    if not path.exists():
        return ""
    lines = path.read_bytes().decode(errors="replace").rstrip("\n").split("\n")
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines[-LOG_LINES:])
