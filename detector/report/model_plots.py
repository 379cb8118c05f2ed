"""Plots of trained models: where their loss lies, what their scores mean, what they miss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from detector.evaluation.calibration import ReliabilityBin
from detector.report.diagnostics import ClassAP, Histogram
from detector.report.style import (
    BACKGROUND,
    LIGHT,
    MUTED,
    LineStyle,
    grid_shape,
    label_outer,
    line_style,
    panels,
    svg_plot,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ANCHOR_KINDS = ("foreground", "background")
KIND_COLORS = {"foreground": LIGHT["c1"], "background": LIGHT["c2"]}
SCALING_STYLES = {
    "before": LineStyle(LIGHT["c2"], "o", "-"),
    "temperature": LineStyle(LIGHT["c1"], "s", "--"),
    "platt": LineStyle(LIGHT["c3"], "^", ":"),
}
MIN_DETECTIONS = 10  # of a bin; the precision of fewer is chance
Xy = tuple[np.ndarray, np.ndarray]


def cumulative_loss_plot(
    curves: Mapping[str, Mapping[str, Xy | None]], styles: Mapping[str, LineStyle], name: str
) -> str:
    """By name and kind of anchor: share of the loss over share of the anchors.

    A third panel looks at the right end of the background's, where the hard anchors are.
    """
    backgrounds = [curve for kinds in curves.values() if (curve := kinds["background"]) is not None]
    start = right_end(backgrounds)
    views = [("foreground", "foreground", 0.0), ("background", "background", 0.0)]
    if backgrounds:
        views.append(("background", f"background, the hardest {100 * (1 - start):g} %", start))

    def draw(figure: Figure) -> None:
        grid = panels(figure, [title for _, title, _ in views], sharey=True)
        for axes, (kind, _, left) in zip(grid, views, strict=True):
            axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.7, linestyle=":")
            for key, kinds in curves.items():
                if (curve := kinds[kind]) is not None:
                    _cumulative(axes, curve, styles[key])
            axes.set(xlim=(left, 1 + 0.01 * (1 - left)), ylim=(0, 1.01))
            axes.set_xlabel("share of the anchors, easy to hard")
            axes.locator_params(axis="x", nbins=5)
        grid[0].set_ylabel("share of their loss")

    return svg_plot(name, 3.0, draw)


def right_end(curves: Sequence[Xy]) -> float:
    """Where to begin so that at most a tenth of the loss lies before; 0.9, 0.99 or 0.999."""
    for start in (0.999, 0.99):
        if all(np.interp(start, *curve) <= 0.1 for curve in curves):
            return start
    return 0.9


def _cumulative(axes: Axes, curve: Xy, style: LineStyle) -> None:
    axes.plot(*curve, style.line, color=style.color, marker=style.marker, markersize=4.5,
              markevery=0.12, markeredgecolor=BACKGROUND, markeredgewidth=0.5)  # fmt: skip


def loss_styles(losses: Sequence[str]) -> dict[str, LineStyle]:
    """Of losses that are measured on one model."""
    return {loss: line_style(index) for index, loss in enumerate(losses)}


def reliability_plot(bins: Mapping[str, Mapping[str, Sequence[ReliabilityBin]]]) -> str:
    """By variant and scaling: precision over score, above the number of detections."""
    lines = {
        name: {scaling: reliable_points(own) for scaling, own in scalings.items()}
        for name, scalings in bins.items()
    }
    highest = max(
        (max(xy) for s in lines.values() for line in s.values() for xy in line), default=1
    )
    top = min(1.0, math.ceil(10 * highest) / 10)

    def draw(figure: Figure) -> None:
        grid = panels(figure, list(bins), sharex=True, sharey=True)
        for axes, name in zip(grid, bins, strict=True):
            _counts(axes, bins[name]["before"], top)
            axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.7)
            for scaling, line in lines[name].items():
                style = SCALING_STYLES[scaling]
                axes.plot(*zip(*line, strict=True) if line else ((), ()), style.line, lw=1,
                          color=style.color, marker=style.marker, markersize=3)  # fmt: skip
            axes.set(xlim=(0, top), ylim=(0, top), box_aspect=1)
            axes.locator_params(nbins=4)
        label_outer(grid, "score", "precision at IoU 0.5")

    return svg_plot("reliability", 0.25 + 2.05 * grid_shape(len(bins))[0], draw)


def reliable_points(bins: Sequence[ReliabilityBin]) -> list[tuple[float, float]]:
    """(score, precision) of the bins with at least MIN_DETECTIONS detections."""
    full = [b for b in bins if b.count >= MIN_DETECTIONS]
    return [(b.score, b.precision) for b in full if b.score is not None and b.precision is not None]


def _counts(axes: Axes, bins: Sequence[ReliabilityBin], top: float) -> None:
    """Bars on the floor, the tallest a quarter of the panel's `top`; logarithmic."""
    heights = [math.log10(1 + b.count) for b in bins]
    edges = np.linspace(0, 1, len(bins) + 1)
    tallest = max(heights, default=0.0) or 1.0  # all bins may be empty
    axes.bar(edges[:-1], [0.25 * top * h / tallest for h in heights], np.diff(edges), align="edge",
             color=MUTED, alpha=0.3)  # fmt: skip


