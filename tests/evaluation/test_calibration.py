"""Calibration of constructed detections, whose errors are known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from detector.evaluation.calibration import (
    Floats,
    ReliabilityBin,
    calibrate,
    chance_d_ece,
    fit_platt,
    fit_temperature,
    reliability_diagram,
    scaled,
)

Bools = np.ndarray


def group(score: float, number: int, right: int) -> tuple[Floats, Bools]:
    """So many detections of one score, of which so many are right."""
    return np.full(number, score), np.arange(number) < right


def joined(*groups: tuple[Floats, Bools]) -> tuple[Floats, Bools]:
    scores, right = zip(*groups, strict=True)
    return np.concatenate(scores), np.concatenate(right)


def calibrated() -> tuple[Floats, Bools]:
    """In the middle of each bin 40 detections, of which as many are right as the score says."""
    return joined(*(group((i + 0.5) / 20, 40, 2 * i + 1) for i in range(20)))


def test_perfectly_calibrated_detections_have_no_error() -> None:
    result = reliability_diagram(*calibrated())
    assert result.d_ece == pytest.approx(0, abs=1e-12)
    assert result.detections == 800
    assert all(b.count == 40 and b.precision == pytest.approx(b.score) for b in result.bins)


def test_over_confident_detections() -> None:
    """30 of .92 with precision .6, 10 of .62 with .5: (30 * .32 + 10 * .12) / 40 = .27"""
    result = reliability_diagram(*joined(group(0.92, 30, 18), group(0.62, 10, 5)))
    assert result.d_ece == pytest.approx(0.27)
    assert len(result.bins) == 20
    assert result.bins[18] == ReliabilityBin(30, pytest.approx(0.92), pytest.approx(0.6))
    assert result.bins[12] == ReliabilityBin(10, pytest.approx(0.62), pytest.approx(0.5))
    others = [b for i, b in enumerate(result.bins) if i not in {12, 18}]
    assert others == [ReliabilityBin(0, None, None)] * 18


def test_errors_of_two_bins_do_not_cancel_but_those_within_one_do() -> None:
    apart = reliability_diagram(*joined(group(0.22, 10, 0), group(0.52, 10, 10)))
    assert apart.d_ece == pytest.approx((0.22 + 0.48) / 2)
    together = reliability_diagram(*joined(group(0.51, 10, 0), group(0.53, 10, 10)))
    assert together.d_ece == pytest.approx(0.02)


def test_bins_hold_their_lower_edge_and_the_last_one_1() -> None:
    edges = np.linspace(0, 1, 21)
    result = reliability_diagram(edges, np.ones(21, np.bool_))
    assert [b.count for b in result.bins] == [1] * 19 + [2]


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=40))
def test_d_ece_is_its_definition(detections: list[tuple[float, bool]]) -> None:
    scores, right = (np.array(column) for column in zip(*detections, strict=True))
    result = reliability_diagram(scores, right)
    places = np.minimum((scores * 20).astype(int), 19)
    expected = sum(
        abs(right[places == i].sum() - scores[places == i].sum()) for i in range(20)
    ) / len(scores)
    assert result.d_ece == pytest.approx(expected, abs=1e-12)


def test_d_ece_by_chance_is_the_mean_over_all_outcomes() -> None:
    """30 detections at .2 and 10 at .8, each number of right ones by its probability."""

    def deviation(n: int, s: float) -> float:
        return sum(
            math.comb(n, k) * s**k * (1 - s) ** (n - k) * abs(k / n - s) for k in range(n + 1)
        )

    expected = 0.75 * deviation(30, 0.2) + 0.25 * deviation(10, 0.8)
    assert chance_d_ece([30, 0, 10], [0.2, 0.0, 0.8]) == pytest.approx(expected)
    assert chance_d_ece([4, 6], [1.0, 0.0]) == 0


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature: float) -> None:
    """Scores sigmoid(T logit(p)) of detections that are right with probability p."""
    truth, right = calibrated()
    scores = expit(temperature * logit(truth))
    assert fit_temperature(scores, right) == pytest.approx(temperature, rel=1e-4)
    mended = scaled(scores, slope=1 / temperature)
    assert mended == pytest.approx(truth, abs=1e-9)


def test_platt_scaling_finds_slope_and_intercept() -> None:
    truth, right = calibrated()
    scores = expit((logit(truth) - 0.7) / 1.6)
    slope, intercept = fit_platt(scores, right)
    assert (slope, intercept) == pytest.approx((1.6, 0.7), rel=1e-4)
    assert scaled(scores, slope=slope, intercept=intercept) == pytest.approx(truth, abs=1e-4)


def test_scores_of_0_and_1_stay_finite() -> None:
    """They are moved by 1e-7: at T = 2 its odds of 1e-7 become their root."""
    assert scaled(np.array([0.0, 1.0]), slope=0.5) == pytest.approx([3.161e-4, 1 - 3.161e-4], 1e-4)
    temperature = fit_temperature(np.array([0.0, 1.0, 1.0, 0.0]), np.array([0, 1, 0, 1], np.bool_))
    assert temperature == pytest.approx(100)  # no better than a coin


@pytest.mark.parametrize("right", [True, False])
def test_a_half_that_is_all_right_or_all_wrong_gives_finite_figures(*, right: bool) -> None:
    scores = np.linspace(0.1, 0.9, 9)
    outcome = np.full(9, right)
    figures = [fit_temperature(scores, outcome), *fit_platt(scores, outcome)]
    assert np.isfinite(figures).all()
    assert np.isfinite(scaled(scores, slope=figures[1], intercept=figures[2])).all()
    assert figures[1] > 0, "the ranking must stay as it is"


def test_one_half_is_fitted_and_the_other_measured() -> None:
    """The first two images of the permutation hold a T of 2, the others scores that are right."""
    truth, right = calibrated()
    first, second, third, fourth = np.random.default_rng(3).permutation(4)
    scores = np.concatenate([expit(2 * logit(truth)), truth])
    images = np.repeat([first, second, third, fourth], 400)
    actual = calibrate(scores, np.tile(right, 2), images, num_images=4, seed=3)
    assert actual is not None
    assert actual.temperature == pytest.approx(2, rel=1e-4)
    assert (actual.slope, actual.intercept) == pytest.approx((0.5, 0), abs=1e-4)
    assert actual.before.detections == actual.by_temperature.detections == 800
    assert actual.before.d_ece == pytest.approx(0, abs=1e-12)
    shrunk = expit(logit(truth) / 2)
    worse = reliability_diagram(shrunk, right)
    assert worse.d_ece > 0.05
    assert actual.by_temperature.d_ece == pytest.approx(worse.d_ece, abs=1e-4)
    assert actual.by_platt.d_ece == pytest.approx(worse.d_ece, abs=1e-4)


def test_too_few_detections() -> None:
    first, second = np.random.default_rng(0).permutation(2)
    scores, right = np.full(3, 0.5), np.array([True, False, True])
    one = np.array([first, first, second])
    assert calibrate(scores, right, one, num_images=2) is None
    assert calibrate(scores, right, np.array([first, second, second]), num_images=2) is None
    two = np.array([first, first, second, second])
    scores, right = np.full(4, 0.5), np.array([True, False, True, False])
    assert calibrate(scores, right, two, num_images=2) is not None
    assert calibrate(scores[:0], right[:0], two[:0], num_images=2) is None


def test_d_ece_by_chance_of_one_detection() -> None:
    """Right with probability .3: .3 * .7 + .7 * .3"""
    assert chance_d_ece([1], [0.3]) == pytest.approx(0.42)


def test_the_odd_image_is_measured_on() -> None:
    """Three images of two detections: one image is fitted on, two are measured."""
    scores = np.array([0.3, 0.8] * 3)
    actual = calibrate(scores, scores > 0.5, np.repeat(np.arange(3), 2), num_images=3)
    assert actual is not None and actual.before.detections == 4
