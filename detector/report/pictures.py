"""Pictures of results and of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from detector.report.ink import (
    COLORS,
    INK,
    LETTERS,
    MUTED,
    PAPER,
    Look,
    drawing,
    rows_of,
    wrapped,
)
from detector.report.means import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAP = 3.0  # a variant that reaches so many times as far as the next has the others drawn again
GROUP_COLORS = {
    "positives": COLORS["c1"],
    "hard_negatives": COLORS["c2"],
    "easy_negatives": MUTED,
}


@dataclass(frozen=True)
class Row:
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


def zoom(rows: Sequence[Row]) -> float | None:
    """Half the width of a second look at the rows near 0, if others lie far beyond them."""
    reaches = sorted(row.reach for row in rows if row.reach > 0)
    steps = [(b / a, a) for a, b in zip(reaches, reaches[1:], strict=False)]
    ratio, inside = max(steps, default=(0.0, 0.0))
    return 1.25 * inside if ratio >= GAP else None


def forest(
    values: Sequence[Row], differences: Sequence[Row], looks: Mapping[str, Look], metric: str
) -> str:
    """Each variant's values, and below one another their differences from the baseline."""
    near = zoom(differences)

    def draw(figure: Figure) -> None:
        count = 3 if near else 2
        axes = figure.subplots(1, count, sharey=True, squeeze=False)[0]
        names = [row.name for row in values]
        _rows(axes[0], values, names, looks)
        axes[0].set(xlabel=metric, yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
        axes[0].set_yticklabels([wrapped(name, 30) for name in names])
        for panel in axes[1:]:
            panel.axvline(0, color=INK, linewidth=0.8)
            _rows(panel, differences, names, looks)
            panel.set_xlabel(f"difference in {metric}")
        if near:
            axes[2].set(xlim=(-near, near), xlabel="the same, near 0")
        for panel in axes:
            panel.grid(visible=False, axis="y")
            panel.tick_params(axis="y", length=0)
            panel.locator_params(axis="x", nbins=5)

    return drawing(f"{metric} and paired differences", 0.8 + 0.38 * len(values), draw)


def _rows(axes: Axes, rows: Sequence[Row], names: Sequence[str], looks: Mapping[str, Look]) -> None:
    for row in rows:
        place, own = names.index(row.name), looks[row.name]
        if row.interval:
            axes.plot(row.interval, [place] * 2, color=own.color, linewidth=2, alpha=0.75)
        axes.plot(row.values, [place + 0.24] * len(row.values), "o", color=own.color,
                  markersize=3, alpha=0.6, markeredgewidth=0)  # fmt: skip
        axes.plot(row.mean, place, own.marker, color=own.color, markersize=6,
                  markeredgecolor=PAPER, markeredgewidth=0.7)  # fmt: skip
        if row.published is not None:
            axes.plot(row.published, place, "|", color=INK, markersize=13, markeredgewidth=1.6)


def over_time(
    curves: Mapping[str, Curve],
    failed: Sequence[Sequence[tuple[float, float]]],
    looks: Mapping[str, Look],
    metric: str,
) -> str:
    """The metric over epochs, with the range of the seeds; failed runs end in a cross."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for name, curve in curves.items():
            own = looks[name]
            axes.fill_between(curve.x, curve.low, curve.high, color=own.color, alpha=0.16, lw=0)
            axes.plot(curve.x, curve.mean, own.line, color=own.color, marker=own.marker,
                      markevery=max(1, len(curve.x) // 12), markeredgecolor=PAPER,
                      markeredgewidth=0.5)  # fmt: skip
        for series in failed:
            x, y = zip(*series, strict=True)
            axes.plot(x, y, ":", color=MUTED, marker="x", markevery=[-1], markersize=6)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", integer=True)

    return drawing(f"{metric} over training time", 3.4, draw)


def shares(
    loss: Mapping[str, Mapping[str, Curve]], gradient: Mapping[str, Mapping[str, Curve]]
) -> str:
    """By variant, over epochs: who gives the loss (above) and the gradient (below)."""
    names = [name for name in loss if loss[name] or gradient[name]]
    _, columns = rows_of(len(names))
    blocks = [names[k : k + columns] for k in range(0, len(names), columns)]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(2 * len(blocks), columns, sharex=True, sharey=True, squeeze=False)
        for k, block in enumerate(blocks):
            for title, curves, row in (("loss", loss, 2 * k), ("gradient", gradient, 2 * k + 1)):
                _share_row(grid[row], block, curves, title)
            for axes, name in zip(grid[2 * k], block, strict=False):
                axes.set_title(wrapped(name, LETTERS // columns))
        for number in range(len(names) - columns, len(names)):  # the lowest of each column
            axes = grid[2 * (number // columns) + 1][number % columns]
            axes.set_xlabel("epoch")
            axes.tick_params(labelbottom=True)
            axes.locator_params(axis="x", integer=True)

    return drawing("shares of loss and gradient", 0.6 + 2.5 * len(blocks), draw)


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
        found = curves[name]
        axes.set(ylim=(0, 1), yticks=[0, 0.5, 1])
        axes.grid(visible=False)
        if not found:
            axes.text(0.5, 0.5, "missing", transform=axes.transAxes, ha="center", color=MUTED)
            continue
        x, *y = found["positives"].x, *(found[group].mean for group in GROUP_COLORS)
        if len(x) == 1:  # an area needs two; drawn as wide as half an epoch
            x, y = (x[0] - 0.25, x[0] + 0.25), [line * 2 for line in y]
        colors = list(GROUP_COLORS.values())
        axes.stackplot(x, *y, colors=colors, alpha=0.85, linewidth=0)
