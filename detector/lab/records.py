"""What the records of runs say: the metric, which trial is best by it, and confounders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.errors import InputError
from detector.lab.variants import Trial, Variant
from detector.settings.figures import LOSSES, is_coco_figure

CONFOUNDERS = {
    "clipped_share": "gradient/clipped_steps",
    "classification_loss": "loss/classification",
    "box_loss": "loss/box",
    "divisor": "divisor/classification",
    "gradient_norm": "gradient/norm",
}
Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class TrialChoice:
    """The best trial of one variant."""

    values: Mapping[str, float | None]  # of the metric, by trial; None of one that diverged
    trial: Trial | None  # the best; None where all diverged, or where it is not known yet
    lead: float | None  # of the best over the second, in the metric's unit; None: it is alone
    at_edge: tuple[str, ...]  # keys of which a still smaller or larger value may be better


def read_records(file: Path) -> list[dict[str, Any]]:
    """The records of a run's metrics.jsonl; none where there is no file."""
    if not file.is_file():
        return []
    # a run that is killed while it writes leaves a part of a line behind the last line end
    *whole, _ = file.read_text(encoding="utf-8", errors="replace").split("\n")
    return [json.loads(line) for line in whole if line]


def last_metric(directory: Path, metric: str) -> float | None:
    """The metric at the last validation of a run; None if it was not finite there, or undefined.

    COCO writes -1 for an AP or AR of nothing; a loss or a metric of one's own may well be -1.
    InputError where the run has no metrics.jsonl, or not this metric in it.
    """
    file, key = directory / "metrics.jsonl", f"validation/{metric}"
    if not file.is_file():
        raise InputError(f"{file}: there is no such file; delete its folder to train again.")
    values = [record[key] for record in read_records(file) if key in record]
    if not values:
        raise InputError(f"{directory}: metrics.jsonl has no {key}; name another metric.")
    return _defined(metric, values[-1])


def validations(directory: Path, metric: str) -> list[tuple[float, float | None]]:
    """Epoch and metric of every validation of a run; None as of last_metric."""
    key, records = f"validation/{metric}", read_records(directory / "metrics.jsonl")
    return [(record["epoch"], _defined(metric, record[key])) for record in records if key in record]


def _defined(metric: str, value: float | None) -> float | None:
    if value is None or (value == -1 and is_coco_figure(metric)):
        return None
    return float(value)


def choose(variant: Variant, values: Mapping[str, float | None], metric: str) -> TrialChoice:
    """The best trial by `values` of the metric; of equal ones the variant's own, else the first.

    A lead below the spread of seeds may be chance. At an edge is the smallest and the largest of at
    least three numbers.
    """
    sign = 1 if metric in LOSSES else -1
    known = [
        (sign * value, trial.config != variant.config, trial)
        for trial in variant.trials
        if (value := values[trial.name]) is not None
    ]
    if not known:
        return TrialChoice(values, None, None, ())
    (first, _, best), *others = sorted(known, key=lambda ranked: ranked[:2])
    lead = others[0][0] - first if others else None
    return TrialChoice(
        values, best, lead, tuple(key for key in best.values if _at_edge(key, variant, best))
    )


def _at_edge(key: str, variant: Variant, best: Trial) -> bool:
    values = [trial.values[key] for trial in variant.trials]
    numbers = {value for value in values if isinstance(value, int | float)}
    # of two values each is an edge, which says nothing
    return len(numbers) > 2 and best.values[key] in (min(numbers), max(numbers))


def confounders(runs: Sequence[Records]) -> dict[str, float | None]:
    """Means over the last half of the training steps of each run, then over the runs.

    `runs` holds the records of each one. clipped_share: of the steps, those with a clipped
    gradient; classification_over_box: the ratio of the losses, each with its weight; divisor: of
    the classification loss; gradient_norm: of all parameters, before clipping. None where no run
    says.
    """
    means: dict[str, float | None] = {}
    for name, key in CONFOUNDERS.items():
        known = [mean for run in runs if (mean := _late_mean(run, key)) is not None]
        means[name] = sum(known) / len(known) if known else None
    classification, box = means.pop("classification_loss"), means.pop("box_loss")
    ratio = None if classification is None or not box else classification / box
    return {**means, "classification_over_box": ratio}


def _late_mean(records: Records, key: str) -> float | None:
    """A record is the mean of the steps since the one before it."""
    training = [record for record in records if "loss/total" in record]
    total = weight = 0.0
    before = 0
    for record in training:
        steps, before = record["step"] - before, record["step"]
        value = record.get(key)
        if value is not None and 2 * record["step"] > training[-1]["step"]:
            total += steps * value
            weight += steps
    return total / weight if weight else None
