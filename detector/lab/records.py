"""What the records of a run's metrics.jsonl say: its metric, and what else differs from others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.errors import InputError
from detector.settings.training import is_coco_figure

CONFOUNDERS = {
    "clipped_share": "gradient/clipped_steps",
    "classification_loss": "loss/classification",
    "box_loss": "loss/box",
    "divisor": "divisor/classification",
    "gradient_norm": "gradient/norm",
}
Records = Sequence[Mapping[str, Any]]


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
    undefined = values[-1] is None or (values[-1] == -1 and is_coco_figure(metric))
    return None if undefined else float(values[-1])


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
