"""Pictures of trained models: where their loss lies, what their scores mean, what they miss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from detector.report.diagnosis import Bin, ClassFigure, Histogram
from detector.report.ink import (
    COLORS,
    MUTED,
    PAPER,
    Look,
    drawing,
    look,
    name_outer,
    panels,
    rows_of,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDES = ("foreground", "background")
SIDE_COLORS = {"foreground": COLORS["c1"], "background": COLORS["c2"]}
STAGE_LOOKS = {
    "before": Look(COLORS["c2"], "o", "-"),
    "temperature": Look(COLORS["c1"], "s", "--"),
    "platt": Look(COLORS["c3"], "^", ":"),
}
FEWEST = 10  # detections; the precision of fewer is chance
Xy = tuple[np.ndarray, np.ndarray]


def cumulative_losses(
    curves: Mapping[str, Mapping[str, Xy | None]], looks: Mapping[str, Look], name: str
) -> str:
    """By name and side (foreground, background): share of the loss over share of the anchors.

    A third panel looks at the right end of the background's, where the hard anchors are.
    """
    backgrounds = [curve for sides in curves.values() if (curve := sides["background"]) is not None]
    start = right_end(backgrounds)
    views = [("foreground", "foreground", 0.0), ("background", "background", 0.0)]
    if backgrounds:
        views.append(("background", f"background, the hardest {100 * (1 - start):g} %", start))

    def draw(figure: Figure) -> None:
        grid = panels(figure, [title for _, title, _ in views], sharey=True)
        for axes, (side, _, left) in zip(grid, views, strict=True):
            axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.7, linestyle=":")
            for key, sides in curves.items():
                if (curve := sides[side]) is not None:
                    _cumulative(axes, curve, looks[key])
            axes.set(xlim=(left, 1 + 0.01 * (1 - left)), ylim=(0, 1.01))
            axes.set_xlabel("share of the anchors, easy to hard")
            axes.locator_params(axis="x", nbins=5)
        grid[0].set_ylabel("share of their loss")

    return drawing(name, 3.0, draw)


def right_end(curves: Sequence[Xy]) -> float:
    """Where to begin so that at most a tenth of the loss lies before; 0.9, 0.99 or 0.999."""
    for start in (0.999, 0.99):
        if all(np.interp(start, *curve) <= 0.1 for curve in curves):
            return start
    return 0.9


def _cumulative(axes: Axes, curve: Xy, own: Look) -> None:
    axes.plot(*curve, own.line, color=own.color, marker=own.marker, markersize=4.5,
              markevery=0.12, markeredgecolor=PAPER, markeredgewidth=0.5)  # fmt: skip


def term_looks(terms: Sequence[str]) -> dict[str, Look]:
    """Of losses that are measured on one model."""
    return {term: look(place) for place, term in enumerate(terms)}


def reliability(bins: Mapping[str, Mapping[str, Sequence[Bin]]]) -> str:
    """By variant and stage: precision over score, above the number of detections."""
    lines = {
        name: {stage: reliable_points(found) for stage, found in stages.items()}
        for name, stages in bins.items()
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
            for stage, line in lines[name].items():
                own = STAGE_LOOKS[stage]
                axes.plot(*zip(*line, strict=True) if line else ((), ()), own.line, lw=1,
                          color=own.color, marker=own.marker, markersize=3)  # fmt: skip
            axes.set(xlim=(0, top), ylim=(0, top), box_aspect=1)
            axes.locator_params(nbins=4)
        name_outer(grid, "score", "precision at IoU 0.5")

    return drawing("reliability", 0.25 + 2.05 * rows_of(len(bins))[0], draw)


def reliable_points(bins: Sequence[Bin]) -> list[tuple[float, float]]:
    """(score, precision) of the bins with at least FEWEST detections."""
    return [(b.score, b.precision) for b in bins if b.count >= FEWEST and b.score is not None
            and b.precision is not None]  # fmt: skip


def _counts(axes: Axes, bins: Sequence[Bin], top: float) -> None:
    """Bars on the floor, the tallest a quarter of the panel's `top`; logarithmic."""
    heights = [math.log10(1 + b.count) for b in bins]
    edges = np.linspace(0, 1, len(bins) + 1)
    tallest = max(heights, default=0.0) or 1.0
    axes.bar(edges[:-1], [0.25 * top * h / tallest for h in heights], np.diff(edges), align="edge",
             color=MUTED, alpha=0.3)  # fmt: skip


def errors(values: Mapping[str, Mapping[str, Sequence[float]]], looks: Mapping[str, Look]) -> str:
    """By error and variant: bars of the mean, dots of the seeds."""
    names = list(next(iter(values.values())))

    def draw(figure: Figure) -> None:
        grid = panels(figure, list(values), 6, sharex=True, sharey=True)
        for axes, by_variant in zip(grid, values.values(), strict=True):
            for place, (name, found) in enumerate(by_variant.items()):
                if not found:
                    continue
                axes.barh(place, np.mean(found), 0.62, color=looks[name].color, alpha=0.75)
                axes.plot(found, [place] * len(found), "o", color=looks[name].color, markersize=3.5,
                          markeredgecolor=PAPER, markeredgewidth=0.7)  # fmt: skip
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
            axes.locator_params(axis="x", nbins=3)
        grid[0].set(yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
        grid[0].set_yticklabels([wrapped(name, 24) for name in names])
        figure.supxlabel("AP50 lost", fontsize=8)

    return drawing("errors", 0.8 + 0.28 * len(names), draw)


def score_histograms(found: Mapping[str, Histogram]) -> str:
    """By variant: anchors by score, counts on a logarithmic axis."""
    rows = rows_of(len(found))[0]

    def draw(figure: Figure) -> None:
        grid = panels(figure, list(found), sharex=True, sharey=True)
        for axes, histogram in zip(grid, found.values(), strict=True):
            for side, counts in (
                ("background", histogram.background),
                ("foreground", histogram.foreground),
            ):
                color = SIDE_COLORS[side]
                axes.stairs(
                    counts, histogram.edges, baseline=0.5, fill=True, color=color, alpha=0.3
                )
                axes.stairs(counts, histogram.edges, baseline=None, color=color, linewidth=1.1)
            axes.set(yscale="log", xlim=(0, 1), xticks=[0, 0.5, 1])
            axes.set_ylim(bottom=0.5)
            axes.yaxis.set_major_formatter("{x:,.0f}")
        name_outer(grid, "score", "anchors")

    return drawing("score histograms", 0.5 + 1.8 * rows, draw)


def classes(found: Mapping[str, Sequence[ClassFigure]], looks: Mapping[str, Look]) -> str:
    """AP of each class over its number of training boxes, of those whose number is known."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for name, figures in found.items():
            points = sorted((c.training_boxes, c.average_precision) for c in figures
                            if c.training_boxes)  # fmt: skip
            x, y = [boxes for boxes, _ in points], [ap for _, ap in points]
            own = looks[name]
            axes.plot(x, y, own.line, color=own.color, lw=0.7, alpha=0.5)
            axes.plot(x, y, own.marker, color=own.color, markersize=5, markeredgecolor=PAPER,
                      markeredgewidth=0.6)  # fmt: skip
        low, high = axes.dataLim.intervalx
        if high > 4 * low > 0:
            _count_axis(axes)
        axes.set(xlabel="training boxes of the class", ylabel="AP of the class")
        axes.set_ylim(bottom=0)

    return drawing("AP of classes over training boxes", 3.4, draw)


def _count_axis(axes: Axes) -> None:
    """Logarithmic, with numbers in full."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:,.0f}")
