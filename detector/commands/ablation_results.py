"""What the runs of an ablation found: results.json and its table.

A figure that is not known, of a failed run for example, is null. In results.json:

    ablation            the file that describes it
    metric, baseline, seeds   those of the ablation
    variants            a list, the tuned ones at its end; of each:
        name, question
        published       null, or value (a fraction) and source
        changes         key -> [the baseline's value, its own]
        values          seed -> the metric at the last validation; null: the training failed, or
                        the metric is undefined there (AP of a class without boxes)
        n, mean, standard_deviation, interval   of these values; the 95 % t-interval of the mean
        difference      from the baseline (of which it is null), over the seeds that both have:
            n, mean, standard_deviation, interval, differences   as above, and one by one
            p, p_holm   of the paired t-test; corrected over the declared variants (Holm), and
                        null of a tuned variant, whose baseline is not tuned here
            seeds_for_half_a_point   pairs that find a difference of 0.005 with a power of 80 %
        confounders     means over the last half of the training and over the seeds:
            clipped_share   of the steps, those with a clipped gradient
            classification_over_box   the one loss over the other, each with its weight
            divisor     of the classification loss
            gradient_norm   of all parameters, before clipping
            score_threshold   postprocess.score
        tuning          null where nothing is tuned, or
            keys        key -> the values that were tried
            values      combination -> the metric on the images set aside; null: it diverged, or
                        the metric is undefined there
            chosen      key -> the best value; null where no combination has one
            at_edge     keys whose chosen value is the smallest or the largest of three or more
            lead        of the best value over the second best, at least 0; null: it is alone
            tuned_variant   name of the variant with the chosen values; null where they are its own
            difference  of the variant at its chosen values from the baseline at its own, as above
                        with p_holm over these differences; null of the baseline, and where either
                        of the two is not tuned, or has no chosen values
    failed_trials       a list of the names of the trials that failed, but for those that diverged;
                        the tuning of their variant is null
    bootstrap           a list, of each variant and seed: variant, seed, and difference in AP from
                        the baseline of that seed with the 95 % interval and p of a paired bootstrap
                        over the validation images, and lacking: the share of the resamples without
                        a box of some class; absent until it is computed
    seconds             run -> seconds of its processes, without those that were killed or stopped;
                        null of a trial that diverged in an earlier call
    runner              workers, wall, busy, idle (seconds; busy and idle are sums over the workers,
                        idle after a worker's last run) and overhead: what the runner itself took
                        while runs were in progress, as a share of busy; of the last call that had
                        anything left to run
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detector.errors import InputError
from detector.lab.confounders import confounders
from detector.lab.plan import Plan, Variant, tuned_name
from detector.lab.statistics import holm, paired, seeds_needed, summarize
from detector.lab.sweep import Account, Outcome, Run
from detector.lab.tuning import Choice
from detector.report.words import probability
from detector.settings.ablation import LOSSES

Values = Mapping[int, float | None]  # by seed


def results(
    plan: Plan, outcomes: Mapping[Run, Outcome], choices: Mapping[str, Choice], account: Account
) -> dict[str, Any]:
    """The content of results.json but for the bootstrap, as the module's docstring has it.

    `plan` holds the tuned variants, too; `choices` are by the name of the variant that tunes.
    """
    values = {v.name: _values(plan, v, outcomes) for v in plan.variants}
    variants = [
        _entry(plan, variant, values)
        | {"confounders": _confounders(variant, outcomes)}
        | {"tuning": _tuning(plan, variant, values, choices)}
        for variant in plan.variants
    ]
    tuned = {v.tuned_name for v in plan.variants if v.name in choices}
    _correct([entry["difference"] for entry in variants if entry["name"] not in tuned])
    _correct([entry["tuning"]["difference"] for entry in variants if entry["tuning"]])
    return {
        "ablation": str(plan.file),
        "metric": plan.metric,
        "baseline": plan.baseline,
        "seeds": list(plan.seeds),
        "variants": variants,
        "failed_trials": [
            run.name
            for run, outcome in outcomes.items()
            if run.variant not in values and outcome.code != 0 and not diverged(run)
        ],
        "seconds": {run.name: outcome.seconds for run, outcome in outcomes.items()},
        "runner": {**asdict(account), "overhead": account.overhead},
    }


def last_figure(directory: Path, metric: str) -> float | None:
    """The metric at the last validation of a run; None if it was not finite there, or undefined.

    COCO writes -1 for an AP or AR of nothing; a loss may well be -1.
    """
    key = f"validation/{metric}"
    for record in reversed(_records(directory)):
        if key in record:
            undefined = record[key] is None or (record[key] == -1 and metric not in LOSSES)
            return None if undefined else float(record[key])
    raise InputError(f"{directory}: metrics.jsonl has no {key}; name another metric.")


def diverged(run: Run) -> bool:
    """A training that left failure/ would only do so again."""
    return (run.directory / "failure").is_dir()


def table(found: Mapping[str, Any]) -> str:
    """Markdown: a row a variant."""
    lines = [
        f"| variant | {found['metric']} | 95 % interval | difference | 95 % interval | p (Holm) |",
        "|---|---|---|---|---|---|",
    ]
    for entry in found["variants"]:
        difference = entry["difference"] or {}
        few = f" ({entry['n']} of {len(found['seeds'])} seeds)"
        cells = [
            entry["name"] + (few if entry["n"] < len(found["seeds"]) else ""),
            _figure(entry["mean"]),
            _interval(entry),
            _figure(difference.get("mean"), sign="+"),
            _interval(difference, sign="+"),
            "" if difference.get("p_holm") is None else probability(difference["p_holm"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _values(plan: Plan, variant: Variant, outcomes: Mapping[Run, Outcome]) -> Values:
    return {
        run.seed: last_figure(run.directory, plan.metric) if outcome.trained else None
        for run, outcome in outcomes.items()
        if run.variant == variant.name
    }


def _entry(plan: Plan, variant: Variant, values: Mapping[str, Values]) -> dict[str, Any]:
    own = values[variant.name]
    whole = [value for value in own.values() if value is not None]
    differences = plan.differences(variant)
    published = variant.published
    return {
        "name": variant.name,
        "question": variant.question,
        "published": published.model_dump() if published else None,
        "changes": {key: list(pair) for key, pair in differences.items()},
        "values": {str(seed): value for seed, value in own.items()},
        **_summary(whole),
        "difference": None
        if variant.name == plan.baseline
        else _difference(own, values[plan.baseline]),
    }


def _summary(values: list[float]) -> dict[str, Any]:
    if values:
        return asdict(summarize(values))
    return {"n": 0, "mean": None, "standard_deviation": None, "interval": None}


def _correct(differences: list[dict[str, Any] | None]) -> None:
    """Write p_holm of all of them into each."""
    tested = [difference for difference in differences if difference]
    for difference, p in zip(tested, holm([one["p"] for one in tested]), strict=True):
        difference["p_holm"] = p


def _difference(own: Values, theirs: Values) -> dict[str, Any] | None:
    pairs = [(own[s], theirs[s]) for s in own if own[s] is not None and theirs[s] is not None]
    if not pairs:
        return None
    mine, base = zip(*pairs, strict=True)
    found = paired(list(mine), list(base))
    enough = seeds_needed(found.standard_deviation) if found.standard_deviation else None
    return {**asdict(found), "p_holm": None, "seeds_for_half_a_point": enough}


def _confounders(variant: Variant, outcomes: Mapping[Run, Outcome]) -> dict[str, float | None]:
    runs = [
        _records(run.directory)
        for run, outcome in outcomes.items()
        if run.variant == variant.name and outcome.trained
    ]
    return {**confounders(runs), "score_threshold": variant.config.postprocess.score}


def _tuning(
    plan: Plan, variant: Variant, values: Mapping[str, Values], choices: Mapping[str, Choice]
) -> dict[str, Any] | None:
    if variant.name not in choices:
        return None
    choice = choices[variant.name]
    tried = [trial.values for trial in variant.trials]
    other = choices.get(plan.baseline)
    compared = variant.name != plan.baseline and choice.trial and other and other.trial
    return {
        "keys": {key: _distinct([one[key] for one in tried]) for key in tried[0]},
        "values": dict(choice.values),
        "chosen": dict(choice.trial.values) if choice.trial else None,
        "at_edge": list(choice.at_edge),
        "lead": choice.lead,
        "tuned_variant": variant.tuned_name if variant.tuned_name in values else None,
        "difference": _difference(
            *(values.get(tuned_name(name), values[name]) for name in (variant.name, plan.baseline))
        )
        if compared
        else None,
    }


def _distinct(values: list[Any]) -> list[Any]:
    """In order; they need not be hashable."""
    return [value for place, value in enumerate(values) if value not in values[:place]]


def _records(directory: Path) -> list[dict[str, Any]]:
    journal = directory / "metrics.jsonl"
    if not journal.is_file():
        raise InputError(f"{journal}: there is no such file; delete its folder to train again.")
    lines = journal.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _interval(entry: Mapping[str, Any], *, sign: str = "") -> str:
    ends = entry.get("interval")
    return "" if ends is None else f"{ends[0]:{sign}.3f} to {ends[1]:{sign}.3f}"


def _figure(value: float | None, *, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.3f}"
