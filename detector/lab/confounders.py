"""Confounders: what else differs between variants, read from the records of their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

KEYS = {
    "clipped_share": "gradient/clipped_steps",
    "classification_loss": "loss/classification",
    "box_loss": "loss/box",
    "divisor": "divisor/classification",
    "gradient_norm": "gradient/norm",
}
Records = Sequence[Mapping[str, Any]]


def confounders(runs: Sequence[Records]) -> dict[str, float | None]:
    """Means over the last half of the training steps of each run, then over the runs.

    `runs` holds the lines of each one's metrics.jsonl. clipped_share: of the steps, those with a
    clipped gradient; classification_over_box: the ratio of the losses, each with its weight;
    divisor: of the classification loss; gradient_norm: of all parameters, before clipping. None
    where no run says.
    """
    means = {name: _mean([_late_mean(run, key) for run in runs]) for name, key in KEYS.items()}
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


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
