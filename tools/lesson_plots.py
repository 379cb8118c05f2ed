"""The plots of docs/losses.md.    P probabilities, K classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOTTED_GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)  # of figure 1 of Lin et al. 2017
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000")  # Okabe and Ito 2008
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
EXAMPLE = {"cat": 2.0, "dog": 1.0, "boat": -1.0}  # logits
SMALLEST = 1e-5
LESSON_STYLE: Any = {
    "svg.hashsalt": "losses",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "font.size": 10,
}


@dataclass(frozen=True)
class HeadLoss:
    """The loss of the anchors of one image under an untrained head."""

    name: str
    foreground: float
    background: float


def plots(
    totals: Sequence[HeadLoss], foreground: float, background: float, classes: int
) -> Iterator[tuple[Any, ...]]:
    """Of each its name, its width and height in inches, and the functions that draw its panels.

    totals: of the heads in `overwhelm`. The others are anchors and classes of one image in `prior`.
    """
    yield "negative_log", (8, 3.2), negative_log, negative_log_of_scale
    yield "activations", (8, 3.2), sigmoid, softmax
    yield "overwhelm", (8, 3.4), loss_bars(totals)
    yield "focal", (6, 3.4), focal_curves
    yield "prior", (6, 3.4), prior_curves(foreground, background, classes)


def save_plot(path: Path, *draw: Callable[[Axes], None], size: tuple[float, float]) -> Path:
    """Panels side by side: an SVG on white of `size` inches, the same byte for byte each time."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # the salt and the missing date: else each SVG differs from the last, and git from both
    with rc_context(LESSON_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(draw), squeeze=False)[0]
        for axes, draw_panel in zip(panels, draw, strict=True):
            draw_panel(axes)
        figure.savefig(path, format="svg", metadata={"Date": None})
    return path


def negative_log(axes: Axes) -> None:
    """-log x, with the loss of some probabilities marked."""
    p = np.geomspace(SMALLEST, 1, 400)
    axes.plot(p, -np.log(p), color=COLOURS[0], linewidth=2)
    for probability in (1e-4, 0.01, 0.1, 0.5):
        cost = -np.log(probability)
        axes.plot([probability], [cost], "o", color=COLOURS[1])
        text = f"{probability:g} costs {cost:.2f}"
        axes.annotate(text, (probability, cost), textcoords="offset points", xytext=(8, 5))
    axes.set(xlabel="probability of the truth", ylabel="−log", ylim=(-0.3, 12))


def negative_log_of_scale(axes: Axes) -> None:
    """The same over the order of magnitude: a straight line."""
    negative_log(axes)
    axes.set(xscale="log", xlim=(SMALLEST, 30), xlabel="probability of the truth, log scale")


def sigmoid(axes: Axes) -> None:
    """Scores of the example's logits, each by itself."""
    logits = np.array(list(EXAMPLE.values()))
    _bars(axes, 1 / (1 + np.exp(-logits)), "sigmoid: one question a class")


def softmax(axes: Axes) -> None:
    """Scores of the example's logits, in competition."""
    logits = np.exp(list(EXAMPLE.values()))
    _bars(axes, logits / logits.sum(), "softmax: sums to one")


def focal_curves(axes: Axes) -> None:
    """(1 - p_t)^gamma (-log p_t), figure 1 of Lin et al. 2017."""
    p = np.linspace(0.005, 1, 400)
    for gamma, colour, style in zip(PLOTTED_GAMMAS, COLOURS, LINES, strict=True):
        axes.plot(p, focal_loss(p, gamma), color=colour, linestyle=style, label=f"γ = {gamma:g}")
    axes.axvspan(0.5, 1, color="0.92", zorder=0)
    axes.text(0.75, 3.4, "well classified", ha="center", color="0.35")
    axes.set(xlabel="probability of the truth, p_t", ylabel="loss", ylim=(0, 5), xlim=(0, 1))
    axes.legend(frameon=False)


def focal_loss(p: np.ndarray, gamma: float) -> np.ndarray:
    """Of one term with alpha 1 (equation 4)."""
    return -((1 - p) ** gamma) * np.log(p)


def loss_bars(totals: Sequence[HeadLoss]) -> Callable[[Axes], None]:
    """Paired bars: the loss of both kinds of anchors under each head."""

    def draw(axes: Axes) -> None:
        y = np.arange(len(totals))
        foreground = [t.foreground for t in totals]
        background = [t.background for t in totals]
        axes.barh(y - 0.2, foreground, 0.38, color=COLOURS[0], label="foreground anchors")
        axes.barh(y + 0.2, background, 0.38, color=COLOURS[1], label="background anchors")
        axes.set_yticks(y, [t.name for t in totals])
        axes.invert_yaxis()
        axes.set(xscale="log", xlabel="sum of their loss in one image")
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)

    return draw


def prior_curves(foreground: float, background: float, classes: int) -> Callable[[Axes], None]:
    """Cross entropy at the start, by kind of anchor, over the prior."""

    def draw(axes: Axes) -> None:
        pi = np.geomspace(1e-4, 0.5, 300)
        rest = (classes - 1) * -np.log1p(-pi)
        axes.loglog(pi, foreground * (-np.log(pi) + rest), color=COLOURS[0], label="foreground")
        negatives = background * classes * -np.log1p(-pi)
        axes.loglog(pi, negatives, "--", color=COLOURS[1], label="background")
        axes.axvline(0.01, color="0.6", linewidth=1)
        axes.set(xlabel="prior π", ylabel="sum of the loss in one image")
        axes.legend(frameon=False)

    return draw


def _bars(axes: Axes, scores: np.ndarray, title: str) -> None:
    names = [f"{name}\n{logit:g}" for name, logit in EXAMPLE.items()]
    bars = axes.bar(names, scores, color=COLOURS[: len(names)])
    axes.bar_label(bars, [f"{score:.2f}" for score in scores])
    axes.set(title=title, ylim=(0, 1.1), ylabel="score", xlabel="class and its logit")
