"""From the folders of an ablation's runs to its results and bootstrap, and these as a table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.cli.ablation_external import external_run
from detector.cli.compare import check_same_truth, diagnosed_run
from detector.errors import InputError
from detector.lab.bootstrap import paired_draws, resample
from detector.lab.contrasts import Comparison, compare, difference
from detector.lab.plan import Plan
from detector.lab.records import TrialChoice, confounders, last_metric, read_records
from detector.lab.results import (
    Amendment,
    Difference,
    Results,
    RunnerTime,
    SeedBootstrap,
    Tuning,
    VariantResult,
)
from detector.lab.statistics import Interval, summarize
from detector.lab.sweep import Outcome, Run
from detector.lab.variants import Variant
from detector.report.numbers import probability

HALF_A_POINT = 0.005  # of AP
RESAMPLES = 1000  # each end of a 95 % interval then rests on 25 of them
NOTHING_KNOWN = {"n": 0, "mean": None, "standard_deviation": None, "interval": None}
MetricBySeed = Mapping[int, float | None]


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
    metrics = _metrics(plan, output, outcomes)
    tunings = _tunings(plan, choices, metrics)
    added = {variant.tuned_name for variant in plan.variants if variant.name in choices}
    differences = _differences(plan, metrics, uncorrected=added)
    trained = [
        VariantResult(
            name=variant.name,
            question=variant.question,
            published=variant.published,
            changes=plan.differences(variant),
            values=metrics[variant.name],
            **_summary(metrics[variant.name]),
            difference=differences.get(variant.name),
            confounders=_confounders(variant, outcomes),
            tuning=tunings.get(variant.name),
        )
        for variant in plan.variants
    ]
    external = [
        _external(one.name, metrics[one.name], differences.get(one.name)) for one in plan.external
    ]
    return Results(
        ablation=str(plan.file),
        metric=plan.metric,
        baseline=plan.baseline,
        seeds=plan.seeds,
        variants=(*trained, *external),
        failed_trials=_failed_trials(outcomes, metrics),
        seconds={run.name: outcome.seconds for run, outcome in outcomes.items()},
        runner=runner,
        contrasts=plan.contrasts,
        margin=plan.margin,
        amendments=tuple(amendments),
    )


def _failed_trials(outcomes: Mapping[Run, Outcome], reported: Collection[str]) -> tuple[str, ...]:
    return tuple(
        run.name
        for run, outcome in outcomes.items()
        if run.variant not in reported and outcome.code != 0 and not run.diverged
    )


def _metrics(
    plan: Plan, output: Path, outcomes: Mapping[Run, Outcome]
) -> dict[str, dict[int, float | None]]:
    """The figures of each variant by seed; None of a run that failed."""
    metrics: dict[str, dict[int, float | None]] = {name: {} for name in plan.names}
    for run, outcome in outcomes.items():
        if run.variant in metrics:
            value = last_metric(run.directory, plan.metric) if outcome.trained else None
            metrics[run.variant][run.seed] = value
    for external in plan.external:
        for seed in external.files:
            directory = external_run(output, external.name, seed)
            metrics[external.name][seed] = last_metric(directory, plan.metric)
    return metrics


def _external(name: str, values: MetricBySeed, difference: Difference | None) -> VariantResult:
    return VariantResult(
        name=name,
        question="detections of another detector",
        published=None,
        changes={},
        values=values,
        **_summary(values),
        difference=difference,
        confounders={**confounders([]), "score_threshold": None},
        tuning=None,
    )


def results_table(results: Results) -> str:
    """Markdown, one row a variant."""
    lines = [
        f"| variant | {results.metric} | 95 % interval "
        "| difference | 95 % interval | p (corrected) |",
        "|---|---|---|---|---|---|",
    ]
    for variant in results.variants:
        difference, seeds = variant.difference, len(results.seeds)
        p = difference.p_holm if difference else None
        cells = [
            variant.name + (f" ({variant.n} of {seeds} seeds)" if variant.n < seeds else ""),
            "" if variant.mean is None else f"{variant.mean:.3f}",
            _interval(variant.interval),
            f"{difference.mean:+.3f}" if difference else "",
            _interval(difference.interval, sign="+") if difference else "",
            "" if p is None else probability(p),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def bootstraps(
    directories: Mapping[tuple[str, int], Path], baseline: str, say: Callable[[str], None]
) -> list[SeedBootstrap]:
    """Comparisons in AP by variant and seed: what one seed's difference owes to the images.

    directories: of the runs that are finished and diagnosed, by variant and seed. A validation set
    of one image or without boxes has no comparison. One of runs with other images, classes or boxes
    is left out, and `say` gets the reason.
    """
    compared = []
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
                say(f"no bootstrap of {variant}, seed {seed}: {error}")
                continue
            pair = paired_draws(base, resample(second.matches(), resamples=RESAMPLES))
            compared.append(
                SeedBootstrap(variant, seed, pair.difference, pair.interval, pair.p, pair.lacking)
            )
    return compared


def _interval(interval: Interval | None, *, sign: str = "") -> str:
    return f"{interval.low:{sign}.3f} to {interval.high:{sign}.3f}" if interval else ""


def _summary(values: MetricBySeed) -> dict[str, Any]:
    known = [value for value in values.values() if value is not None]
    return dict(vars(summarize(known))) if known else NOTHING_KNOWN


def _differences(
    plan: Plan, metrics: Mapping[str, MetricBySeed], *, uncorrected: Collection[str] = ()
) -> dict[str, Difference]:
    """Of each variant in `metrics` from the baseline, where both have a seed in common.

    The correction is over all of them but those `uncorrected`, each of which is a family alone.
    """
    # a seed that failed in either leaves its pair out: the other half is worth nothing alone
    known = {
        name: {seed: value for seed, value in values.items() if value is not None}
        for name, values in metrics.items()
    }
    if plan.baseline not in known:
        return {}
    others = [name for name in known if name != plan.baseline]
    families = [[name for name in others if name not in uncorrected]]
    families += [[name] for name in others if name in uncorrected]
    differences = {}
    for family in families:
        declared = [difference(name, plan.baseline) for name in family]
        tests = compare(known, declared, worst=None, margin=HALF_A_POINT)
        for name, one in zip(family, tests, strict=True):
            if one.values:
                p = one.test.p if one.test and name not in uncorrected else None
                differences[name] = _difference(one, p_holm=p)
    return {name: differences[name] for name in others if name in differences}


def _difference(comparison: Comparison, *, p_holm: float | None) -> Difference:
    test, needed = comparison.test, comparison.needed
    summary = vars(summarize(comparison.values)) | {"interval": test.interval if test else None}
    return Difference(
        **summary,
        differences=comparison.values,
        p=test.p_alone if test else None,
        p_holm=p_holm,
        seeds_for_half_a_point=needed.n if needed else None,
    )


def _confounders(variant: Variant, outcomes: Mapping[Run, Outcome]) -> dict[str, float | None]:
    records = [
        read_records(run.directory / "metrics.jsonl")
        for run, outcome in outcomes.items()
        if run.variant == variant.name and outcome.trained
    ]
    return {**confounders(records), "score_threshold": variant.config.postprocess.score}


def _tunings(
    plan: Plan, choices: Mapping[str, TrialChoice], metrics: Mapping[str, MetricBySeed]
) -> dict[str, Tuning]:
    """By the name of the variant that tunes; the differences are between best values."""
    tuning = [variant for variant in plan.variants if variant.name in choices]
    best = {
        v.name: metrics.get(v.tuned_name, metrics[v.name]) for v in tuning if choices[v.name].trial
    }
    differences = _differences(plan, best)
    tunings = {}
    for v in tuning:
        choice = choices[v.name]
        tunings[v.name] = Tuning(
            keys={
                key: _distinct([trial.values[key] for trial in v.trials])
                for key in v.trials[0].values
            },
            values=choice.values,
            chosen=choice.trial.values if choice.trial else None,
            at_edge=choice.at_edge,
            lead=choice.lead,
            tuned_variant=v.tuned_name if v.tuned_name in metrics else None,
            difference=differences.get(v.name),
        )
    return tunings


def _distinct(values: Sequence[Any]) -> tuple[Any, ...]:
    """In order; not a set, for lists among them cannot be hashed."""
    return tuple(value for index, value in enumerate(values) if value not in values[:index])
