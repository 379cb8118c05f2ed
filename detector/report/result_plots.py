"""Plots of results and of training; each is None where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from detector.lab.contrasts import Comparison
from detector.lab.statistics import valued
from detector.report.folder import AblationFolder
from detector.report.seed_means import Curve, points, seed_curve
from detector.report.style import (
    BLUE,
    LETTERS,
    MUTED,
    ORANGE,
    PAPER,
    TEXT,
    LineStyle,
    grid_shape,
    legend,
    name_rows,
    new_figure,
    wrapped,
)
from detector.settings.figures import worst_value

NAME = 34  # characters on a line of a row's name
ZOOM_RATIO = 3.0  # a variant that reaches so many times as far as the next has the rest drawn again
GROUP_COLORS = {"positives": BLUE, "hard_negatives": ORANGE, "easy_negatives": MUTED}
Groups = Mapping[str, Curve]


def forest_plot(ablation: AblationFolder, styles: Mapping[str, LineStyle]) -> Figure | None:
    """Above each variant's values, below the estimates of the contrasts."""
    variants = [v for v in ablation.variants if v.mean is not None]
    if not variants:
        return None
    compared = [one for one in ablation.comparisons if one.mean is not None]
    rows = [len(variants), len(compared)] if compared else [len(variants)]
    figure = new_figure(sum(0.7 + 0.34 * count for count in rows))
    # each row as high in either panel, beside what its axis takes
    parts = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=[2 + n for n in rows])
    upper = parts[0, 0].subplots()
    for y, v in enumerate(variants):
        assert v.mean is not None
        counted = valued(v.outcomes.values(), worst_value(ablation.metric))
        known = [value for value in counted if value is not None]
        _forest_row(upper, y, styles[v.name], v.mean, v.interval, known)
        if v.published:
            upper.plot(v.published.value, y, "|", color=TEXT, markersize=13, markeredgewidth=1.6)
    # what the bars are must be read in a figure that was copied out of its page
    upper.set_xlabel(f"{ablation.metric}, each with its 95 % interval")
    name_rows([upper], [v.name for v in variants], width=NAME, ticks=9)
    if compared:
        label = f"difference in {ablation.metric}, 95 % intervals of all together"
        _contrast_panels(parts[1, 0], compared, styles, label)
    return figure


