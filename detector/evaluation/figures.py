"""Pictures of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detector.evaluation.coco import CocoResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito 2008: told apart with every common colour blindness.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
MOST_CLASSES = 12  # more lines than this can be neither drawn nor read; then the extremes are shown
EXTREMES = 4


def precision_recall(result: CocoResult, path: str | Path) -> None:
    """Write a PNG: curves of the mean over classes, and curves of single classes.

    The area under a curve is the AP in its legend. With more than 12 classes the best four and the
    worst four are drawn. Classes without ground truth have no curve.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), dpi=120, layout="constrained")
    means, classes = figure.subplots(1, 2, sharey=True)
    defined = [k for k, ap in enumerate(result.per_class.values()) if ap > -1]
    precision = result.precision[:, :, defined]
    if defined:
        _draw_means(means, precision)
        _draw_classes(classes, precision, [result.class_names[k] for k in defined])
    means.set_title(f"mean over classes ({len(defined)})")
    means.set_ylabel("precision")
    classes.set_title(_classes_title(len(defined)))
    for axes in (means, classes):
        _frame(axes)
    figure.savefig(path, format="png")


def _draw_means(axes: Axes, precision: np.ndarray) -> None:
    average = precision.mean(axis=2)
    curves = {
        "IoU 0.50": (average[0], "-"),
        "IoU 0.75": (average[5], "--"),
        "IoU 0.50:0.95": (average.mean(axis=0), "-."),
    }
    for color, (label, (curve, style)) in zip(COLORS, curves.items(), strict=False):
        _curve(axes, curve, label, color=color, style=style)


def _draw_classes(axes: Axes, precision: np.ndarray, names: list[str]) -> None:
    """One curve a class, the mean over all overlap thresholds; best first."""
    curves = precision.mean(axis=0)
    order = np.argsort(-curves.mean(axis=0), kind="stable")
    if len(order) > MOST_CLASSES:
        order = np.concatenate([order[:EXTREMES], order[-EXTREMES:]])
    for place, k in enumerate(order):
        style = ("-", "--")[place // len(COLORS)]
        _curve(axes, curves[:, k], names[k], color=COLORS[place % len(COLORS)], style=style)
    if len(names) > len(order):
        _curve(axes, curves.mean(axis=1), "mean of all", color="black", style=":")


def _curve(axes: Axes, curve: np.ndarray, label: str, *, color: str, style: str) -> None:
    recall = np.linspace(0, 1, len(curve))
    short = label if len(label) <= 24 else label[:23] + "…"
    text = f"{short}  AP {curve.mean():.3f}"
    axes.plot(recall, curve, style, color=color, label=text, linewidth=1.8, clip_on=False)


def _classes_title(count: int) -> str:
    which = (
        "each class" if count <= MOST_CLASSES else f"{EXTREMES} best and {EXTREMES} worst classes"
    )
    return f"{which}, IoU 0.50:0.95"


def _frame(axes: Axes) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall")
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=8.5)
    else:
        axes.text(0.5, 0.5, "no ground truth", ha="center", color="0.4")
