"""Six tests of contrasts, over many simulated ablations at once; detector/lab uses the first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.stats import qmc

LEVEL = 0.05
POINTS = 256  # of quasi Monte Carlo: a p of 0.05 is then right to within 0.003
Array = NDArray[np.float64]
# (ablations, replicates, variants), (contrasts, variants) -> the tests
Method = Callable[[Array, Array], "Tests"]


@dataclass(frozen=True)
class Tests(ABC):
    """Of all contrasts (columns) in each ablation (rows)."""

    __test__ = False  # pytest: no tests of this project

    estimate: Array
    error: Array
    degrees: Array

    def two_sided(self, shift: Array | float = 0.0) -> Array:
        """Corrected p of "the contrast is 0", were the estimates larger by `shift`."""
        t = np.abs(self.estimate + shift) / self.error
        return self.corrected(t, 2 * special.stdtr(self.degrees, -t), signed=np.abs)

    def one_sided(self, distance: Array) -> Array:
        """Corrected p of "not above 0" of what was estimated as `distance`."""
        t = distance / self.error
        return self.corrected(t, special.stdtr(self.degrees, -t), signed=np.asarray)

    @abstractmethod
    def corrected(self, t: Array, alone: Array, *, signed: Callable[[Array], Array]) -> Array:
        """p over all contrasts of an ablation, from each one's own."""


@dataclass(frozen=True)
class Separate(Tests):
    """Corrected from p and the number of contrasts alone."""

    correct: Callable[[Array, int], Array]

    def corrected(self, t: Array, alone: Array, *, signed: Callable[[Array], Array]) -> Array:
        return self.correct(alone, t.shape[1])


@dataclass(frozen=True)
class Joint(Tests):
    """max-t: each against the largest of all t, multivariate t of its degrees of freedom.

    loadings: (ablations, contrasts, any) whose products with normal values have the contrasts'
    correlations.
    """

    loadings: Array

    def corrected(self, t: Array, alone: Array, *, signed: Callable[[Array], Array]) -> Array:
        p = np.ones_like(t)
        # what is not significant alone is not among others, and most are not: this saves time
        candidates = (alone < LEVEL) & (t > 0)
        some = candidates.any(axis=1)
        scores = self.loadings[some] @ normal_points(self.loadings.shape[2])
        largest = np.maximum(signed(scores).max(axis=1), 0)
        ablation, contrast = np.nonzero(candidates[some])
        degrees = self.degrees[some][ablation, contrast, None]
        # P(largest / sqrt(chi2 / degrees) > t), exact in chi2, averaged over the points
        chi2 = degrees * (largest[ablation] / t[some][ablation, contrast, None]) ** 2
        p[candidates] = special.gammainc(degrees / 2, chi2 / 2).mean(axis=1)
        return p


def bonferroni(p: Array, tests: int) -> Array:
    """Whatever the dependence of the tests."""
    return np.minimum(1.0, tests * p)


def sidak(p: Array, tests: int) -> Array:
    """As if they were independent."""
    return np.asarray(1 - (1 - p) ** tests)


@cache
def normal_points(dimensions: int) -> Array:
    """(dimensions, POINTS), always the same."""
    uniform = qmc.Sobol(dimensions, rng=np.random.default_rng(0)).random(POINTS)
    return np.asarray(special.ndtri(np.clip(uniform, 1e-9, 1 - 1e-9)).T)


def paired(data: Array, contrasts: Array) -> Separate:
    """t-tests of each contrast's values by replicate: what detector/lab does."""
    estimate, error, degrees, _ = _by_replicate(data, contrasts)
    return Separate(estimate, error, degrees, bonferroni)


def paired_max(data: Array, contrasts: Array) -> Joint:
    """The same, by the correlations that the contrasts' values show."""
    estimate, error, degrees, residuals = _by_replicate(data, contrasts)
    loadings = residuals / np.sqrt((residuals**2).sum(axis=1, keepdims=True))
    return Joint(estimate, error, degrees, loadings.swapaxes(1, 2))


