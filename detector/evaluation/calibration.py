"""Whether the scores of detections are probabilities, and whether scaling makes them so.

D detections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import binom

BINS = 20
FEWEST = 2  # detections in a half
CLAMP = 1e-7  # a score nearer to 0 or 1 is moved to this distance, for its logit
# Of the slope, 1 / temperature: a half without a right (or a wrong) detection would send it to
# infinity, and one below 0 would turn the ranking round, and with it the matching.
SLOPES = (0.01, 100.0)
INTERCEPTS = (-100.0, 100.0)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ReliabilityBin:
    """Detections of about one score; None where there are none."""

    count: int
    score: float | None  # mean
    precision: float | None


@dataclass(frozen=True)
class ReliabilityDiagram:
    """How far scores are from precision."""

    d_ece: float
    detections: int
    bins: list[ReliabilityBin]  # 20 of equal width in 0..1, lower edge included


@dataclass(frozen=True)
class Calibration:
    """Scores before and after scaling, on the half of the images that no scaling was fitted on."""

    before: ReliabilityDiagram
    by_temperature: ReliabilityDiagram
    temperature: float
    by_platt: ReliabilityDiagram
    slope: float
    intercept: float


def reliability_diagram(scores: Floats, right: Bools) -> ReliabilityDiagram:
    """The detection expected calibration error of scores (D,) in 0..1 and its bins; D > 0.

    D-ECE of the score alone (Küppers et al. 2020): over the bins, the mean distance of
    precision and mean score, weighted by detections. A detection is right if it found a box of its
    class that no likelier one had found, so duplicates are wrong.
    """
    from hotcoco import metrics

    error, _ = metrics.calibration_error(scores, right, BINS)
    bins = [
        ReliabilityBin(b["count"], b["avg_confidence"], b["avg_accuracy"])
        if b["count"]
        else ReliabilityBin(0, None, None)
        for b in metrics.calibration_curve(scores, right, BINS)
    ]
    return ReliabilityDiagram(d_ece=error, detections=len(scores), bins=bins)


def chance_d_ece(counts: Sequence[float], scores: Sequence[float]) -> float:
    """The expected D-ECE of scores that are true, from the counts and mean scores of its bins.

    In a bin of n detections that are right with probability s it is E|X / n - s| of a binomial X:
    2 v (1 - s) P(X = v) / n with v = floor(n s) + 1 (De Moivre 1730; Diaconis and Zabell 1991).
    """
    n, s = np.asarray(counts, dtype=np.int64), np.asarray(scores, dtype=np.float64)
    n, s = n[n > 0], s[n > 0]
    v = np.floor(n * s) + 1
    return float((2 * v * (1 - s) * binom.pmf(v, n, s)).sum() / n.sum())


def fit_temperature(scores: Floats, right: Bools) -> float:
    """T of sigmoid(logit(score) / T) with the least negative log-likelihood (Guo et al. 2017).

    It is sought in 0.01 .. 100.
    """
    slope, _ = _fit(scores, right, intercepts=(0.0, 0.0))
    return 1 / slope


def fit_platt(scores: Floats, right: Bools) -> tuple[float, float]:
    """a and b of sigmoid(a logit(score) + b) with the least negative log-likelihood (Platt 1999),
    on the labels as they are, without Platt's smoothing of them.

    The slope is sought in 0.01 .. 100, the intercept in -100 .. 100.
    """
    return _fit(scores, right, intercepts=INTERCEPTS)


def scaled(scores: Floats, *, slope: float, intercept: float = 0.0) -> Floats:
    """sigmoid(slope * logit(score) + intercept) of scores (D,); 0 and 1 are moved by 1e-7."""
    return expit(slope * _logits(scores) + intercept)


def calibrate(
    scores: Floats, right: Bools, images: NDArray[np.int64], *, num_images: int, seed: int = 0
) -> Calibration | None:
    """Fit both scalings on one half of the images, and measure on the other.

    The halves are a random permutation, cut in the middle (an odd image is measured on). None where
    either has fewer than 2 detections.

    Args:
        scores: (D,) in 0..1, of detections that are right or wrong, such as no hit of a crowd is.
        right: (D,)
        images: (D,) 0 .. num_images - 1.
    """
    order = np.random.default_rng(seed).permutation(num_images)
    fitted_on = np.isin(images, order[: num_images // 2])
    if min(fitted_on.sum(), (~fitted_on).sum()) < FEWEST:
        return None
    temperature = fit_temperature(scores[fitted_on], right[fitted_on])
    slope, intercept = fit_platt(scores[fitted_on], right[fitted_on])
    scores, right = scores[~fitted_on], right[~fitted_on]
    return Calibration(
        before=reliability_diagram(scores, right),
        by_temperature=reliability_diagram(scaled(scores, slope=1 / temperature), right),
        temperature=temperature,
        by_platt=reliability_diagram(scaled(scores, slope=slope, intercept=intercept), right),
        slope=slope,
        intercept=intercept,
    )


def _logits(scores: Floats) -> Floats:
    clamped: Floats = logit(np.clip(scores, CLAMP, 1 - CLAMP))
    return clamped


def _fit(scores: Floats, right: Bools, *, intercepts: tuple[float, float]) -> tuple[float, float]:
    """Slope and intercept of the likeliest logistic curve."""
    cost = _likelihood(_logits(scores), right)
    start = np.array([1.0, 0.0])
    exact = {"ftol": 1e-14, "gtol": 1e-9}
    found = minimize(
        cost, start, jac=True, method="L-BFGS-B", bounds=[SLOPES, intercepts], options=exact
    )
    slope, intercept = found.x.tolist()
    return slope, intercept


def _likelihood(logits: Floats, right: Bools) -> Callable[[Floats], tuple[float, Floats]]:
    """The mean negative log-likelihood of (slope, intercept), and its gradient: convex."""

    def cost(curve: Floats) -> tuple[float, Floats]:
        margins = curve[0] * logits + curve[1]
        losses = np.logaddexp(0, np.where(right, -margins, margins))
        excess = expit(margins) - right
        return float(losses.mean()), np.array([(excess * logits).mean(), excess.mean()])

    return cost
