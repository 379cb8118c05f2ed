"""From the folders of an ablation's runs to its results and bootstrap, and these as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detector.cli.compare import check_same_truth, diagnosed_run
from detector.errors import InputError
from detector.lab.bootstrap import paired_draws, resample
from detector.lab.choice import Choice
from detector.lab.confounders import confounders
from detector.lab.plan import Plan, Variant, tuned_name
from detector.lab.results import (
    Difference,
    Results,
    RunnerTime,
    SeedBootstrap,
    Tuning,
    VariantResult,
    read_records,
)
from detector.lab.statistics import Interval, holm, paired, seeds_needed, summarize
from detector.lab.sweep import Outcome, Run
from detector.report.numbers import probability
from detector.settings.figures import is_coco_figure

RESAMPLES = 1000  # each end of a 95 % interval then rests on 25 of them
NOTHING_KNOWN = {"n": 0, "mean": None, "standard_deviation": None, "interval": None}
MetricBySeed = Mapping[int, float | None]


def collect_results(
    plan: Plan, outcomes: Mapping[Run, Outcome], choices: Mapping[str, Choice], runner: RunnerTime
) -> Results:
    """All results but for the bootstrap.

    plan: with the variants that tuning added. choices: by the name of the variant that tunes.
    InputError where a run that was trained has no metrics.jsonl, or not this metric in it.
    """
    metrics = {variant.name: _metrics(plan, variant, outcomes) for variant in plan.variants}
    variants = [
        _variant_result(plan, variant, metrics, choices, outcomes) for variant in plan.variants
    ]
    return Results(
        ablation=str(plan.file),
        metric=plan.metric,
        baseline=plan.baseline,
        seeds=plan.seeds,
        variants=_with_holm(variants, added={tuned_name(name) for name in choices}),
        failed_trials=tuple(
            run.name
            for run, outcome in outcomes.items()
            if run.variant not in metrics and outcome.code != 0 and not diverged(run)
        ),
        seconds={run.name: outcome.seconds for run, outcome in outcomes.items()},
        runner=runner,
    )


def last_metric(directory: Path, metric: str) -> float | None:
    """The metric at the last validation of a run; None if it was not finite there, or undefined.

    COCO writes -1 for an AP or AR of nothing; a loss or a metric of one's own may well be -1.
    """
    key = f"validation/{metric}"
    for record in reversed(_records(directory)):
        if key in record:
            undefined = record[key] is None or (record[key] == -1 and is_coco_figure(metric))
            return None if undefined else float(record[key])
    raise InputError(f"{directory}: metrics.jsonl has no {key}; name another metric.")


def diverged(run: Run) -> bool:
    """Whether the training left failure/: started again it would only diverge again."""
    return (run.directory / "failure").is_dir()


def results_table(results: Results) -> str:
    """Markdown, one row a variant."""
    lines = [
        f"| variant | {results.metric} | 95 % interval | difference | 95 % interval | p (Holm) |",
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


def _metrics(plan: Plan, variant: Variant, outcomes: Mapping[Run, Outcome]) -> MetricBySeed:
    return {
        run.seed: last_metric(run.directory, plan.metric) if outcome.trained else None
        for run, outcome in outcomes.items()
        if run.variant == variant.name
    }


def _variant_result(
    plan: Plan,
    variant: Variant,
    metrics: Mapping[str, MetricBySeed],
    choices: Mapping[str, Choice],
    outcomes: Mapping[Run, Outcome],
) -> VariantResult:
    """With p that is not corrected yet."""
    values, is_baseline = metrics[variant.name], variant.name == plan.baseline
    known = [value for value in values.values() if value is not None]
    summary: dict[str, Any] = dict(vars(summarize(known))) if known else NOTHING_KNOWN
    return VariantResult(
        name=variant.name,
        question=variant.question,
        published=variant.published,
        changes=plan.differences(variant),
        values=values,
        **summary,
        difference=None if is_baseline else _difference(values, metrics[plan.baseline]),
        confounders=_confounders(variant, outcomes),
        tuning=_tuning(plan, variant, metrics, choices),
    )


def _difference(values: MetricBySeed, baseline: MetricBySeed) -> Difference | None:
    # a seed that failed in either leaves its pair out: its other half is worth nothing by itself
    pairs = [
        (value, other)
        for seed, value in values.items()
        if value is not None and (other := baseline[seed]) is not None
    ]
    if not pairs:
        return None
    test = paired(*zip(*pairs, strict=True))
    seeds = seeds_needed(test.standard_deviation) if test.standard_deviation else None
    return Difference(**vars(test), p_holm=None, seeds_for_half_a_point=seeds)


def _with_holm(variants: Sequence[VariantResult], *, added: set[str]) -> tuple[VariantResult, ...]:
    """With p_holm over the declared variants, and over the tuned against the tuned baseline.

    A variant that tuning added against the untuned baseline is neither, and gets none.
    """
    declared = _corrected([None if v.name in added else v.difference for v in variants])
    tuned = _corrected([v.tuning.difference if v.tuning else None for v in variants])
    return tuple(
        replace(
            variant,
            difference=difference or variant.difference,
            tuning=variant.tuning and replace(variant.tuning, difference=of_tuned),
        )
        for variant, difference, of_tuned in zip(variants, declared, tuned, strict=True)
    )


def _corrected(differences: Sequence[Difference | None]) -> list[Difference | None]:
    adjusted = holm([difference.p if difference else None for difference in differences])
    pairs = zip(differences, adjusted, strict=True)
    return [difference and replace(difference, p_holm=p) for difference, p in pairs]


def _confounders(variant: Variant, outcomes: Mapping[Run, Outcome]) -> dict[str, float | None]:
    runs = [
        _records(run.directory)
        for run, outcome in outcomes.items()
        if run.variant == variant.name and outcome.trained
    ]
    return {**confounders(runs), "score_threshold": variant.config.postprocess.score}


def _tuning(
    plan: Plan,
    variant: Variant,
    metrics: Mapping[str, MetricBySeed],
    choices: Mapping[str, Choice],
) -> Tuning | None:
    choice, baseline = choices.get(variant.name), choices.get(plan.baseline)
    if choice is None:
        return None
    is_compared = (
        variant.name != plan.baseline and choice.trial and baseline is not None and baseline.trial
    )
    best, best_baseline = (
        metrics.get(tuned_name(name), metrics[name]) for name in (variant.name, plan.baseline)
    )
    keys = variant.trials[0].values
    return Tuning(
        keys={key: _distinct([trial.values[key] for trial in variant.trials]) for key in keys},
        values=choice.values,
        chosen=choice.trial.values if choice.trial else None,
        at_edge=choice.at_edge,
        lead=choice.lead,
        tuned_variant=variant.tuned_name if variant.tuned_name in metrics else None,
        difference=_difference(best, best_baseline) if is_compared else None,
    )


def _distinct(values: Sequence[Any]) -> tuple[Any, ...]:
    """In order; not a set, for lists among them cannot be hashed."""
    return tuple(value for index, value in enumerate(values) if value not in values[:index])


def _records(directory: Path) -> list[dict[str, Any]]:
    journal = directory / "metrics.jsonl"
    if not journal.is_file():
        raise InputError(f"{journal}: there is no such file; delete its folder to train again.")
    return read_records(journal)
