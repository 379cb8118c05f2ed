import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import ELEMENTWISE, code_of, example, label_rows, logits_for, quality_of

from detector.anchors.class_code import Terms
from detector.loss.elementwise import ElementwiseLoss
from detector.loss.focal import Focal, QualityFocal, Varifocal


def terms_at(p: float, quality: float, *, positive: bool) -> Terms:
    """p is of the class, whether it is there or not."""
    truth, other = (p, 1 - p) if positive else (1 - p, p)
    values = (torch.tensor([[math.log(x)]], dtype=torch.float64) for x in (truth, other))
    return Terms(*values, torch.tensor([[positive]]), torch.tensor([[quality]]))


@pytest.mark.parametrize(
    ("elementwise", "p", "quality", "positive", "by_hand"),
    [
        (QualityFocal(), 0.5, 0.8, True, 0.0623832),  # 0.3^2 * 0.693147
        (QualityFocal(alpha=0.25), 0.5, 0.8, True, 0.0155958),
        (QualityFocal(), 0.6, 0.8, True, 0.0236768),  # 0.2^2 (0.8 * 0.510826 + 0.2 * 0.916291)
        (QualityFocal(), 0.6, 0.8, False, 0.3298646),  # 0.6^2 * 0.916291: the box is not its own
        (QualityFocal(), 0.6, 0.0, True, 0.3298646),  # a box that misses: the same
        (QualityFocal(gamma=0), 0.6, 0.8, True, 0.5919190),
        (Varifocal(), 0.6, 0.8, True, 0.4735352),  # 0.8 * 0.591919, not focused
        (Varifocal(), 0.5, 0.8, False, 0.1299651),  # 0.75 * 0.5^2 * 0.693147
        (Varifocal(), 0.5, 0.0, True, 0.1299651),
        (Varifocal(alpha=None, gamma=0), 0.5, 0.8, False, 0.6931472),
    ],
)
def test_by_hand(
    elementwise: ElementwiseLoss, p: float, quality: float, positive: bool, by_hand: float
) -> None:
    cost = elementwise(terms_at(p, quality, positive=positive))
    assert cost.item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("row", ["sigmoid-negatives", "sigmoid-class", "sigmoid-ignored"])
def test_of_boxes_that_fit_quality_focal_is_focal(name: str, row: str) -> None:
    code, targets, focal = code_of(row), example(), ELEMENTWISE[name]
    logits = logits_for(targets, code, torch.float64)
    terms = code.terms(logits, label_rows(targets), torch.ones(2, 7, 1))
    found = QualityFocal(alpha=focal.alpha, gamma=focal.gamma)(terms)
    torch.testing.assert_close(found, focal(terms))


def test_without_focusing_quality_is_the_target_of_binary_cross_entropy() -> None:
    code, targets = code_of("sigmoid-negatives"), example()
    logits, rows, quality = logits_for(targets, code), label_rows(targets), quality_of(targets)
    found = QualityFocal(gamma=0)(code.terms(logits, rows, quality[..., None]))
    soft = rows * quality[..., None]
    expected = F.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    torch.testing.assert_close(found, expected)


def test_negatives_of_varifocal_are_those_of_focal() -> None:
    code, targets = code_of("sigmoid-negatives"), example()
    rows = torch.zeros_like(label_rows(targets))
    terms = code.terms(logits_for(targets, code), rows, quality_of(targets)[..., None])
    torch.testing.assert_close(Varifocal(alpha=0.25)(terms), Focal(alpha=0.25)(terms))


@pytest.mark.parametrize("elementwise", [QualityFocal(), QualityFocal(gamma=0), Varifocal()])
@given(st.floats(0.01, 0.99), st.floats(-5, 5))
def test_no_score_is_better_than_the_iou(
    elementwise: ElementwiseLoss, quality: float, logit: float
) -> None:
    def cost(z: float) -> float:
        p = torch.tensor(z, dtype=torch.float64).sigmoid().item()
        return elementwise(terms_at(p, quality, positive=True)).item()

    assert cost(math.log(quality / (1 - quality))) <= cost(logit) + 1e-7


def test_a_background_channel_wants_1_on_background() -> None:
    """Logits 0 and quality 0.5 of a box: its class wants 0.5, its background channel 0."""
    code = code_of("sigmoid-class")
    labels = torch.tensor([[False, True, False], [False, False, False]])
    quality = torch.tensor([[0.5], [1.0]])
    z = torch.zeros(2, 4, requires_grad=True)
    QualityFocal(gamma=0)(code.terms(z, labels, quality)).sum().backward()
    expected = torch.tensor([[0.5, 0, 0.5, 0.5], [0.5, 0.5, 0.5, -0.5]])
    torch.testing.assert_close(z.grad, expected)
