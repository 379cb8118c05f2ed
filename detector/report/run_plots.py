"""Plots of one run; each is None where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detector.evaluation.coco import CocoResult
from detector.report.diagnostics import ERRORS
from detector.report.result_plots import GROUP_COLORS, areas
from detector.report.run_evaluation import RunEvaluation, best_score, score_curve
from detector.report.seed_means import ANCHOR_GROUPS, Curve, Xy, thinned
from detector.report.style import (
    BLUE,
    GREEN,
    MUTED,
    ORANGE,
    PAPER,
    LineStyle,
    grid_shape,
    label_outer,
    legend,
    name_rows,
    new_figure,
    panels,
)

Records = Sequence[Mapping[str, Any]]
MAX_POINTS = 200  # of a curve over the score
TRAINING, VALIDATION = LineStyle(BLUE, "", "-"), LineStyle(ORANGE, "o", "-")
LOSSES = {"total": "loss", "classification": "loss/classification", "box": "loss/box"}
PRECISIONS = {
    "AP": LineStyle(BLUE, "o", "-"),
    "AP50": LineStyle(ORANGE, "s", "--"),
    "AP75": LineStyle(GREEN, "^", ":"),
}
IOUS = {"AP": "IoU 0.50:0.95", "AP50": "IoU 0.50", "AP75": "IoU 0.75"}
WORTHS = {
    "precision": LineStyle(BLUE, "", "--"),
    "recall": LineStyle(ORANGE, "", ":"),
    "F1": LineStyle(GREEN, "", "-"),
}


def series(records: Records, key: str) -> Curve:
    """What stands under `key` over the steps, at most 100 points, each the mean of neighbours."""
    known = [(record["step"], record[key]) for record in records if record.get(key) is not None]
    steps, values = tuple(step for step, _ in known), tuple(value for _, value in known)
    return thinned(Curve(steps, values, values, values))


def origin_plot(records: Records) -> Figure | None:
    """The groups' shares of the classification loss, and of its gradient, over the steps."""
    kinds = {
        f"share of the {kind}": {g: series(records, f"{kind}_share/{g}") for g in ANCHOR_GROUPS}
        for kind in ("loss", "gradient")
    }
    if not any(groups["positives"].x for groups in kinds.values()):
        return None
    figure = new_figure(2.8)
    grid = panels(figure, list(kinds), sharey=True)
    for axes, groups in zip(grid, kinds.values(), strict=True):
        areas(axes, groups if groups["positives"].x else {})
        axes.set_xlabel("step")
        axes.locator_params(axis="x", integer=True, nbins=6)
    legend(figure, {g.replace("_", " "): color for g, color in GROUP_COLORS.items()})
    return figure


def loss_plot(records: Records) -> Figure | None:
    """The losses of training and validation over the steps."""
    if not series(records, "loss/total").x:
        return None
    figure = new_figure(2.7)
    grid = panels(figure, list(LOSSES))
    for axes, (name, validation) in zip(grid, LOSSES.items(), strict=True):
        _line(axes, series(records, f"loss/{name}"), TRAINING)
        _line(axes, series(records, f"validation/{validation}"), VALIDATION)
        _over_steps(axes)
    legend(figure, {"training": TRAINING, "validation": VALIDATION})
    return figure


def progress_plot(records: Records) -> Figure | None:
    """AP of each validation, and the learning rate, over the steps."""
    rate = series(records, "learning_rate")
    if not rate.x:
        return None
    figure = new_figure(2.7)
    left, right = panels(figure, ["average precision", "learning rate"])
    defined = [r for r in records if r.get("validation/AP", -1) != -1]
    for name, style in PRECISIONS.items():
        _line(left, series(defined, f"validation/{name}"), style)
    _line(right, rate, TRAINING)
    for axes in (left, right):
        axes.set_xlim(0, 1.02 * max(record["step"] for record in records))
        _over_steps(axes)
    legend(figure, PRECISIONS)
    return figure