def _contrast_panels(
    part: SubFigure, compared: Sequence[Comparison], styles: Mapping[str, LineStyle], label: str
) -> None:
    near = zoom_width([_reach(one) for one in compared])
    panels = part.subplots(1, 2 if near else 1, sharey=True, squeeze=False)[0]
    for axes in panels:
        axes.axvline(0, color=TEXT, linewidth=0.8)
        axes.set_xlabel(label)
        for y, one in enumerate(compared):
            first = next(iter(one.contrast.coefficients))
            ends = one.test.interval if one.test else None
            assert one.mean is not None
            _forest_row(axes, y, styles[first], one.mean, ends, [*one.values.values()])
    if near:
        panels[1].set(xlim=(-near, near), xlabel="the same, near 0")
    name_rows(panels, [one.contrast.name for one in compared], width=NAME, ticks=9 // len(panels))


def zoom_width(reaches: Sequence[float]) -> float | None:
    """Half the width of a panel for the rows near 0; None where none lie far beyond the others.

    reaches: the largest distance of each row from 0.
    """
    ordered = sorted(reach for reach in reaches if reach > 0)
    steps = [(b / a, a) for a, b in zip(ordered, ordered[1:], strict=False)]
    ratio, inside = max(steps, default=(0.0, 0.0))
    return 1.25 * inside if ratio >= ZOOM_RATIO else None


def _reach(comparison: Comparison) -> float:
    ends = comparison.test.interval if comparison.test else ()
    return max(abs(d) for d in (*comparison.values.values(), *ends))


def _forest_row(
    axes: Axes,
    y: int,
    style: LineStyle,
    mean: float,
    interval: tuple[float, float] | None,
    values: Sequence[float],
) -> None:
    if interval:
        axes.plot(interval, [y] * 2, color=style.color, linewidth=2, alpha=0.75)
    axes.plot(values, [y + 0.24] * len(values), "o", color=style.color,
              markersize=3, alpha=0.6, markeredgewidth=0)  # fmt: skip
    axes.plot(mean, y, style.marker, color=style.color, markersize=6,
              markeredgecolor=PAPER, markeredgewidth=0.7)  # fmt: skip


def metric_plot(ablation: AblationFolder, styles: Mapping[str, LineStyle]) -> Figure | None:
    """The metric over epochs, with the range of the seeds; failed runs end in a cross."""
    metric = ablation.metric
    curves = {v.name: seed_curve(v.finished, f"validation/{metric}") for v in ablation.variants}
    curves = {name: curve for name, curve in curves.items() if curve.x}
    if not curves:
        return None
    figure = new_figure(3.4)
    axes = figure.subplots()
    for name, curve in curves.items():
        style = styles[name]
        axes.fill_between(curve.x, curve.low, curve.high, color=style.color, alpha=0.16, lw=0)
        axes.plot(curve.x, curve.mean, style.line, color=style.color, marker=style.marker,
                  markevery=max(1, len(curve.x) // 12), markeredgecolor=PAPER,
                  markeredgewidth=0.5)  # fmt: skip
    for run in ablation.runs:
        if run.value is None and (series := points(run, f"validation/{metric}")):
            x, y = zip(*series, strict=True)
            axes.plot(x, y, ":", color=MUTED, marker="x", markevery=[-1], markersize=6)
    axes.set(xlabel="epoch", ylabel=metric)
    axes.set_xlim(left=0)
    axes.locator_params(axis="x", integer=True)
    legend(figure, {name: styles[name] for name in curves})
    return figure


def share_plot(loss: Mapping[str, Groups], gradient: Mapping[str, Groups]) -> Figure | None:
    """By variant, over epochs: the groups' shares of the loss (above) and gradient (below)."""
    names = [name for name in loss if loss[name] or gradient[name]]
    if not names:
        return None
    rows, columns = grid_shape(len(names))
    figure = new_figure(0.6 + 2.5 * rows)
    grid = figure.subplots(2 * rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()  # until it is filled
    for k, name in enumerate(names):
        row, column = divmod(k, columns)
        upper, lower = grid[2 * row, column], grid[2 * row + 1, column]
        areas(upper, loss[name])
        areas(lower, gradient[name])
        upper.set_title(wrapped(name, LETTERS // columns))
        if column == 0:
            upper.set_ylabel("share of the loss")
            lower.set_ylabel("share of the gradient")
        if k >= len(names) - columns:  # the lowest of its column
            lower.set_xlabel("epoch")
            lower.tick_params(labelbottom=True)
            lower.locator_params(axis="x", integer=True)
    legend(figure, {g.replace("_", " "): color for g, color in GROUP_COLORS.items()})
    return figure


def areas(axes: Axes, by_group: Groups) -> None:
    """The groups' shares, one on top of the other."""
    axes.set_axis_on()
    axes.set(ylim=(0, 1), yticks=[0, 0.5, 1])
    axes.grid(visible=False)  # it would shine through the areas
    if not by_group:
        axes.text(0.5, 0.5, "missing", transform=axes.transAxes, ha="center", color=MUTED)
        return
    x, *y = by_group["positives"].x, *(by_group[group].mean for group in GROUP_COLORS)
    if len(x) == 1:  # stackplot draws no area of one point: as wide as half an epoch
        x, y = (x[0] - 0.25, x[0] + 0.25), [line * 2 for line in y]
    axes.stackplot(x, *y, colors=list(GROUP_COLORS.values()), alpha=0.85, linewidth=0)
