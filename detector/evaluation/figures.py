"""Precision-recall curves of an evaluation."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detector.evaluation.coco import CocoResult
from detector.evaluation.palette import COLORS, color

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 12  # more curves than this are unreadable; then only the extremes are drawn
EXTREMES = 4
STYLES = ["-", "--", "-.", ":"]  # a class beyond the palette has a shade of it and another style
MARKERS = "osD^v<>PXph*"
MARK_STEP = 3  # hundredths of recall between the marks of successive curves
NAME = 22  # longer names are cut in the legend


def precision_recall(result: CocoResult, path: str | Path) -> None:
    """Write a PNG: curves of the mean over classes, and curves of single classes.

    The area under a curve is the AP in its legend. With more than 12 classes the best four and the
    worst four are drawn. Classes without ground truth have no curve. A class has the colour that it
    has in drawn images. Without detections, or without ground truth, the axes say so instead.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), dpi=120, layout="constrained")
    means, classes = figure.subplots(1, 2)
    defined = [k for k, ap in enumerate(result.per_class.values()) if ap > -1]
    shown = (
        "each class"
        if len(defined) <= MOST_CLASSES
        else f"{EXTREMES} best and {EXTREMES} worst classes"
    )
    missing = "" if result.detections else "no detections"
    if not defined:
        missing = "no ground truth"
    if not missing:
        _draw_means(means, result.precision[:, :, defined])
        _draw_classes(classes, result, defined)
    means.set_title(f"mean over classes ({len(defined)})")
    classes.set_title("each class" if missing else f"{shown}, IoU 0.50:0.95")
    for axes in (means, classes):
        _frame(axes, missing)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # shown as a box
        figure.savefig(path, format="png")


def _draw_means(axes: Axes, precision: np.ndarray) -> None:
    average = precision.mean(axis=2)
    curves = {
        "IoU 0.50": (average[0], "-", "0.0"),
        "IoU 0.75": (average[5], "--", "0.3"),
        "IoU 0.50:0.95": (average.mean(axis=0), "-.", "0.5"),
    }
    for turn, (label, (curve, style, gray)) in enumerate(curves.items()):
        look = {"color": gray, "linestyle": style, "marker": MARKERS[turn]}
        _curve(axes, curve, label, look, turn=turn, turns=len(curves))


def _draw_classes(axes: Axes, result: CocoResult, defined: list[int]) -> None:
    """A curve for each class, the mean over all IoU thresholds; the best first in the legend."""
    curves = result.precision.mean(axis=0)
    order = sorted(defined, key=lambda k: -curves[:, k].mean())
    if len(order) > MOST_CLASSES:
        order = order[:EXTREMES] + order[-EXTREMES:]
    for turn, k in enumerate(order):
        _curve(axes, curves[:, k], result.class_names[k], _look(k), turn=turn, turns=len(order))
    if len(defined) > len(order):
        mean = curves[:, defined].mean(axis=1)
        _curve(axes, mean, "mean of all", {"color": "black", "linestyle": ":"}, turn=0, turns=1)


def _look(k: int) -> dict[str, Any]:
    """Colour, line style and marker of class k, independent of the other classes."""
    return {
        "color": [value / 255 for value in color(k)],
        "linestyle": STYLES[k // len(COLORS) % len(STYLES)],
        "marker": MARKERS[k % len(MARKERS)],
    }


def _curve(
    axes: Axes, curve: np.ndarray, label: str, look: dict[str, Any], *, turn: int, turns: int
) -> None:
    """Draw a curve over recall 0..1, with marks above all lines.

    Marks of different curves lie at different recalls, so that equal curves can be told apart.
    """
    recall = np.linspace(0, 1, len(curve))
    short = label if len(label) <= NAME else label[: NAME - 1] + "…"
    marks: dict[str, Any] = {
        "markevery": (MARK_STEP * (turn + 1), MARK_STEP * turns),
        "markersize": 6,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
    }
    text = f"{short}  AP {curve.mean():.3f}"
    if text.startswith("_"):
        text = f" {text}"  # or matplotlib leaves the curve out of the legend
    axes.plot(recall, curve, label=text, linewidth=1.6, zorder=2, **look, **marks)
    axes.plot(recall, curve, zorder=3, **{**look, "linestyle": "none"}, **marks)


def _frame(axes: Axes, missing: str) -> None:
    """Axes with limits slightly outside 0..1, so that a curve on the edge is fully visible."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03), xlabel="recall", ylabel="precision")
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    if missing:
        axes.text(0.5, 0.5, missing, ha="center", va="center", color="0.4", fontsize=14)
    else:
        legend = axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.12),
            ncols=2,
            frameon=False,
            fontsize=9,
            handlelength=3,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)  # $ is a letter in the name of a class
