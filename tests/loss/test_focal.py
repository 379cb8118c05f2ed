import math

import pytest
import torch
import torch.nn.functional as F
from loss_cases import ELEMENTWISE
from torchvision.ops import sigmoid_focal_loss

from detector.anchors.class_code import ClassCode, Terms
from detector.loss.focal import Focal


def terms_at(p: float, *, positive: bool) -> Terms:
    return Terms(
        torch.tensor([math.log(p)]), torch.tensor([math.log(1 - p)]), torch.tensor([positive])
    )


@pytest.mark.parametrize(
    ("p", "positive", "alpha", "gamma", "by_hand"),
    [
        (0.5, True, 0.25, 2.0, 0.043322),  # 0.25 * 0.5^2 * 0.693147
        (0.5, False, 0.25, 2.0, 0.129965),  # 0.75 * 0.5^2 * 0.693147
        (0.9, True, None, 2.0, 0.00105361),  # 0.1^2 * 0.105361, 100 times less than cross entropy
        (0.9, True, None, 0.0, 0.105361),
        (0.1, True, 0.75, 0.5, 1.638326),  # 0.75 * 0.9^0.5 * 2.302585
        (0.5, False, 1.0, 2.0, 0.0),  # alpha 1 silences what is not positive
    ],
)
def test_by_hand(
    p: float, positive: bool, alpha: float | None, gamma: float, by_hand: float
) -> None:
    loss = Focal(alpha=alpha, gamma=gamma)(terms_at(p, positive=positive))
    assert loss.item() == pytest.approx(by_hand, rel=1e-4)


def test_gamma_0_alpha_none_is_binary_cross_entropy() -> None:
    logits, labels = 4 * torch.randn(50, 6), torch.rand(50, 6) < 0.3
    loss = Focal(alpha=None, gamma=0)(ClassCode(num_classes=6).terms(logits, labels))
    expected = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
    torch.testing.assert_close(loss, expected)


def test_gamma_0_alpha_none_is_cross_entropy_under_one_of() -> None:
    code = ClassCode(num_classes=5, activation="softmax", background="class")
    logits, classes = 4 * torch.randn(50, 6), torch.randint(0, 6, (50,))
    labels = F.one_hot(classes, 6)[:, :5].bool()  # class 5 is background
    loss = Focal(alpha=None, gamma=0)(code.terms(logits, labels)).squeeze(-1)
    torch.testing.assert_close(loss, F.cross_entropy(logits, classes, reduction="none"))


def test_is_torchvisions() -> None:
    logits, labels = 4 * torch.randn(50, 6), torch.rand(50, 6) < 0.3
    loss = Focal(alpha=0.25, gamma=2)(ClassCode(num_classes=6).terms(logits, labels))
    expected = sigmoid_focal_loss(logits, labels.float(), alpha=0.25, gamma=2)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)


def test_gamma_0_ignores_an_infinite_log_q() -> None:
    certain = Terms(torch.zeros(1), torch.full((1,), -torch.inf), torch.ones(1, dtype=torch.bool))
    assert Focal(alpha=None, gamma=0)(certain).item() == 0


@pytest.mark.parametrize("elementwise", ELEMENTWISE.values(), ids=ELEMENTWISE.keys())
def test_alpha_keeps_float64(elementwise: Focal) -> None:
    terms = Terms(*(torch.tensor([math.log(0.5)], dtype=torch.float64),) * 2, torch.tensor([True]))
    alpha = 1 if elementwise.alpha is None else elementwise.alpha
    assert elementwise(terms).item() == pytest.approx(
        alpha * 0.5**elementwise.gamma * math.log(2), rel=1e-14
    )


def test_the_papers_numbers_are_the_defaults() -> None:
    """Lin et al. 2017, table 1b: alpha 0.25 and gamma 2; 0.25 * 0.5^2 * 0.693147."""
    assert Focal()(terms_at(0.5, positive=True)).item() == pytest.approx(0.043322, abs=1e-6)
