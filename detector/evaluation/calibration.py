"""Calibration of detection scores: reliability, temperature scaling and Platt scaling.

D detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import binom

BINS = 20
FEWEST = 2  # detections that a half must have
CLAMP = 1e-7  # scores are kept this far from 0 and 1, where the logit is infinite
# Bounds of the slope, 1 / temperature. A half with only right (or only wrong) detections would send
# it to infinity; a negative slope would reverse the ranking, on which the matching depends.
SLOPES = (0.01, 100.0)
INTERCEPTS = (-100.0, 100.0)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ReliabilityBin:
    """The detections whose scores lie in one interval."""

    count: int
    score: float | None  # mean; None without detections
    precision: float | None  # None without detections


@dataclass(frozen=True)
class ReliabilityDiagram:
    """Precision against score, and the calibration error."""

    d_ece: float
    detections: int
    bins: list[ReliabilityBin]  # 20 of equal width in 0..1, lower edge included


@dataclass(frozen=True)
class Calibration:
    """Reliability before and after scaling, on the half of the images not used for fitting."""

    before: ReliabilityDiagram
    by_temperature: ReliabilityDiagram
    temperature: float
    by_platt: ReliabilityDiagram
    slope: float
    intercept: float


def reliability_diagram(scores: Floats, right: Bools) -> ReliabilityDiagram:
    """The detection expected calibration error (D-ECE) of scores (D,) in 0..1, and its bins; D > 0.

    D-ECE of the score alone (Küppers et al. 2020): the mean over the bins of the distance between
    precision and mean score, weighted by detections. right: whether a detection matches a box of
    its class that no higher-scored one matches, so duplicates are wrong.
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
    """The expected D-ECE of perfectly calibrated scores, from the counts and mean scores of bins.

    For a bin of n detections that are right with probability s it is E|X / n - s|, X binomial:
    2 v (1 - s) P(X = v) / n with v = floor(n s) + 1 (De Moivre 1730; Diaconis and Zabell 1991).
    """
    n, s = np.asarray(counts, dtype=np.int64), np.asarray(scores, dtype=np.float64)
    n, s = n[n > 0], s[n > 0]
    v = np.floor(n * s) + 1
    return float((2 * v * (1 - s) * binom.pmf(v, n, s)).sum() / n.sum())


def fit_temperature(scores: Floats, right: Bools) -> float:
    """T of sigmoid(logit(score) / T) with the least negative log-likelihood (Guo et al. 2017).

    scores, right: (D,). T is within 0.01 .. 100.
    """
    slope, _ = _fit(scores, right, intercepts=(0.0, 0.0))
    return 1 / slope


def fit_platt(scores: Floats, right: Bools) -> tuple[float, float]:
    """a and b of sigmoid(a logit(score) + b) with the least negative log-likelihood (Platt 1999),
    without Platt's smoothing of the labels.

    scores, right: (D,). a is within 0.01 .. 100, b within -100 .. 100.
    """
    return _fit(scores, right, intercepts=INTERCEPTS)


def scaled(scores: Floats, *, slope: float, intercept: float = 0.0) -> Floats:
    """sigmoid(slope * logit(score) + intercept) of scores (D,), clamped to 1e-7 .. 1 - 1e-7."""
    return expit(slope * _logits(scores) + intercept)


def calibrate(
    scores: Floats, right: Bools, images: NDArray[np.int64], *, num_images: int, seed: int = 0
) -> Calibration | None:
    """Fit both scalings on a random half of the images, and measure on the other half.

    By images, because the detections of an image depend on each other. The half for measuring gets
    the odd image. None if either half has fewer than 2 detections.

    Args:
        scores: (D,) in 0..1, without detections that match a crowd, which are neither right nor
            wrong.
        right: (D,)
        images: (D,) the index 0 .. num_images - 1 of each detection's image.
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
    """Slope and intercept of the logistic curve with the greatest likelihood."""
    logits = _logits(scores)

    def cost(curve: Floats) -> tuple[float, Floats]:
        """The mean negative log-likelihood, which is convex, and its gradient."""
        margins = curve[0] * logits + curve[1]
        # logaddexp: log(1 + exp(x)) itself overflows for wrong detections of high score
        losses = np.logaddexp(0, np.where(right, -margins, margins))
        excess = expit(margins) - right
        return float(losses.mean()), np.array([(excess * logits).mean(), excess.mean()])

    start = np.array([1.0, 0.0])  # scores as they are
    exact = {"ftol": 1e-14, "gtol": 1e-9}
    result = minimize(
        cost, start, jac=True, method="L-BFGS-B", bounds=[SLOPES, intercepts], options=exact
    )
    slope, intercept = result.x.tolist()
    return slope, intercept
