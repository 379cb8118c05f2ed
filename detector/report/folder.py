"""An ablation's folder: results.json and, of each run, what it left.

Only results.json must be there; of the rest what is missing is None or empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from detector.engine.run import ENVIRONMENT, resumptions
from detector.errors import InputError
from detector.files import read_object
from detector.lab.records import read_records
from detector.lab.results import Results, VariantResult, read_results
from detector.report.diagnostics import DIAGNOSTICS, Diagnostics, read_diagnostics

LOG_LINES = 15  # of a failed run


@dataclass(frozen=True)
class RunResult:
    """One training and the files that it left."""

    name: str
    folder: str  # relative to the ablation's
    seed: int
    value: float | None  # of the metric; None where the training failed or it is undefined
    seconds: float | None
    records: Sequence[Mapping[str, Any]]  # of metrics.jsonl
    environment: Mapping[str, Any]
    resumptions: Sequence[Mapping[str, Any]]  # the environments of the processes that resumed it
    diagnostics: Diagnostics | None
    log: str  # its last lines


@dataclass(frozen=True, kw_only=True)
class ReportedVariant(VariantResult):
    """A variant's results with its runs."""

    runs: tuple[RunResult, ...]

    @property
    def trained(self) -> bool:
        """Whether it was trained here; detections of another detector were not."""
        return bool(self.diverged) or any(run.seconds is not None for run in self.runs)

    @property
    def finished(self) -> tuple[RunResult, ...]:
        """The runs that have a value."""
        return tuple(run for run in self.runs if run.value is not None)

    @property
    def diagnoses(self) -> tuple[Diagnostics | None, ...]:
        """Of each run that counts; None of one that diverged or was not diagnosed."""
        return tuple(run.diagnostics for run in self.runs if run.seed in self.outcomes)

    @property
    def diagnosed(self) -> tuple[Diagnostics, ...]:
        """The diagnostics of the finished runs that have some."""
        return tuple(run.diagnostics for run in self.finished if run.diagnostics is not None)


@dataclass(frozen=True, kw_only=True)
class AblationFolder(Results):
    """results.json, with the runs of each variant and what ablation.json says of the call."""

    path: Path  # of the folder
    variants: tuple[ReportedVariant, ...]
    command: Sequence[str] | None  # that made it
    config: str | None  # the file that all variants change

    @property
    def runs(self) -> tuple[RunResult, ...]:
        """Variant by variant."""
        return tuple(run for variant in self.variants for run in variant.runs)

    @property
    def diagnosed(self) -> tuple[ReportedVariant, ...]:
        """The variants with at least one diagnosed run."""
        return tuple(variant for variant in self.variants if variant.diagnosed)

    def variant(self, name: str) -> ReportedVariant:
        """The variant of that name."""
        return next(variant for variant in self.variants if variant.name == name)


def read_folder(folder: Path) -> AblationFolder:
    """All that `folder` holds; InputError where results.json is missing, or a file is broken."""
    file, call = folder / "results.json", folder / "ablation.json"
    if not file.exists():
        raise InputError(f"{folder}: it holds no results.json; detector ablate writes one.")
    results, about = read_results(file), read_object(call) if call.exists() else {}
    variants = [
        ReportedVariant(
            **vars(variant),
            runs=tuple(_run(folder, variant, seed, results.seconds) for seed in variant.values),
        )
        for variant in results.variants
    ]
    return AblationFolder(
        # not vars, which also hold what is computed from the fields
        **{f.name: getattr(results, f.name) for f in fields(results) if f.name != "variants"},
        path=folder,
        variants=_tuned_beside(variants),
        command=about.get("command"),
        config=about.get("config"),
    )


def _tuned_beside(variants: Sequence[ReportedVariant]) -> tuple[ReportedVariant, ...]:
    """In their order, but a tuned variant behind the one that it was tuned from."""
    tuned = {v.tuning.tuned_variant for v in variants if v.tuning}
    by_name = {v.name: v for v in variants}
    ordered: list[ReportedVariant] = []
    for variant in variants:
        if variant.name not in tuned:
            ordered.append(variant)
        if variant.tuning and variant.tuning.tuned_variant:
            ordered.append(by_name[variant.tuning.tuned_variant])
    return tuple(ordered)


def _run(
    folder: Path, variant: VariantResult, seed: int, seconds: Mapping[str, float | None]
) -> RunResult:
    path = Path("runs") / variant.name / f"seed{seed}"
    own, name = folder / path, f"{variant.name}, seed {seed}"
    environment = own / ENVIRONMENT
    return RunResult(
        name=name,
        folder=path.as_posix(),
        seed=seed,
        value=variant.values[seed],
        seconds=seconds.get(name),
        records=read_records(own / "metrics.jsonl"),
        environment=read_object(environment) if environment.exists() else {},
        resumptions=[read_object(file) for file in resumptions(own)],
        diagnostics=read_diagnostics(own / DIAGNOSTICS),
        log=_tail(own.with_name(f"{own.name}.log")),
    )


def _tail(path: Path) -> str:
    """The last lines of a log; of a progress bar, which begins anew at each \\r, its last state."""
    if not path.exists():
        return ""
    lines = path.read_bytes().decode(errors="replace").rstrip("\n").split("\n")
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines[-LOG_LINES:])
