"""Plots of results and of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from detector.report.seed_means import Curve
from detector.report.style import (
    BACKGROUND,
    LETTERS,
    LIGHT,
    MUTED,
    TEXT,
    LineStyle,
    grid_shape,
    svg_plot,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ZOOM_RATIO = 3.0  # a variant that reaches so many times as far as the next has the rest drawn again
GROUP_COLORS = {
    "positives": LIGHT["c1"],
    "hard_negatives": LIGHT["c2"],
    "easy_negatives": MUTED,
}


@dataclass(frozen=True)
class ForestRow:
    """Of a forest plot: values of the seeds, their mean and its interval."""

    name: str
    mean: float
    interval: tuple[float, float] | None
    values: tuple[float, ...]
    published: float | None = None

    @property
    def reach(self) -> float:
        """The largest distance from 0."""
        return max(abs(value) for value in (*self.values, *(self.interval or ())))


def zoom_width(rows: Sequence[ForestRow]) -> float | None:
    """Half the width of a panel for the rows near 0; None where none lie far beyond the others."""
    reaches = sorted(row.reach for row in rows if row.reach > 0)
    steps = [(b / a, a) for a, b in zip(reaches, reaches[1:], strict=False)]
    ratio, inside = max(steps, default=(0.0, 0.0))
    return 1.25 * inside if ratio >= ZOOM_RATIO else None


def forest_plot(
    values: Sequence[ForestRow],
    differences: Sequence[ForestRow],
    styles: Mapping[str, LineStyle],
    metric: str,
) -> str:
    """On the left each variant's values, on the right its differences from the baseline."""
    near = zoom_width(differences)

    def draw(figure: Figure) -> None:
        count = 3 if near else 2
        axes = figure.subplots(1, count, sharey=True, squeeze=False)[0]
        names = [row.name for row in values]
        _rows(axes[0], values, names, styles)
        axes[0].set(xlabel=metric, yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
        axes[0].set_yticklabels([wrapped(name, 30) for name in names])
        for panel in axes[1:]:
            panel.axvline(0, color=TEXT, linewidth=0.8)
            _rows(panel, differences, names, styles)
            panel.set_xlabel(f"difference in {metric}")
        if near:
            axes[2].set(xlim=(-near, near), xlabel="the same, near 0")
        for panel in axes:
            panel.grid(visible=False, axis="y")
            panel.tick_params(axis="y", length=0)
            panel.locator_params(axis="x", nbins=5)  # the default overlaps in narrow panels

    return svg_plot(f"{metric} and paired differences", 0.8 + 0.38 * len(values), draw)


def _rows(
    axes: Axes, rows: Sequence[ForestRow], names: Sequence[str], styles: Mapping[str, LineStyle]
) -> None:
    for row in rows:
        y, style = names.index(row.name), styles[row.name]
        if row.interval:
            axes.plot(row.interval, [y] * 2, color=style.color, linewidth=2, alpha=0.75)
        axes.plot(row.values, [y + 0.24] * len(row.values), "o", color=style.color,
                  markersize=3, alpha=0.6, markeredgewidth=0)  # fmt: skip
        axes.plot(row.mean, y, style.marker, color=style.color, markersize=6,
                  markeredgecolor=BACKGROUND, markeredgewidth=0.7)  # fmt: skip
        if row.published is not None:
            axes.plot(row.published, y, "|", color=TEXT, markersize=13, markeredgewidth=1.6)


def metric_plot(
    curves: Mapping[str, Curve],
    failed: Sequence[Sequence[tuple[float, float]]],
    styles: Mapping[str, LineStyle],
    metric: str,
) -> str:
    """The metric over epochs, with the range of the seeds; failed runs end in a cross."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for name, curve in curves.items():
            style = styles[name]
            axes.fill_between(curve.x, curve.low, curve.high, color=style.color, alpha=0.16, lw=0)
            axes.plot(curve.x, curve.mean, style.line, color=style.color, marker=style.marker,
                      markevery=max(1, len(curve.x) // 12), markeredgecolor=BACKGROUND,
                      markeredgewidth=0.5)  # fmt: skip
        for series in failed:
            x, y = zip(*series, strict=True)
            axes.plot(x, y, ":", color=MUTED, marker="x", markevery=[-1], markersize=6)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", integer=True)

    return svg_plot(f"{metric} over training time", 3.4, draw)


def share_plot(
    loss: Mapping[str, Mapping[str, Curve]], gradient: Mapping[str, Mapping[str, Curve]]
) -> str:
    """By variant, over epochs: the groups' shares of the loss (above) and gradient (below)."""
    names = [name for name in loss if loss[name] or gradient[name]]
    _, columns = grid_shape(len(names))
    chunks = [names[k : k + columns] for k in range(0, len(names), columns)]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(2 * len(chunks), columns, sharex=True, sharey=True, squeeze=False)
        for k, chunk in enumerate(chunks):
            for title, curves, row in (("loss", loss, 2 * k), ("gradient", gradient, 2 * k + 1)):
                _share_row(grid[row], chunk, curves, title)
            for axes, name in zip(grid[2 * k], chunk, strict=False):
                axes.set_title(wrapped(name, LETTERS // columns))
        for k in range(len(names) - columns, len(names)):  # the lowest of each column
            axes = grid[2 * (k // columns) + 1][k % columns]
            axes.set_xlabel("epoch")
            axes.tick_params(labelbottom=True)
            axes.locator_params(axis="x", integer=True)

    return svg_plot("shares of loss and gradient", 0.6 + 2.5 * len(chunks), draw)


def _share_row(
    row: Sequence[Axes],
    names: Sequence[str],
    curves: Mapping[str, Mapping[str, Curve]],
    title: str,
) -> None:
    row[0].set_ylabel(f"share of the {title}")
    for axes in row[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(row, names, strict=False):
        by_group = curves[name]
        axes.set(ylim=(0, 1), yticks=[0, 0.5, 1])
        axes.grid(visible=False)  # it would shine through the areas
        if not by_group:
            axes.text(0.5, 0.5, "missing", transform=axes.transAxes, ha="center", color=MUTED)
            continue
        x, *y = by_group["positives"].x, *(by_group[group].mean for group in GROUP_COLORS)
        if len(x) == 1:  # stackplot draws no area of one point: as wide as half an epoch
            x, y = (x[0] - 0.25, x[0] + 0.25), [line * 2 for line in y]
        colors = list(GROUP_COLORS.values())
        axes.stackplot(x, *y, colors=colors, alpha=0.85, linewidth=0)
