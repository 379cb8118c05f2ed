"""What tables and sentences of the page hold beyond the results themselves; page.html.j2 calls it.

Rows are a name and its cells as text; all means are over seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from detector.evaluation.calibration import ReliabilityBin, chance_d_ece
from detector.report.diagnostics import ERRORS, OWN, CalibrationReport
from detector.report.folder import AblationFolder, RunResult
from detector.report.numbers import NONE, decimal, interval, percent
from detector.report.seed_means import (
    ANCHOR_KINDS,
    class_means,
    error_gains,
    hardest,
    other_losses,
)
from detector.settings.ablation import changing_measure

NOT_COMPARED = {"command", "started"}
Rows = list[list[str]]


def changed_measure(ablation: AblationFolder) -> list[str]:
    """Keys that differ between the variants and make the metric another one."""
    changed = {key for v in ablation.variants for key in v.changes}
    return list(changing_measure(ablation.metric, changed))


def hardest_anchors(ablation: AblationFolder) -> tuple[list[str], Rows]:
    """Head and rows: of each variant's own loss, and of the others on the baseline's models."""
    baseline = ablation.variant(ablation.baseline)
    losses = [(v.name, v, OWN) for v in ablation.diagnosed]
    losses += [(f"{baseline.name}, {loss}", baseline, loss) for loss in other_losses(baseline)]
    shares = {
        (name, kind): hardest(variant.diagnosed, loss, kind)
        for name, variant, loss in losses
        for kind in ANCHOR_KINDS
    }
    parts = sorted({part for by_part in shares.values() for part in by_part})
    columns = [(kind, part) for kind in ANCHOR_KINDS for part in parts]
    head = ["variant, loss", *(f"{kind}: hardest {100 * part:g} %" for kind, part in columns)]
    rows = [
        [name, *(percent(shares[name, kind].get(part)) for kind, part in columns)]
        for name, _, _ in losses
    ]
    return head, rows if parts else []


def calibration(ablation: AblationFolder) -> Rows:
    """D-ECE under each scaling and by chance, what was fitted, and the number of detections."""
    reports = {v.name: [d.calibration for d in v.diagnosed if d.calibration]
               for v in ablation.diagnosed}  # fmt: skip
    return [[name, *_calibration(of_runs)] for name, of_runs in reports.items() if of_runs]


def _calibration(reports: Sequence[CalibrationReport]) -> list[str]:
    runs = [
        (
            r.before.d_ece, r.temperature.d_ece, r.platt.d_ece, _chance(r.before.bins),
            r.platt.slope, r.platt.intercept, r.before.detections,
        )
        for r in reports
    ]  # fmt: skip
    *d_ece, slope, intercept, detections = np.mean(runs, axis=0).tolist()
    # the ends: a mean would hide a temperature at the end of its range
    temperatures = [r.temperature.temperature for r in reports]
    ends = interval((min(temperatures), max(temperatures)))
    return [*map(decimal, d_ece), ends, decimal(slope), decimal(intercept), f"{detections:.0f}"]


def _chance(bins: Sequence[ReliabilityBin]) -> float:
    """The D-ECE that so many detections would have if their scores were true."""
    return chance_d_ece([b.count for b in bins], [b.score or 0.0 for b in bins])


def errors(ablation: AblationFolder) -> tuple[list[str], Rows]:
    """Head and rows: AP50 lost to each kind of error."""
    gains = {v.name: [error_gains(v.diagnosed, e) for e in ERRORS] for v in ablation.diagnosed}
    rows = [[name, *(decimal(fmean(g) if g else None) for g in own)] for name, own in gains.items()]
    return ["variant", *ERRORS], rows


def classes(ablation: AblationFolder) -> tuple[list[str], Rows]:
    """Head and rows: AP of each class under each variant, the rarest class first."""
    means = {v.name: m for v in ablation.diagnosed if (m := class_means(v.diagnosed))}
    boxes = {c.name: c.training_boxes for of_variant in means.values() for c in of_variant}
    ap = {(name, c.name): c.AP for name, of_variant in means.items() for c in of_variant}
    rows = [
        [name, NONE if count is None else str(count), *(decimal(ap.get((v, name))) for v in means)]
        for name, count in sorted(boxes.items(), key=lambda item: (item[1] or 0, item[0]))
    ]
    return ["class", "training boxes", *means], rows


def environment(runs: Sequence[RunResult]) -> Rows:
    """The one value that all runs have of a key, or each with the number of runs that have it.

    Of a run that was resumed under another: both.
    """
    rows = []
    for key in dict.fromkeys(key for run in runs for key in run.environment):
        values = Counter(_in_turn(run, key) for run in runs if key in run.environment)
        several = "; ".join(f"{text} ({count} runs)" for text, count in values.items())
        rows.append([key, several if len(values) > 1 else next(iter(values))])
    return [row for row in rows if row[0] not in NOT_COMPARED]


def _in_turn(run: RunResult, key: str) -> str:
    values = [environment.get(key) for environment in (run.environment, *run.resumptions)]
    return ", then ".join(dict.fromkeys(map(_text, values)))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)
