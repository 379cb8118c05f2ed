"""Means over the seeds of a variant: the numbers that the plots and tables of models show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.evaluation.calibration import ReliabilityBin
from detector.lab.distribution import Shares
from detector.report.diagnostics import OWN, ClassDiagnosis, Diagnostics, Histogram
from detector.report.folder import ReportedVariant, RunResult

MAX_POINTS = 100  # of a curve over time
ANCHOR_KINDS = ("foreground", "background")
ANCHOR_GROUPS = ("positives", "hard_negatives", "easy_negatives")
# Shares of the anchors at which cumulative losses are averaged: finer where the hard ones are.
SHARE_GRID = np.concatenate([np.linspace(0, 0.9, 46)[:-1], 1 - np.logspace(-1, -5, 81), [1.0]])

Xy = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Curve:
    """Mean, lowest and highest of the seeds at each x."""

    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def share_curves(runs: Sequence[RunResult], quantity: str) -> dict[str, Curve]:
    """By group, its share of `quantity` (loss or gradient) over epochs; empty where not logged."""
    curves = {
        group: thinned(seed_curve(runs, f"{quantity}_share/{group}")) for group in ANCHOR_GROUPS
    }
    return curves if all(curve.x for curve in curves.values()) else {}


def points(run: RunResult, key: str) -> list[tuple[float, float]]:
    """(epoch, value) of the records that hold a number under `key`."""
    return [(r["epoch"], r[key]) for r in run.records if r.get(key) is not None]


def seed_curve(runs: Sequence[RunResult], key: str) -> Curve:
    """What stands under `key` over epochs, at each epoch of those runs that have it."""
    at_x: dict[float, list[float]] = defaultdict(list)
    for x, y in (point for run in runs for point in points(run, key)):
        at_x[x].append(y)
    xs = sorted(at_x)
    mean = (float(np.mean(at_x[x])) for x in xs)
    return Curve(
        tuple(xs), tuple(mean), tuple(min(at_x[x]) for x in xs), tuple(max(at_x[x]) for x in xs)
    )


def thinned(curve: Curve) -> Curve:
    """At most MAX_POINTS points, each the mean of equally many neighbours."""
    size = -(-len(curve.x) // MAX_POINTS)
    if size < 2:
        return curve
    parts = [range(k, min(k + size, len(curve.x))) for k in range(0, len(curve.x), size)]
    lines = (curve.x, curve.mean, curve.low, curve.high)
    return Curve(*(tuple(float(np.mean([y[k] for k in part])) for part in parts) for y in lines))


def other_losses(variant: ReportedVariant) -> list[str]:
    """The losses besides its own that were measured on a variant's models, gamma rising."""
    losses = {loss for d in variant.diagnosed for loss in d.loss_distribution if loss != OWN}
    return sorted(losses, key=lambda loss: float(loss.partition("=")[2] or 0))


def loss_curves(variant: ReportedVariant, loss: str) -> dict[str, Xy]:
    """By kind of anchor, of those that have a loss, its cumulative mean over the runs."""
    curves = {kind: cumulative_loss(variant.diagnosed, loss, kind) for kind in ANCHOR_KINDS}
    return {kind: curve for kind, curve in curves.items() if curve is not None}


def cumulative_loss(diagnosed: Sequence[Diagnostics], loss: str, kind: str) -> Xy | None:
    """Mean share of the loss at SHARE_GRID, both (P,); None where no diagnostics have it.

    kind: of the anchors, foreground or background.
    """
    shares = _shares(diagnosed, loss, kind)
    if not shares:
        return None
    # the diagnostics of runs may hold other points: only on one grid is there a mean
    curves = [np.interp(SHARE_GRID, share.anchors, share.loss) for share in shares]
    return SHARE_GRID, np.mean(curves, axis=0)


def hardest(diagnosed: Sequence[Diagnostics], loss: str, kind: str) -> dict[float, float]:
    """Share of the anchors -> mean share of the loss that so many of the hardest hold."""
    values: dict[float, list[float]] = defaultdict(list)
    for share in _shares(diagnosed, loss, kind):
        for part, held in share.hardest.items():
            values[float(part)].append(held)
    return {part: float(np.mean(held)) for part, held in sorted(values.items())}


def _shares(diagnosed: Sequence[Diagnostics], loss: str, kind: str) -> list[Shares]:
    return [share for d in diagnosed if (share := d.loss_distribution.get(loss, {}).get(kind))]


def pooled_bins(diagnosed: Sequence[Diagnostics], scaling: str) -> list[ReliabilityBin]:
    """The detections of all runs together, bin by bin."""
    runs = [getattr(d.calibration, scaling).bins for d in diagnosed if d.calibration]
    return [_pooled(column) for column in zip(*runs, strict=True)]


def _pooled(bins: Sequence[ReliabilityBin]) -> ReliabilityBin:
    full = [(b.count, b.score, b.precision) for b in bins if b.count]
    if not full:
        return ReliabilityBin(0, None, None)
    counts, *means = np.array(full, dtype=float).T
    # weighted by detections: a bin of one is not as sure as one of a thousand
    score, precision = (float(np.average(mean, weights=counts)) for mean in means)
    return ReliabilityBin(int(counts.sum()), score, precision)


def recall_curve(diagnosed: Sequence[Diagnostics]) -> Xy | None:
    """Mean recall over false positives an image, both (P,), as far as all that have a curve go."""
    curves = [dict(zip(d.froc.false_positives, d.froc.recall, strict=True))
              for d in diagnosed if d.froc]  # fmt: skip
    if not curves:
        return None
    means = {}
    for limit in curves[0]:
        recalls = [recall for curve in curves if (recall := curve.get(limit)) is not None]
        if len(recalls) == len(curves):
            means[limit] = float(np.mean(recalls))
    return np.array(list(means)), np.array(list(means.values()))


def error_gains(diagnosed: Sequence[Diagnostics], error: str) -> list[float]:
    """AP50 lost to an error, run by run."""
    return [gain for d in diagnosed if (gain := d.errors.get(error)) is not None]


def mean_histogram(diagnosed: Sequence[Diagnostics]) -> Histogram | None:
    """Anchors of one model by score; None without a histogram."""
    histograms = [d.score_histogram for d in diagnosed if d.score_histogram]
    if not histograms:
        return None
    kinds = ([h.foreground for h in histograms], [h.background for h in histograms])
    return Histogram(histograms[0].edges, *(np.mean(k, axis=0).tolist() for k in kinds))


def class_means(diagnosed: Sequence[Diagnostics]) -> list[ClassDiagnosis]:
    """Mean AP of each class in the order of the first run, without those that have no boxes."""
    by_name: dict[str, list[ClassDiagnosis]] = defaultdict(list)
    for entry in (entry for d in diagnosed for entry in d.classes if entry.AP >= 0):
        by_name[entry.name].append(entry)
    return [
        ClassDiagnosis(name, same[0].training_boxes, sum(entry.AP for entry in same) / len(same))
        for name, same in by_name.items()
    ]