def error_plot(
    values: Mapping[str, Mapping[str, Sequence[float]]], styles: Mapping[str, LineStyle]
) -> str:
    """By error and variant: bars of the mean, dots of the seeds."""
    names = list(next(iter(values.values())))

    def draw(figure: Figure) -> None:
        grid = panels(figure, list(values), 6, sharex=True, sharey=True)
        for axes, by_variant in zip(grid, values.values(), strict=True):
            for y, (name, gains) in enumerate(by_variant.items()):
                if not gains:
                    continue
                color = styles[name].color
                axes.barh(y, np.mean(gains), 0.62, color=color, alpha=0.75)
                axes.plot(gains, [y] * len(gains), "o", color=color, markersize=3.5,
                          markeredgecolor=BACKGROUND, markeredgewidth=0.7)  # fmt: skip
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
            axes.locator_params(axis="x", nbins=3)
        grid[0].set(yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
        grid[0].set_yticklabels([wrapped(name, 24) for name in names])
        figure.supxlabel("AP50 lost", fontsize=8)

    return svg_plot("errors", 0.8 + 0.28 * len(names), draw)


def histogram_plot(histograms: Mapping[str, Histogram]) -> str:
    """By variant: anchors by score, counts on a logarithmic axis."""
    rows = grid_shape(len(histograms))[0]

    def draw(figure: Figure) -> None:
        grid = panels(figure, list(histograms), sharex=True, sharey=True)
        for axes, histogram in zip(grid, histograms.values(), strict=True):
            for kind in reversed(ANCHOR_KINDS):
                counts, color = getattr(histogram, kind), KIND_COLORS[kind]
                # on a logarithmic axis a baseline of 0 would leave the area unfilled
                axes.stairs(
                    counts, histogram.edges, baseline=0.5, fill=True, color=color, alpha=0.3
                )
                axes.stairs(counts, histogram.edges, baseline=None, color=color, linewidth=1.1)
            axes.set(yscale="log", xlim=(0, 1), xticks=[0, 0.5, 1])
            axes.set_ylim(bottom=0.5)  # below one anchor; a logarithmic axis has no 0
            axes.yaxis.set_major_formatter("{x:,.0f}")
        label_outer(grid, "score", "anchors")

    return svg_plot("score histograms", 0.5 + 1.8 * rows, draw)


def class_plot(by_variant: Mapping[str, Sequence[ClassAP]], styles: Mapping[str, LineStyle]) -> str:
    """AP of each class over its number of training boxes, of those whose number is known."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for name, classes in by_variant.items():
            points = sorted((c.training_boxes, c.AP) for c in classes if c.training_boxes)
            x, y = [boxes for boxes, _ in points], [ap for _, ap in points]
            style = styles[name]
            axes.plot(x, y, style.line, color=style.color, lw=0.7, alpha=0.5)
            axes.plot(x, y, style.marker, color=style.color, markersize=5,
                      markeredgecolor=BACKGROUND, markeredgewidth=0.6)  # fmt: skip
        # long-tailed data span decades; on less, a logarithmic axis would hardly have two ticks
        low, high = axes.dataLim.intervalx
        if high > 4 * low > 0:
            _count_axis(axes)
        axes.set(xlabel="training boxes of the class", ylabel="AP of the class")
        axes.set_ylim(bottom=0)

    return svg_plot("AP of classes over training boxes", 3.4, draw)


def _count_axis(axes: Axes) -> None:
    """Logarithmic, with numbers in full."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(
        NullLocator()
    )  # minor ticks of less than a decade get numbers, too
    axes.xaxis.set_major_formatter("{x:,.0f}")
