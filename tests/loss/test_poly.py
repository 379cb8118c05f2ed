import math

import pytest
import torch
from loss_cases import ELEMENTWISE
from test_focal import terms_at

from detector.loss.focal import Focal, Poly1


@pytest.mark.parametrize(
    ("elementwise", "positive", "by_hand"),
    [
        (Poly1(epsilon=2), True, 1.693147),  # 0.693147 + 2 * 0.5
        (Poly1(epsilon=-1), True, 0.193147),
        (Poly1(epsilon=-1, gamma=2), True, 0.0482868),  # 0.25 * 0.693147 - 0.125
        (Poly1(epsilon=-1, alpha=0.25, gamma=2), True, 0.0120717),  # a quarter of it
        (Poly1(epsilon=-1, alpha=0.25, gamma=2), False, 0.0362151),  # three quarters
    ],
)
def test_by_hand_at_even_odds(elementwise: Poly1, positive: bool, by_hand: float) -> None:
    assert elementwise(terms_at(0.5, positive=positive)).item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("elementwise", ELEMENTWISE.values(), ids=ELEMENTWISE.keys())
def test_epsilon_0_is_focal(elementwise: Focal) -> None:
    terms = terms_at(0.3, positive=True)
    assert Poly1(epsilon=0, alpha=elementwise.alpha, gamma=elementwise.gamma)(terms).equal(
        elementwise(terms)
    )


@pytest.mark.parametrize("gamma", [0, 0.5, 2])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_is_the_series_with_another_first_coefficient(p: float, gamma: float) -> None:
    series = [(1 - p) ** (j + gamma) / j for j in range(1, 500)]
    expected = math.fsum([1.7 * series[0], *series[1:]])
    found = Poly1(epsilon=0.7, gamma=gamma)(terms_at(p, positive=False))
    torch.testing.assert_close(found, torch.tensor([expected]))
