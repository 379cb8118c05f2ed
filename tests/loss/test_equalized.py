import math

import pytest
import torch
from loss_cases import ELEMENTWISE, code_of, example, label_rows, logits_for

from detector.anchors.class_code import ClassCode
from detector.loss.by_class import Equalized, rare_classes


@pytest.mark.parametrize(
    ("background", "by_hand"),
    [
        ("negatives", [[1, 1, 0], [0, 1, 0], [1, 1, 1]]),
        # whether background is there is no rival that could hold a rare class down
        ("class", [[1, 1, 0, 1], [0, 1, 0, 1], [1, 1, 1, 1]]),
    ],
)
def test_by_hand(background: str, by_hand: list[list[int]]) -> None:
    """Classes 0 and 2 are rare; anchors of class 0, of class 1 and of background; log 2 a term."""
    code = ClassCode(num_classes=3, background=background)
    labels = torch.tensor([[True, False, False], [False, True, False], [False, False, False]])
    elementwise = Equalized(ELEMENTWISE["cross_entropy"], torch.tensor([1.0, 0.0, 1.0]))
    cost = elementwise(code.terms(torch.zeros(3, code.channels), labels))
    torch.testing.assert_close(cost, math.log(2) * torch.tensor(by_hand))


@pytest.mark.parametrize("row", ["sigmoid-negatives", "sigmoid-class", "sigmoid-ignored"])
def test_without_rare_classes_it_is_the_leaf(row: str) -> None:
    code, targets, focal = code_of(row), example(), ELEMENTWISE["focal"]
    terms = code.terms(logits_for(targets, code), label_rows(targets))
    assert Equalized(focal, torch.zeros(3))(terms).equal(focal(terms))


@pytest.mark.parametrize(
    ("counts", "by_hand"),
    [
        ([90, 9, 1], [0, 1, 1]),
        ([80, 10, 10], [0, 0, 0]),  # a tenth is not below a tenth
        ([99, 1, 0], [0, 1, 1]),
        ([math.nan] * 3, [math.nan] * 3),
    ],
)
def test_rare_is_what_has_a_small_share_of_the_boxes(
    counts: list[float], by_hand: list[float]
) -> None:
    found = rare_classes(torch.tensor(counts), below=0.1)
    expected = torch.tensor(by_hand, dtype=torch.float64)
    torch.testing.assert_close(found, expected, equal_nan=True)
