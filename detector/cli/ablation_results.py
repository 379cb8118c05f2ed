"""From the folders of an ablation's runs to its results and bootstrap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.cli.ablation_external import external_run
from detector.cli.compare import check_same_truth, diagnosed_run
from detector.errors import InputError
from detector.lab.bootstrap import paired_draws, resample
from detector.lab.plan import External, Plan
from detector.lab.records import TrialChoice, confounders, last_metric, read_records, validations
from detector.lab.results import (
    Amendment,
    Results,
    RunnerTime,
    SeedBootstrap,
    Tuning,
    VariantResult,
)
from detector.lab.statistics import summarize, valued
from detector.lab.sweep import Outcome, Run
from detector.lab.variants import Variant
from detector.report.diagnostics import DIAGNOSTICS, read_diagnostics
from detector.report.measures import measured
from detector.settings.figures import worst_value

RESAMPLES = 1000  # each end of a 95 % interval then rests on 25 of them
NOTHING_KNOWN = {"n": 0, "mean": None, "standard_deviation": None, "interval": None}


def collect_results(
    plan: Plan,
    output: Path,
    outcomes: Mapping[Run, Outcome],
    choices: Mapping[str, TrialChoice],
    runner: RunnerTime,
    amendments: Sequence[Amendment],
) -> Results:
    """All results but for the bootstrap.

    plan: with the variants that tuning added. choices: by the name of the variant that tunes.
    output: the ablation's folder, where the external variants were measured.
    InputError where a run that was trained has no metrics.jsonl, or not this metric in it.
    """
    trained = [_trained(plan, variant, outcomes, choices) for variant in plan.variants]
    external = [_external(plan, output, one) for one in plan.external]
    return Results(
        ablation=str(plan.file),
        metric=plan.metric,
        baseline=plan.baseline,
        seeds=plan.seeds,
        variants=(*trained, *external),
        failed_trials=_failed_trials(outcomes, plan.names),
        seconds={run.name: outcome.seconds for run, outcome in outcomes.items()},
        runner=runner,
        contrasts=plan.contrasts,
        margin=plan.margin,
        by_seed=plan.by_seed,
        amendments=tuple(amendments),
    )


def _trained(
    plan: Plan,
    variant: Variant,
    outcomes: Mapping[Run, Outcome],
    choices: Mapping[str, TrialChoice],
) -> VariantResult:
    return VariantResult(
        name=variant.name,
        question=variant.question,
        published=variant.published,
        changes=plan.differences(variant),
        **_of_runs(plan, variant.name, outcomes),
        confounders=_confounders(variant, outcomes),
        tuning=_tuning(plan, variant, choices),
    )


def _external(plan: Plan, output: Path, external: External) -> VariantResult:
    folders = {seed: external_run(output, external.name, seed) for seed in external.files}
    return VariantResult(
        name=external.name,
        question="detections of another detector",
        published=None,
        changes={},
        **_measured(plan, folders),
        confounders={**confounders([]), "score_threshold": None},
        tuning=None,
    )


def _failed_trials(outcomes: Mapping[Run, Outcome], reported: Collection[str]) -> tuple[str, ...]:
    return tuple(
        run.name
        for run, outcome in outcomes.items()
        if run.variant not in reported and outcome.code != 0 and not run.diverged
    )


def _of_runs(plan: Plan, variant: str, outcomes: Mapping[Run, Outcome]) -> dict[str, Any]:
    own = {run: outcome for run, outcome in outcomes.items() if run.variant == variant}
    trained = {run.seed: run.directory if one.trained else None for run, one in own.items()}
    diverged = tuple(run.seed for run, one in own.items() if run.diverged and not one.trained)
    return _measured(plan, trained, diverged)


def _measured(
    plan: Plan, trained: Mapping[int, Path | None], diverged: tuple[int, ...] = ()
) -> dict[str, Any]:
    """The figures of a variant, and the summary of the metric.

    trained: seed -> folder; None of a run that failed. diverged: the seeds of those that diverged.
    """
    values, *figures = (
        {seed: None if folder is None else last_metric(folder, name)
         for seed, folder in trained.items()}
        for name in (plan.metric, *plan.metrics)
    )  # fmt: skip
    worst = worst_value(plan.metric)
    counted = [value for seed, value in values.items() if value is not None or seed in diverged]
    known = [value for value in valued(counted, worst) if value is not None]
    summary = vars(summarize(known)) if known else NOTHING_KNOWN
    folders = {seed: folder for seed, folder in trained.items() if folder is not None}
    return {
        **summary,
        "values": values,
        "diverged": diverged,
        # -1, COCO's AP of nothing, is undefined in all variants alike; inf is one's own doing
        "not_finite": tuple(s for s in folders if worst is None and values[s] is None),
        "figures": dict(zip(plan.metrics, figures, strict=True)),
        "measures": _measures(folders),
        "validations": {s: validations(folder, plan.metric) for s, folder in folders.items()},
    }


def _measures(folders: Mapping[int, Path]) -> dict[str, dict[int, float | None]]:
    """Name -> seed -> value, of the runs that are diagnosed."""
    by_name: dict[str, dict[int, float | None]] = defaultdict(dict)
    for seed, folder in folders.items():
        diagnosis = read_diagnostics(folder / DIAGNOSTICS)
        for name, value in measured(diagnosis).items() if diagnosis else ():
            by_name[name][seed] = value
    return dict(by_name)


def bootstraps(
    directories: Mapping[tuple[str, int], Path], baseline: str, say: Callable[[str], None]
) -> list[SeedBootstrap]:
    """Comparisons in AP by variant and seed: what one seed's difference owes to the images.

    directories: of the runs that are finished and diagnosed, by variant and seed. A validation set
    of one image or without boxes has no comparison. Runs with other images, classes or boxes are
    left out, and `say` gets the reason once.
    """
    compared, refused = [], []
    for seed in sorted({seed for variant, seed in directories if variant == baseline}):
        first = diagnosed_run(directories[baseline, seed])
        matches = first.matches()
        if len(first.image_ids) < 2 or not len(matches.truth_images):
            continue
        # once a seed, not once a pair: the resamples of one seed draw the same images in every run
        base = resample(matches, resamples=RESAMPLES)
        for variant in [name for name, of in directories if name != baseline and of == seed]:
            second = diagnosed_run(directories[variant, seed])
            try:
                check_same_truth(first, second)
            except InputError as error:
                refused.append(f"{variant}, seed {seed}: {error}")
                continue
            pair = paired_draws(base, resample(second.matches(), resamples=RESAMPLES))
            compared.append(
                SeedBootstrap(variant, seed, pair.difference, pair.interval, pair.p, pair.lacking)
            )
    if refused:
        say(f"no bootstrap of {len(refused)} of the runs, such as {refused[0]}")
    return compared


def _confounders(variant: Variant, outcomes: Mapping[Run, Outcome]) -> dict[str, float | None]:
    records = [
        read_records(run.directory / "metrics.jsonl")
        for run, outcome in outcomes.items()
        if run.variant == variant.name and outcome.trained
    ]
    return {**confounders(records), "score_threshold": variant.config.postprocess.score}


def _tuning(plan: Plan, variant: Variant, choices: Mapping[str, TrialChoice]) -> Tuning | None:
    choice = choices.get(variant.name)
    if choice is None:
        return None
    keys = variant.trials[0].values
    return Tuning(
        keys={key: _distinct([trial.values[key] for trial in variant.trials]) for key in keys},
        values=choice.values,
        chosen=choice.trial.values if choice.trial else None,
        at_edge=choice.at_edge,
        lead=choice.lead,
        tuned_variant=variant.tuned_name if variant.tuned_name in plan.names else None,
    )


def _distinct(values: Sequence[Any]) -> tuple[Any, ...]:
    """In order; not a set, for lists among them cannot be hashed."""
    return tuple(value for index, value in enumerate(values) if value not in values[:index])
