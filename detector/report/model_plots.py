"""Plots of trained models: where their loss lies, what their scores mean, what they miss.

Each is None where no run has what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from detector.evaluation.calibration import ReliabilityBin
from detector.report.diagnostics import ERRORS, SCALINGS
from detector.report.folder import AblationFolder
from detector.report.seed_means import (
    ANCHOR_KINDS,
    Xy,
    class_means,
    error_gains,
    mean_histogram,
    pooled_bins,
    recall_curve,
)
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

KIND_COLORS = {"foreground": BLUE, "background": ORANGE}
SCALING_STYLES = {
    "before": LineStyle(ORANGE, "o", "-"),
    "temperature": LineStyle(BLUE, "s", "--"),
    "platt": LineStyle(GREEN, "^", ":"),
}
SCALING_NAMES = {
    "before": "as they are",
    "temperature": "temperature scaling",
    "platt": "Platt scaling",
}
MIN_DETECTIONS = 10  # of a bin; the precision of fewer is chance


def cumulative_loss_plot(
    curves: Mapping[str, Mapping[str, Xy]], styles: Mapping[str, LineStyle]
) -> Figure | None:
    """By name and kind of anchor: share of the loss over share of the anchors.

    A third panel looks at the right end of the background's, where the hard anchors are.
    """
    curves = {name: kinds for name, kinds in curves.items() if kinds}
    if not curves:
        return None
    views = [(kind, kind, 0.0) for kind in ANCHOR_KINDS]
    if backgrounds := [kinds["background"] for kinds in curves.values() if "background" in kinds]:
        start = right_end(backgrounds)
        views.append(("background", f"background, the hardest {100 * (1 - start):g} %", start))
    figure = new_figure(3.0)
    grid = panels(figure, [title for _, title, _ in views], sharey=True)
    for axes, (kind, _, left) in zip(grid, views, strict=True):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.7, linestyle=":")
        for name, kinds in curves.items():
            if kind in kinds:
                _curve(axes, kinds[kind], styles[name])
        axes.set(xlim=(left, 1 + 0.01 * (1 - left)), ylim=(0, 1.01))
        axes.set_xlabel("share of the anchors, easy to hard")
        axes.locator_params(axis="x", nbins=5)
    grid[0].set_ylabel("share of their loss")
    legend(figure, {name: styles[name] for name in curves})
    return figure


def right_end(curves: Sequence[Xy]) -> float:
    """Where to begin so that at most a tenth of the loss lies before; 0.9, 0.99 or 0.999."""
    for start in (0.999, 0.99):
        if all(np.interp(start, *curve) <= 0.1 for curve in curves):
            return start
    return 0.9


def _curve(axes: Axes, curve: Xy, style: LineStyle) -> None:
    axes.plot(*curve, style.line, color=style.color, marker=style.marker, markersize=4.5,
              markevery=0.12, markeredgecolor=PAPER, markeredgewidth=0.5)  # fmt: skip


def reliability_plot(ablation: AblationFolder) -> Figure | None:
    """By variant and scaling: precision over score, above the number of detections."""
    bins = {v.name: {s: pooled_bins(v.diagnosed, s) for s in SCALINGS} for v in ablation.diagnosed}
    bins = {name: scalings for name, scalings in bins.items() if scalings["before"]}
    if not bins:
        return None
    lines = {
        (name, s): _line(own) for name, scalings in bins.items() for s, own in scalings.items()
    }
    highest = max((line.max() for line in lines.values() if line.size), default=1.0)
    top = min(1.0, math.ceil(10 * highest) / 10)
    figure = new_figure(0.25 + 2.05 * grid_shape(len(bins))[0])
    grid = panels(figure, list(bins), sharex=True, sharey=True)
    for axes, name in zip(grid, bins, strict=True):
        _counts(axes, bins[name]["before"], top)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.7)
        for scaling, style in SCALING_STYLES.items():
            axes.plot(*lines[name, scaling], style.line, lw=1,
                      color=style.color, marker=style.marker, markersize=3)  # fmt: skip
        axes.set(xlim=(0, top), ylim=(0, top), box_aspect=1)
        axes.locator_params(nbins=4)
    label_outer(grid, "score", "precision at IoU 0.5")
    legend(figure, {SCALING_NAMES[s]: style for s, style in SCALING_STYLES.items()})
    return figure


def _line(bins: Sequence[ReliabilityBin]) -> np.ndarray:
    """Score and precision (2, M) of the bins with at least MIN_DETECTIONS detections."""
    full = [(b.score, b.precision) for b in bins if b.count >= MIN_DETECTIONS]
    return np.array(full, dtype=float).reshape(-1, 2).T


def _counts(axes: Axes, bins: Sequence[ReliabilityBin], top: float) -> None:
    """Bars on the floor, the tallest a quarter of the panel's `top`; logarithmic."""
    heights = np.log10([1 + b.count for b in bins])
    edges = np.linspace(0, 1, len(bins) + 1)
    tallest = heights.max(initial=0.0) or 1.0  # all bins may be empty
    axes.bar(edges[:-1], 0.25 * top * heights / tallest, np.diff(edges), align="edge",
             color=MUTED, alpha=0.3)  # fmt: skip


