"""The focal paper's Figure 4 on losses and logits whose shares can be found on paper."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.anchors.class_code import ClassCode
from detector.lab.distribution import (
    ANCHOR_SHARES,
    HARDEST,
    LOSS_BINS,
    Shares,
    score_histograms,
    shares,
    tally,
    tally_by_part,
)
from detector.loss.focal import Focal, QualityFocal
from detector.structures import BACKGROUND, IGNORED, Targets


def found(losses: list[float]) -> Shares:
    """The shares of losses."""
    result = shares(tally(torch.tensor(losses)))
    assert result is not None
    return result


def at(result: Shares, share: float) -> float:
    """The share of the loss that so large a share of the anchors holds."""
    return float(np.interp(share, result.anchors, result.loss))


def targets(matches: list[int], labels: list[list[bool]]) -> Targets:
    """Of one image; matches are places in `labels`, BACKGROUND or IGNORED."""
    return Targets(
        anchors=torch.zeros(len(matches), 4),
        matches=torch.tensor([matches]),
        boxes=torch.zeros(1, len(labels), 4),
        labels=torch.tensor([labels]),
        keys=torch.zeros(1, dtype=torch.int64),
    )


def test_the_points_resolve_the_hard_end() -> None:
    assert len(ANCHOR_SHARES) == 200 and ANCHOR_SHARES[0] == 0 and ANCHOR_SHARES[-1] == 1
    assert (np.diff(ANCHOR_SHARES) > 0).all()
    for share in (0.5, 0.9, 0.99, 0.999, 0.9999):
        assert np.abs(ANCHOR_SHARES - share).min() < 1e-12


def test_four_losses() -> None:
    """1 + 2 + 3 + 4 = 10. The hardest tenth is 0.4 anchors: 0.4 * 4 / 10 = 0.16 of the loss."""
    result = found([3, 1, 4, 2])
    assert result.total == 10
    assert [at(result, x) for x in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx([0, 0.1, 0.3, 0.6, 1])
    assert at(result, 0.6) == pytest.approx(0.3 + 0.4 * 3 / 10)
    assert result.hardest == pytest.approx({"0.001": 0.0016, "0.01": 0.016, "0.1": 0.16})


def test_equal_losses_lie_on_the_diagonal() -> None:
    result = found([0.7] * 1000)
    assert result.loss == pytest.approx(result.anchors)
    assert result.hardest == pytest.approx({"0.001": 0.001, "0.01": 0.01, "0.1": 0.1})


def test_one_hard_anchor_of_a_thousand_holds_half() -> None:
    """999 losses of 1 and one of 999: the hardest 0.1 % hold half, 1 % that and 9 / 1998."""
    result = found([1.0] * 999 + [999.0])
    assert result.hardest["0.001"] == pytest.approx(0.5)
    assert result.hardest["0.01"] == pytest.approx(0.5 + 9 / 1998)
    assert at(result, 0.999) == pytest.approx(0.5)


@pytest.mark.parametrize("losses", [[], [0.0, -0.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_without_a_loss_there_is_no_curve(losses: list[float]) -> None:
    assert shares(tally(torch.tensor(losses))) is None


def test_a_zero_with_a_sign_is_the_easiest() -> None:
    assert at(found([-0.0, 1.0]), 0.5) == 0


def test_rounding_below_zero_is_zero() -> None:
    result = found([-1e-8, 1.0])
    assert result.total == 1 and at(result, 0.5) == 0


amounts = st.floats(2.0**-90, 1e4, width=32) | st.just(0.0)


@given(st.lists(amounts, min_size=1, max_size=60).filter(any))
def test_bins_stay_close_to_sorting(losses: list[float]) -> None:
    """Crowded into a few bins by a factor, the curve is that of the sorted losses to 1/8192."""
    for crowded in (losses, [1 + loss / 1e7 for loss in losses]):
        values = np.sort(np.array(crowded, np.float32).astype(float))
        held = np.cumsum([0, *values]) / values.sum()
        places = np.linspace(0, 1, len(held))
        result = found(crowded)
        assert np.abs(result.loss - np.interp(ANCHOR_SHARES, places, held)).max() < 1 / 8192 + 1e-9
        assert result.total == pytest.approx(values.sum())
        for share in HARDEST:
            exact = 1 - np.interp(1 - share, places, held)
            assert result.hardest[str(share)] == pytest.approx(exact, abs=1 / 8192)


@settings(max_examples=20)  # each makes 24 MB
@given(st.lists(amounts, max_size=30), st.lists(amounts, max_size=30))
def test_tallies_add_up(first: list[float], second: list[float]) -> None:
    parts = tally(torch.tensor(first)) + tally(torch.tensor(second))
    whole = tally(torch.tensor(first + second))
    assert whole.shape == (2, LOSS_BINS)
    assert torch.equal(parts[0], whole[0])
    torch.testing.assert_close(parts[1], whole[1])


@pytest.mark.parametrize(
    ("gamma", "easy", "hard"),
    [
        (0, 0.1053605, 2.3025851),  # -ln .9, -ln .1
        (1, 0.0105361, 2.0723266),  # times .1, .9
        (2, 0.0010536, 1.8650939),  # times .01, .81
    ],
)
def test_figure_4_of_constructed_logits(gamma: float, easy: float, hard: float) -> None:
    """900 background anchors of score .1 and 100 of .9; two foreground anchors of .9 and .1."""
    logit = math.log(9)
    logits = torch.tensor([-logit] * 900 + [logit] * 100 + [logit, -logit, 50.0])[None, :, None]
    truth = targets([BACKGROUND] * 1000 + [0, 0, IGNORED], [[True]])
    code = ClassCode(num_classes=1)
    parts = tally_by_part(logits, truth, code=code, elementwise=Focal(alpha=None, gamma=gamma))
    foreground, background = (shares(part) for part in parts)
    assert foreground is not None and background is not None
    assert foreground.total == pytest.approx(easy + hard, rel=1e-5)
    assert at(foreground, 0.5) == pytest.approx(easy / (easy + hard), rel=1e-4)
    assert background.total == pytest.approx(900 * easy + 100 * hard, rel=1e-5)
    share = 100 * hard / (900 * easy + 100 * hard)  # .708, .956, .995
    assert background.hardest["0.1"] == pytest.approx(share, rel=1e-5)
    assert background.hardest["0.01"] == pytest.approx(share / 10, rel=1e-5)


def test_a_code_that_ignores_background_has_no_background_loss() -> None:
    code = ClassCode(num_classes=2, background="ignored", prior=None)
    truth = targets([0, BACKGROUND], [[True, False]])
    parts = tally_by_part(
        torch.ones(1, 2, 2), truth, code=code, elementwise=Focal(alpha=None, gamma=0)
    )
    foreground, background = (shares(part) for part in parts)
    assert background is None
    assert foreground is not None
    assert foreground.total == pytest.approx(math.log(1 + math.exp(-1)) + math.log(1 + math.e))


def test_a_leaf_that_reads_quality_gets_it() -> None:
    """Soft cross entropy, of an anchor with score .9 and IoU y = .25: -y ln .9 - (1 - y) ln .1."""
    truth = targets([0, BACKGROUND], [[True]])
    logits = torch.tensor([[[math.log(9)], [0.0]]])
    elementwise = QualityFocal(gamma=0)
    parts = tally_by_part(
        logits,
        truth,
        torch.tensor([[0.25, 1.0]]),
        code=ClassCode(num_classes=1),
        elementwise=elementwise,
    )
    foreground, background = (shares(part) for part in parts)
    assert foreground is not None and background is not None
    assert foreground.total == pytest.approx(-0.25 * math.log(0.9) - 0.75 * math.log(0.1))
    assert background.total == pytest.approx(math.log(2))


def test_score_histograms() -> None:
    """Foreground by its true class, of several the likeliest; background by its likeliest."""

    def logit(score: float) -> float:
        return math.log(score / (1 - score))

    scores = [[0.11, 0.99], [0.31, 0.51], [0.71, 0.05], [0.01, 0.01], [0.91, 0.91]]
    logits = torch.tensor([[[logit(score) for score in row] for row in scores]])
    truth = targets([0, 1, BACKGROUND, BACKGROUND, IGNORED], [[True, False], [True, True]])
    foreground, background = score_histograms(logits, truth, code=ClassCode(num_classes=2))
    assert {5: 1, 25: 1} == {k: n for k, n in enumerate(foreground.tolist()) if n}
    assert {35: 1, 0: 1} == {k: n for k, n in enumerate(background.tolist()) if n}


def test_scores_of_0_and_1_are_in_the_outer_bins() -> None:
    logits = torch.tensor([[[-1e4], [1e4]]])
    truth = targets([BACKGROUND, BACKGROUND], [])
    truth = Targets(truth.anchors, truth.matches, truth.boxes, torch.zeros(1, 0, 1).bool(),
                    truth.keys)  # fmt: skip
    foreground, background = score_histograms(logits, truth, code=ClassCode(num_classes=1))
    assert foreground.sum() == 0
    assert background.nonzero().flatten().tolist() == [0, 49]
