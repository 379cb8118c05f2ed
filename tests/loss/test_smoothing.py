import pytest
import torch
import torch.nn.functional as F
from loss_cases import ELEMENTWISE, ROWS, code_of, example, label_rows, logits_for
from test_focal import terms_at

from detector.loss.focal import Focal, Smoothed

ENTROPY = Focal(alpha=None, gamma=0)


@pytest.mark.parametrize(
    ("elementwise", "by_hand"),
    [
        (ENTROPY, 0.397543),  # 0.9 * 0.287682 + 0.1 * 1.386294
        (Focal(alpha=0.25, gamma=2), 0.0625298),  # 0.9 * 0.0044950 + 0.1 * 0.584843
    ],
)
def test_by_hand(elementwise: Focal, by_hand: float) -> None:
    """p 0.75, epsilon 0.2: the truth has 0.9; the other outcome has its own p_t and alpha_t."""
    loss = Smoothed(elementwise=elementwise, epsilon=0.2)(terms_at(0.75, positive=True))
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("elementwise", ELEMENTWISE.values(), ids=ELEMENTWISE.keys())
def test_epsilon_0_is_the_leaf(row: str, elementwise: Focal) -> None:
    code, targets = code_of(row), example()
    terms = code.terms(logits_for(targets, code), label_rows(targets))
    torch.testing.assert_close(
        Smoothed(elementwise=elementwise, epsilon=0.0)(terms), elementwise(terms)
    )


def test_is_binary_cross_entropy_of_smoothed_targets() -> None:
    code, targets = code_of("sigmoid-negatives"), example()
    logits, rows = logits_for(targets, code), label_rows(targets)
    loss = Smoothed(elementwise=ENTROPY, epsilon=0.1)(code.terms(logits, rows))
    expected = F.binary_cross_entropy_with_logits(
        logits, 0.9 * rows.float() + 0.05, reduction="none"
    )
    torch.testing.assert_close(loss, expected)


def test_is_torchs_label_smoothing_under_one_of() -> None:
    code, targets = code_of("softmax-class"), example()
    logits, rows = logits_for(targets, code), label_rows(targets)
    loss = Smoothed(elementwise=ENTROPY, epsilon=0.1)(code.terms(logits, rows))
    classes = F.pad(rows.float(), (0, 1), value=0.5).argmax(-1)  # 3: none of them
    expected = F.cross_entropy(
        logits.flatten(0, 1), classes.flatten(), label_smoothing=0.1, reduction="none"
    )
    torch.testing.assert_close(loss.flatten(), expected)


def test_focal_under_one_of_is_the_mean_over_the_outcomes() -> None:
    """p an eighth of 1, 2, 1, 4; the last is background and has 1 - alpha."""
    code = code_of("softmax-class")
    logits = torch.tensor([[1.0, 2.0, 1.0, 4.0]], dtype=torch.float64).log()
    labels = torch.tensor([[False, True, False]])
    loss = Smoothed(elementwise=Focal(alpha=0.25, gamma=2), epsilon=0.2)(code.terms(logits, labels))
    p = torch.tensor([1.0, 2.0, 1.0, 4.0], dtype=torch.float64) / 8
    each = torch.tensor([0.25, 0.25, 0.25, 0.75]) * (1 - p) ** 2 * -p.log()
    torch.testing.assert_close(loss.squeeze(), 0.8 * each[1] + 0.2 * each.mean())