def _by_replicate(data: Array, contrasts: Array) -> tuple[Array, Array, Array, Array]:
    values, n = data @ contrasts.T, data.shape[1]
    error = values.std(axis=1, ddof=1) / np.sqrt(n)
    residuals = values - values.mean(axis=1, keepdims=True)
    return values.mean(axis=1), error, np.full(error.shape, n - 1.0), residuals


def welch(data: Array, contrasts: Array) -> Separate:
    """Of independent variants with variances of their own (Satterthwaite), Šidák's correction."""
    joint = welch_max(data, contrasts)
    return Separate(joint.estimate, joint.error, joint.degrees, sidak)


def welch_max(data: Array, contrasts: Array) -> Joint:
    """Hasler and Hothorn 2008: the same, with the correlations that these variances give."""
    variances, n = data.var(axis=1, ddof=1), data.shape[1]
    return _of_variances(data, contrasts, variances, np.full(variances.shape, n - 1.0))


def dunnett(data: Array, contrasts: Array) -> Joint:
    """Of independent variants with one variance (Dunnett 1955)."""
    ablations, n, variants = data.shape
    pooled = data.var(axis=1, ddof=1).mean(axis=1, keepdims=True)
    variances = np.broadcast_to(pooled, (ablations, variants))
    tests = _of_variances(data, contrasts, variances, np.ones(variances.shape))
    degrees = np.full(tests.degrees.shape, variants * (n - 1.0))
    return Joint(tests.estimate, tests.error, degrees, tests.loadings)


def moderated(data: Array, contrasts: Array) -> Joint:
    """Variant + replicate, with residual variances moderated across variants (limma)."""
    _, n, variants = data.shape
    residuals = data - data.mean(axis=1, keepdims=True) - data.mean(axis=2, keepdims=True)
    residuals += data.mean(axis=(1, 2), keepdims=True)
    own = (n - 1) * (variants - 1) / variants  # each variant's part of the degrees of freedom
    variances, prior = moderate((residuals**2).sum(axis=1) / own, own)
    degrees = np.minimum(own + prior, (n - 1.0) * (variants - 1))
    return _of_variances(data, contrasts, variances, np.broadcast_to(degrees, variances.shape))


def moderate(variances: Array, degrees: float) -> tuple[Array, Array]:
    """Smyth 2004: variances (rows of variants) drawn to a common one; and its degrees of freedom.

    The common one's degrees of freedom (rows, 1) come from how much the logarithms spread beyond
    what `degrees` explain.
    """
    logs = np.log(np.maximum(variances, 1e-12)) - special.digamma(degrees / 2)
    logs += np.log(degrees / 2)
    excess = logs.var(axis=1, ddof=1, keepdims=True) - special.polygamma(1, degrees / 2)
    wanted = np.maximum(excess, 1e-4)
    half = 0.5 + 1 / wanted
    for _ in range(20):  # Newton's method for trigamma(half) = wanted
        trigamma = special.polygamma(1, half)
        half += trigamma * (1 - trigamma / wanted) / special.polygamma(2, half)
    common = np.exp(logs.mean(axis=1, keepdims=True) + special.digamma(half) - np.log(half))
    return (2 * half * common + degrees * variances) / (2 * half + degrees), 2 * half


def _of_variances(data: Array, contrasts: Array, variances: Array, degrees: Array) -> Joint:
    """Tests of independent variants, whose variances have the degrees of freedom given."""
    of_mean = variances / data.shape[1]
    squared = of_mean @ (contrasts**2).T
    error = np.sqrt(squared)
    combined = squared**2 / ((of_mean**2 / degrees) @ (contrasts**4).T)
    loadings = contrasts * np.sqrt(of_mean)[:, None, :] / error[:, :, None]
    return Joint(data.mean(axis=1) @ contrasts.T, error, combined, loadings)


METHODS: dict[str, Method] = {
    "paired t": paired,
    "paired max-t": paired_max,
    "Welch, Šidák": welch,
    "Welch max-t": welch_max,
    "Dunnett": dunnett,
    "two-way, moderated": moderated,
}
