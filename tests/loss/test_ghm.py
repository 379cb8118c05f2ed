import math

import pytest
import torch
from loss_cases import ROWS, SAMPLERS, code_of, example, label_rows, logits_for
from torch import Tensor

from detector.anchors.box_coder import BoxCoder
from detector.anchors.class_code import ClassCode, Terms
from detector.loss import classification, ghm
from detector.loss.box import L1, BoxLoss
from detector.loss.classification import ClassificationLoss, trainable
from detector.loss.detection import DetectionLoss
from detector.loss.elementwise import Chunks
from detector.loss.ghm import GHMC
from detector.loss.normalizer import Sampled
from detector.structures import BACKGROUND, IGNORED, Outputs, Targets


def terms_at(*p: float) -> Terms:
    truth = torch.tensor(p, dtype=torch.float64)[:, None]
    return Terms(truth.log(), (1 - truth).log(), torch.ones(len(p), 1, dtype=torch.bool))


def batch(*p: float) -> Chunks:
    """In two parts; the last row of each does not count."""

    def parts():
        half = len(p) // 2
        for some in (p[:half], p[half:]):
            yield terms_at(*some, 0.5), torch.tensor([True] * len(some) + [False])

    return parts


def test_by_hand() -> None:
    """Norms .2 .2 .2 .7 in two bins: densities 6 and 2 (N 4), so weights 2/3 and 2."""
    elementwise = GHMC(bins=2, momentum=0)
    elementwise.observe(batch(0.8, 0.8, 0.8, 0.3))
    assert elementwise.shares.tolist() == [0.75, 0.25]
    cost = elementwise(terms_at(0.8, 0.8, 0.8, 0.3)).squeeze()
    expected = torch.tensor([0.148762, 0.148762, 0.148762, 2.407946], dtype=torch.float64)
    torch.testing.assert_close(cost, expected, rtol=1e-5, atol=0)
    # the paper's sum of CE / GD: 3 * 0.223144 / 6 + 1.203973 / 2
    assert cost.mean().item() == pytest.approx(0.713558, rel=1e-5)


def test_equal_densities_are_cross_entropy() -> None:
    elementwise, terms = GHMC(bins=2), terms_at(0.8, 0.9, 0.3, 0.1)
    assert elementwise(terms).equal(-terms.log_p)  # nothing seen
    elementwise.observe(batch(0.8, 0.9, 0.3, 0.1))
    assert elementwise(terms).equal(-terms.log_p)


def test_norms_of_0_and_1_have_a_bin_and_nan_stays_nan() -> None:
    sure = Terms(torch.tensor([[0.0, -1e4, math.nan]]), torch.tensor([[-1e4, 0.0, math.nan]]),
                 torch.ones(1, 3, dtype=torch.bool))  # fmt: skip
    elementwise = GHMC(bins=30)
    elementwise.observe(lambda: iter([(sure, torch.tensor([True]))]))
    assert elementwise.shares[[0, 29]].tolist() == pytest.approx([2 / 3, 1 / 3])
    cost = elementwise(sure)[0]
    assert cost[:2].tolist() == pytest.approx([0, 1e4 / 30 * 3 / 3])
    assert cost[2].isnan()


def test_momentum() -> None:
    """0.6 of the past; a bin seen for the first time has no past, an empty one only the past."""
    elementwise = GHMC(bins=4, momentum=0.6)
    elementwise.observe(batch(0.9, 0.9, 0.9, 0.6))
    assert elementwise.shares.tolist() == pytest.approx([0.75, 0.25, 0, 0])
    elementwise.observe(batch(0.9, 0.1, 0.1, 0.1))
    assert elementwise.shares.tolist() == pytest.approx([0.6 * 0.75 + 0.4 * 0.25, 0.25, 0, 0.75])


def test_a_batch_of_nothing_moves_nothing() -> None:
    elementwise = GHMC(bins=2)
    elementwise.observe(batch(0.8, 0.3))
    elementwise.observe(batch())
    assert elementwise.shares.tolist() == [0.5, 0.5]


def test_counts_are_those_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    elementwise = GHMC(bins=2)
    monkeypatch.setattr(ghm, "sum_over_ranks", lambda own: own + torch.tensor([1, 5]))
    elementwise.observe(batch(0.8, 0.3))
    assert elementwise.shares.tolist() == [2 / 8, 6 / 8]


def observed(row: str, targets: Targets) -> Tensor:
    loss = ClassificationLoss(code=code_of(row), elementwise=GHMC(bins=5), sampler=SAMPLERS["all"])
    loss(logits_for(targets, loss.code).requires_grad_(), targets)
    return loss.elementwise.shares


@pytest.mark.parametrize("row", ROWS)
def test_the_norms_of_trained_anchors_are_counted(
    row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets, code = example(), code_of(row)
    terms = code.terms(logits_for(targets, code), label_rows(targets))
    norms = (1 - terms.log_p.exp())[trainable(targets.matches, code=code)]
    expected = torch.histc(norms, 5, 0, 1) / norms.numel()
    torch.testing.assert_close(observed(row, targets), expected)
    monkeypatch.setattr(classification, "CPU_CHUNK", 9)
    torch.testing.assert_close(observed(row, targets), expected)


def test_a_validation_loss_moves_nothing() -> None:
    targets, code = example(), code_of("sigmoid-negatives")
    loss = ClassificationLoss(code=code, elementwise=GHMC(), sampler=SAMPLERS["all"])
    whole = DetectionLoss(loss, BoxLoss(compare=L1(box_coder=BoxCoder())), Sampled())
    whole.tally(Outputs(logits_for(targets, code), torch.zeros(2, 7, 4)), targets)
    assert not loss.elementwise.shares.any()
    loss(logits_for(targets, code), targets)
    assert loss.elementwise.shares.sum().item() == pytest.approx(1)


def test_divided_by_the_anchors_it_is_the_papers_mean_over_all_terms() -> None:
    """Three classes, two anchors that count: the sum of CE / GD with N = 6 norms."""
    code, elementwise = ClassCode(num_classes=3), GHMC(bins=10, momentum=0)
    targets = Targets(
        torch.zeros(3, 4),
        torch.tensor([[0, IGNORED, BACKGROUND]]),
        torch.zeros(1, 1, 4),
        torch.tensor([[[True, False, False]]]),
        torch.zeros(1, dtype=torch.long),
    )
    logits = torch.tensor([[[1.0, -2.0, -1.9], [9.0, 9.0, 9.0], [-2.1, 0.3, -5.0]]])
    loss = ClassificationLoss(code=code, elementwise=elementwise, sampler=SAMPLERS["all"])(
        logits, targets
    )
    p = torch.tensor([1.0, 2.0, 1.9, 2.1, -0.3, 5.0]).sigmoid()
    width = 0.1
    density = torch.tensor([((1 - p) // width == (1 - own) // width).sum() for own in p]) / width
    expected = (-p.log() / density).sum().item()
    assert loss.sum().item() / 2 == pytest.approx(expected, rel=1e-5)