def precision_plot(evaluation: RunEvaluation) -> Figure | None:
    """Of all classes: precision over recall, and what detections from a score on are worth."""
    curve = score_curve(evaluation.matches)
    result = evaluation.result
    shown = [k for k, boxes in enumerate(result.boxes.values()) if boxes]
    if not shown or not len(curve.scores):
        return None
    figure = new_figure(3.3)
    left, right = panels(figure, ["mean over classes", "all classes together, IoU 0.50"])
    means = result.precision[:, :, shown].mean(2)
    _over_recall(left, {"AP50": means[0], "AP75": means[5], "AP": means.mean(0)})
    left.set(xlabel="recall", ylabel="precision")
    for name, y in zip(WORTHS, (curve.precision, curve.recall, curve.f1), strict=True):
        style = WORTHS[name]
        right.plot(*_sparse(curve.scores, y), style.line, color=style.color, label=name)
    right.axvline(best_score(evaluation.matches), color=MUTED, linewidth=0.8)
    right.set(xlabel="score threshold", xlim=(0, 1), ylim=(0, 1.02))
    for axes in (left, right):
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3)
    return figure


def class_precision_plot(result: CocoResult, shown: Sequence[int]) -> Figure | None:
    """Precision over recall of some classes, by index, a panel each."""
    if not shown:
        return None
    figure = new_figure(0.3 + 1.7 * grid_shape(len(shown))[0])
    grid = panels(figure, [result.class_names[k] for k in shown], sharex=True, sharey=True)
    for axes, k in zip(grid, shown, strict=True):
        curves = result.precision[:, :, k]
        _over_recall(axes, {"AP50": curves[0], "AP75": curves[5]})
    label_outer(grid, "recall", "precision")
    legend(figure, {IOUS[name]: PRECISIONS[name]._replace(marker="") for name in ("AP50", "AP75")})
    return figure


def class_f1_plot(evaluation: RunEvaluation, shown: Sequence[int]) -> Figure | None:
    """F1 over the score of some classes, by index, a panel each, with a mark at the best."""
    if not shown:
        return None
    figure = new_figure(0.3 + 1.7 * grid_shape(len(shown))[0])
    grid = panels(figure, [evaluation.names[k] for k in shown], sharex=True, sharey=True)
    for axes, k in zip(grid, shown, strict=True):
        curve = score_curve(evaluation.matches, k)
        axes.plot(*_sparse(curve.scores, curve.f1), color=GREEN)
        if curve.best is not None:
            best = curve.scores[curve.best], curve.f1[curve.best]
            axes.plot(
                *best, "o", color=GREEN, markeredgecolor=PAPER, markeredgewidth=0.7, markersize=6
            )
        axes.set(xlim=(0, 1), ylim=(0, 1.04), xticks=[0, 0.5, 1])
    label_outer(grid, "score threshold", "F1")
    return figure


def error_plot(gains: Mapping[str, float | None]) -> Figure | None:
    """A bar for each kind of error: the AP50 that it costs."""
    known = {kind: gain for kind in ERRORS if (gain := gains[kind]) is not None}
    if not known:
        return None
    figure = new_figure(2.2)
    axes = figure.subplots()
    axes.barh(range(len(known)), list(known.values()), 0.62, color=BLUE)
    name_rows([axes], list(known), width=24, ticks=6)
    # at least this wide, as bars of nothing would be drawn around 0
    axes.set_xlim(min(0, *known.values()), max(0.01, 1.05 * max(known.values())))
    axes.set_xlabel("AP50 lost")
    return figure


def _over_steps(axes: Axes) -> None:
    axes.set_xlabel("step")
    axes.set_ylim(bottom=0)
    axes.locator_params(nbins=5)
    axes.locator_params(axis="x", integer=True)


def _line(axes: Axes, curve: Curve, style: LineStyle) -> None:
    axes.plot(curve.x, curve.mean, style.line, color=style.color, marker=style.marker,
              markeredgecolor=PAPER, markeredgewidth=0.5)  # fmt: skip


def _over_recall(axes: Axes, curves: Mapping[str, np.ndarray]) -> None:
    for name, precision in curves.items():
        style = PRECISIONS[name]
        recall = np.linspace(0, 1, len(precision))
        axes.plot(recall, precision, style.line, color=style.color, label=IOUS[name])
    axes.set(xlim=(0, 1), ylim=(0, 1.04), xticks=[0, 0.5, 1])


def _sparse(x: np.ndarray, y: np.ndarray) -> Xy:
    """At most MAX_POINTS of the points, the first and the last among them."""
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), MAX_POINTS)).round().astype(int))
    return x[chosen], y[chosen]
