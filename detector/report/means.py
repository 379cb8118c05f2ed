"""Over the seeds: the numbers that the pictures draw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.evaluation.calibration import chance_d_ece
from detector.report.diagnosis import Bin, ClassFigure, Diagnosis, Histogram
from detector.report.story import Run

POINTS = 100  # of a curve over time, at most
GROUPS = ("positives", "hard_negatives", "easy_negatives")
# Shares of the anchors at which cumulative losses are averaged: finer where the hard ones are.
PLACES = np.concatenate([np.linspace(0, 0.9, 46)[:-1], 1 - np.logspace(-1, -5, 81), [1.0]])


@dataclass(frozen=True)
class Curve:
    """Mean, lowest and highest of the seeds at each place."""

    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def validation_curve(runs: Sequence[Run], metric: str) -> Curve:
    """The metric over epochs, at each epoch of those runs that have it."""
    return curve_of([points(run, f"validation/{metric}") for run in runs])


def share_curves(runs: Sequence[Run], quantity: str) -> dict[str, Curve]:
    """By group, its share of `quantity` (loss or gradient) over epochs; without one, empty."""
    curves = {
        group: thinned(curve_of([points(run, f"{quantity}_share/{group}") for run in runs]))
        for group in GROUPS
    }
    return curves if all(curve.x for curve in curves.values()) else {}


def points(run: Run, key: str) -> list[tuple[float, float]]:
    """(epoch, value) of the records that hold a number under `key`."""
    return [(r["epoch"], r[key]) for r in run.records if r.get(key) is not None]


def curve_of(series: Sequence[Sequence[tuple[float, float]]]) -> Curve:
    """One series a run."""
    found: dict[float, list[float]] = defaultdict(list)
    for one in series:
        for x, y in one:
            found[x].append(y)
    places = sorted(found)
    return Curve(
        tuple(places),
        tuple(float(np.mean(found[x])) for x in places),
        tuple(min(found[x]) for x in places),
        tuple(max(found[x]) for x in places),
    )


def thinned(curve: Curve) -> Curve:
    """At most POINTS points, each the mean of as many neighbours."""
    size = -(-len(curve.x) // POINTS)
    if size < 2:
        return curve
    parts = [range(k, min(k + size, len(curve.x))) for k in range(0, len(curve.x), size)]
    lines = (curve.x, curve.mean, curve.low, curve.high)
    return Curve(*(tuple(float(np.mean([y[k] for k in part])) for part in parts) for y in lines))


def cumulative_loss(
    diagnoses: Sequence[Diagnosis], term: str, side: str
) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean share of the loss at PLACES, both (P,); None where no diagnosis has it."""
    shares = [share for d in diagnoses if (share := d.losses.get(term, {}).get(side))]
    if not shares:
        return None
    curves = [np.interp(PLACES, share.anchors, share.loss) for share in shares]
    return PLACES, np.mean(curves, axis=0)


def hardest(diagnoses: Sequence[Diagnosis], term: str, side: str) -> dict[float, float]:
    """Share of the anchors -> mean share of the loss that the hardest so many have."""
    found: dict[float, list[float]] = defaultdict(list)
    for diagnosis in diagnoses:
        share = diagnosis.losses.get(term, {}).get(side)
        for part, value in share.hardest.items() if share else ():
            found[part].append(value)
    return {part: float(np.mean(found[part])) for part in sorted(found)}


def pooled_bins(diagnoses: Sequence[Diagnosis], stage: str) -> list[Bin]:
    """The detections of all runs together, bin by bin."""
    runs = [d.calibration[stage].bins for d in diagnoses if stage in d.calibration]
    return [_pooled(column) for column in zip(*runs, strict=True)]


def _pooled(bins: Sequence[Bin]) -> Bin:
    full = [b for b in bins if b.count and b.score is not None and b.precision is not None]
    count = sum(b.count for b in full)
    if not full:
        return Bin(0, None, None)
    score = sum(b.count * (b.score or 0.0) for b in full) / count
    return Bin(count, score, sum(b.count * (b.precision or 0.0) for b in full) / count)


def fitted(diagnoses: Sequence[Diagnosis], stage: str, name: str) -> float | None:
    """Mean of d_ece, detections, temperature, slope or intercept."""
    found = [d.calibration[stage] for d in diagnoses if stage in d.calibration]
    values = [{**r.fitted, "d_ece": r.d_ece, "detections": r.detections}[name] for r in found]
    return float(np.mean(values)) if values else None


def temperatures(diagnoses: Sequence[Diagnosis]) -> tuple[float, float] | None:
    """The lowest and the highest that was fitted: a mean would hide one at the end of its range."""
    scaled = [d.calibration["temperature"] for d in diagnoses if "temperature" in d.calibration]
    found = [one.fitted["temperature"] for one in scaled]
    return (min(found), max(found)) if found else None


def least_d_ece(diagnoses: Sequence[Diagnosis]) -> float | None:
    """Mean over the runs of what their detections would have if their scores were true."""
    found = [d.calibration["before"].bins for d in diagnoses if "before" in d.calibration]
    floors = [
        chance_d_ece([b.count for b in bins], [b.score or 0.0 for b in bins]) for bins in found
    ]
    return float(np.mean(floors)) if floors else None


def error_values(diagnoses: Sequence[Diagnosis], error: str) -> list[float]:
    """AP50 lost to an error, run by run."""
    return [d.errors[error] for d in diagnoses if error in d.errors]


def mean_histogram(diagnoses: Sequence[Diagnosis]) -> Histogram | None:
    """Anchors by score, a model's share; None without a histogram."""
    found = [d.histogram for d in diagnoses if d.histogram]
    if not found:
        return None
    return Histogram(
        found[0].edges,
        tuple(np.mean([h.foreground for h in found], axis=0).tolist()),
        tuple(np.mean([h.background for h in found], axis=0).tolist()),
    )


def class_means(diagnoses: Sequence[Diagnosis]) -> list[ClassFigure]:
    """Mean AP of each class in the order of the first run; -1 of a class without boxes is left."""
    found: dict[str, list[ClassFigure]] = defaultdict(list)
    for diagnosis in diagnoses:
        for entry in diagnosis.classes:
            if entry.average_precision >= 0:
                found[entry.name].append(entry)
    return [
        ClassFigure(
            name, same[0].training_boxes, sum(c.average_precision for c in same) / len(same)
        )
        for name, same in found.items()
    ]