def variant_error_plot(ablation: AblationFolder, styles: Mapping[str, LineStyle]) -> Figure | None:
    """By error and variant: bars of the mean, dots of the seeds."""
    variants = ablation.diagnosed
    gains = {error: [error_gains(v.diagnosed, error) for v in variants] for error in ERRORS}
    if not any(of_run for by_variant in gains.values() for of_run in by_variant):
        return None
    figure = new_figure(0.8 + 0.28 * len(variants))
    grid = panels(figure, ERRORS, 6, sharex=True, sharey=True)
    for axes, by_variant in zip(grid, gains.values(), strict=True):
        for y, (variant, values) in enumerate(zip(variants, by_variant, strict=True)):
            color = styles[variant.name].color
            if values:
                axes.barh(y, np.mean(values), 0.62, color=color, alpha=0.75)
                axes.plot(values, [y] * len(values), "o", color=color, markersize=3.5,
                          markeredgecolor=PAPER, markeredgewidth=0.7)  # fmt: skip
    name_rows(grid, [v.name for v in variants], width=24, ticks=3)
    figure.supxlabel("AP50 lost", fontsize=8)
    return figure


def recall_plot(ablation: AblationFolder, styles: Mapping[str, LineStyle]) -> Figure | None:
    """By variant: recall over false positives an image, on a logarithmic axis."""
    curves = {v.name: c for v in ablation.diagnosed if (c := recall_curve(v.diagnosed))}
    if not curves:
        return None
    figure = new_figure(3.2)
    axes = figure.subplots()
    for name, curve in curves.items():
        style = styles[name]
        axes.plot(*curve, style.line, color=style.color, marker=style.marker, markersize=4.5,
                  markeredgecolor=PAPER, markeredgewidth=0.5)  # fmt: skip
    axes.set(xscale="log", xlabel="false positives an image", ylabel="recall at IoU 0.5")
    axes.set_ylim(0, 1.01)
    axes.xaxis.set_major_formatter("{x:g}")
    legend(figure, {name: styles[name] for name in curves})
    return figure


def histogram_plot(ablation: AblationFolder) -> Figure | None:
    """By variant: anchors by score, counts on a logarithmic axis."""
    histograms = {v.name: h for v in ablation.diagnosed if (h := mean_histogram(v.diagnosed))}
    if not histograms:
        return None
    figure = new_figure(0.5 + 1.8 * grid_shape(len(histograms))[0])
    grid = panels(figure, list(histograms), sharex=True, sharey=True)
    for axes, histogram in zip(grid, histograms.values(), strict=True):
        for kind, color in reversed(KIND_COLORS.items()):
            counts = getattr(histogram, kind)
            # on a logarithmic axis a baseline of 0 would leave the area unfilled
            axes.stairs(counts, histogram.edges, baseline=0.5, fill=True, color=color, alpha=0.3)
            axes.stairs(counts, histogram.edges, baseline=None, color=color, linewidth=1.1)
        axes.set(yscale="log", xlim=(0, 1), xticks=[0, 0.5, 1])
        axes.set_ylim(bottom=0.5)  # below one anchor; a logarithmic axis has no 0
        axes.yaxis.set_major_formatter("{x:,.0f}")
    label_outer(grid, "score", "anchors")
    legend(figure, KIND_COLORS)
    return figure


def class_plot(ablation: AblationFolder, styles: Mapping[str, LineStyle]) -> Figure | None:
    """AP of each class over its number of training boxes, of those whose number is known."""
    means = {v.name: m for v in ablation.diagnosed if (m := class_means(v.diagnosed))}
    if not means:
        return None
    figure = new_figure(3.4)
    axes = figure.subplots()
    for name, classes in means.items():
        points = sorted((c.training_boxes, c.AP) for c in classes if c.training_boxes)
        x, y = [boxes for boxes, _ in points], [ap for _, ap in points]
        style = styles[name]
        axes.plot(x, y, style.line, color=style.color, lw=0.7, alpha=0.5)
        axes.plot(x, y, style.marker, color=style.color, markersize=5,
                  markeredgecolor=PAPER, markeredgewidth=0.6)  # fmt: skip
    # long-tailed data span decades; on less, a logarithmic axis would hardly have two ticks
    low, high = axes.dataLim.intervalx
    if high > 4 * low > 0:
        _count_axis(axes)
    axes.set(xlabel="training boxes of the class", ylabel="AP of the class")
    axes.set_ylim(bottom=0)
    legend(figure, {name: styles[name] for name in means})
    return figure


def _count_axis(axes: Axes) -> None:
    """Logarithmic, with numbers in full."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())  # those of less than a decade get numbers, too
    axes.xaxis.set_major_formatter("{x:,.0f}")
