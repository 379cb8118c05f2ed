"""The numbers that the plots draw, by hand."""

import numpy as np
import pytest
from made_up import folder

from detector.evaluation.calibration import ReliabilityBin
from detector.lab.distribution import Shares
from detector.report import seed_means
from detector.report.diagnostics import Diagnostics, Histogram
from detector.report.folder import AblationFolder, read_folder
from detector.report.seed_means import Curve


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> AblationFolder:
    return read_folder(folder(tmp_path_factory.mktemp("means") / "tiny"))


def test_a_curve_has_mean_and_range_of_the_seeds(ablation: AblationFolder) -> None:
    """focal: .35, .36, .37, and half of each at the first epoch."""
    curve = seed_means.seed_curve(ablation.variant("focal").finished, "validation/AP")
    assert curve.x == (1.0, 2.0)
    assert curve.mean == pytest.approx((0.18, 0.36))
    assert (curve.low, curve.high) == ((0.175, 0.35), (0.185, 0.37))


def test_a_failed_run_is_in_no_mean(ablation: AblationFolder) -> None:
    """ignored: .001 and .003; the failed run's 0 at epoch 1 does not count."""
    curve = seed_means.seed_curve(ablation.variant("ignored").finished, "validation/AP")
    assert curve.mean == pytest.approx((0.001, 0.002))


def test_shares_are_read_by_quantity_and_group(ablation: AblationFolder) -> None:
    runs = ablation.variant("focal").runs
    loss, gradient = (seed_means.share_curves(runs, quantity) for quantity in ("loss", "gradient"))
    assert loss["positives"] == Curve((0.5, 1.5), (0.25, 0.25), (0.25, 0.25), (0.25, 0.25))
    assert [gradient[group].mean[0] for group in seed_means.ANCHOR_GROUPS] == [0.125, 0.25, 0.625]
    assert seed_means.share_curves((), "loss") == {}


def test_null_is_no_number(ablation: AblationFolder) -> None:
    """loss/total is 2 at epoch .5 and null, once not finite, at 1.5."""
    assert seed_means.points(ablation.runs[0], "loss/total") == [(0.5, 2.0)]


def test_thinned_takes_means_of_neighbours() -> None:
    x = tuple(float(k) for k in range(150))
    thin = seed_means.thinned(Curve(x, x, x, x))
    assert len(thin.x) == 75 and thin.mean[:2] == (0.5, 2.5) and thin.mean[-1] == 148.5
    short = Curve(x[:100], x[:100], x[:100], x[:100])
    assert seed_means.thinned(short) is short


def model(losses: tuple[float, ...], hardest: float) -> Diagnostics:
    """With one loss over anchors 0, .5 and 1."""
    share = Shares([0.0, 0.5, 1.0], list(losses), 1.0, {"0.1": hardest})
    return Diagnostics(loss_distribution={"own": {"foreground": share, "background": None}})


def test_cumulative_loss_is_the_mean_curve() -> None:
    """At a quarter of the anchors the two lines are at .1 and .2."""
    two = [model((0.0, 0.2, 1.0), 0.3), model((0.0, 0.4, 1.0), 0.5)]
    curve = seed_means.cumulative_loss(two, "own", "foreground")
    assert curve is not None
    assert np.interp(0.25, *curve) == pytest.approx(0.15, abs=1e-3)
    assert curve[1][-1] == 1.0
    assert seed_means.hardest(two, "own", "foreground") == {0.1: 0.4}
    assert seed_means.cumulative_loss(two, "own", "background") is None
    assert (
        seed_means.hardest(two, "own", "background")
        == {}
        == seed_means.hardest(two, "gamma=2", "both")
    )


def test_pooled_bins_weigh_by_detections(ablation: AblationFolder) -> None:
    """Three runs of focal: 30 detections each at .2, 10 each at .8 of which .4 are right."""
    bins = seed_means.pooled_bins(ablation.variant("focal").diagnosed, "before")
    assert len(bins) == 20 and bins[0] == ReliabilityBin(0, None, None)
    assert (bins[4].count, bins[16].count) == (90, 30)
    assert bins[16].score == pytest.approx(0.8) and bins[16].precision == pytest.approx(0.4)


def test_bins_of_unlike_size() -> None:
    """1 at .9 and right, 3 at .5 and wrong: score (.9 + 1.5) / 4 = .6, precision 1 / 4."""
    pooled = seed_means._pooled(
        [ReliabilityBin(1, 0.9, 1.0), ReliabilityBin(3, 0.5, 0.0), ReliabilityBin(0, None, None)]
    )
    assert pooled.count == 4
    assert pooled.score == pytest.approx(0.6) and pooled.precision == 0.25


def test_histogram_is_of_one_model(ablation: AblationFolder) -> None:
    """Foreground counts of the seeds are 1, 2, 3 in each bin."""
    histogram = seed_means.mean_histogram(ablation.variant("focal").diagnosed)
    assert isinstance(histogram, Histogram)
    assert histogram.foreground == [2.0] * 50 and histogram.background[1] == 196.0


def test_a_log_keeps_what_a_terminal_would_show(ablation: AblationFolder) -> None:
    assert ablation.runs[0].log == "first\nstep 2\ndiverged: focal"
