import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import ELEMENTWISE, ROWS, code_of, example, label_rows, logits_for
from torch import Tensor

from detector.anchors.class_code import ClassCode
from detector.loss.by_class import ClassWeighted, effective_number_weights
from detector.loss.focal import Focal

ENTROPY = ELEMENTWISE["cross_entropy"]


@pytest.mark.parametrize(
    ("counts", "beta", "by_hand"),
    [
        ([1, 2], 0.5, [1.2, 0.8]),  # effective numbers 1 and 1.5
        ([1, 2, 3], 0.5, [63 / 47, 42 / 47, 36 / 47]),  # 1, 3/2 and 7/4
        ([10, 1000, 7], 0.0, [1, 1, 1]),  # every class has the effective number 1
        ([0, 1, 2], 0.5, [1, 1.2, 0.8]),  # without a box: 1, and the others as if it were not there
        ([0, 0], 0.9, [1, 1]),
        ([math.nan, math.nan], 0.9, [math.nan, math.nan]),
    ],
)
def test_effective_number_by_hand(counts: list[float], beta: float, by_hand: list[float]) -> None:
    weights = effective_number_weights(torch.tensor(counts), beta=beta)
    expected = torch.tensor(by_hand, dtype=torch.float64)
    torch.testing.assert_close(weights, expected, equal_nan=True)


@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=80), st.floats(0, 0.99999))
def test_weights_sum_to_the_number_of_classes_and_favour_the_rare(
    counts: list[int], beta: float
) -> None:
    weights = effective_number_weights(torch.tensor(counts), beta=beta)
    assert weights.sum().item() == pytest.approx(len(counts))
    order = torch.tensor(counts).argsort()
    assert (weights[order].diff() <= 1e-9).all()


def test_beta_near_1_is_the_inverse_of_the_counts() -> None:
    counts = torch.tensor([10, 20, 50])
    weights = effective_number_weights(counts, beta=1 - 1e-9)
    torch.testing.assert_close(weights * counts / (weights[0] * 10), torch.ones(3).double())


def loss_of(row: str, weights: Tensor) -> Tensor:
    code, targets = code_of(row), example()
    terms = code.terms(logits_for(targets, code), label_rows(targets))
    return ClassWeighted(Focal(), weights)(terms)


@pytest.mark.parametrize("row", ROWS)
def test_weights_of_1_are_none(row: str) -> None:
    code, targets = code_of(row), example()
    terms = code.terms(logits_for(targets, code), label_rows(targets))
    trained = ... if code.trains_background else targets.foreground
    assert ClassWeighted(Focal(), torch.ones(3))(terms)[trained].equal(Focal()(terms)[trained])


@pytest.mark.parametrize("background", ["negatives", "class"])
def test_all_terms_of_an_anchor_weigh_as_its_label(background: str) -> None:
    """Logits 0, log 2 a term: three times of an anchor of class 1, once of background."""
    code = ClassCode(num_classes=3, background=background)
    labels = torch.tensor([[False, True, False], [False, False, False]])
    elementwise = ClassWeighted(ENTROPY, torch.tensor([2.0, 3.0, 5.0]))
    found = elementwise(code.terms(torch.zeros(2, code.channels), labels)) / math.log(2)
    expected = torch.tensor([[3.0], [1.0]]).expand(-1, code.channels)
    torch.testing.assert_close(found, expected)


def test_one_of_weighs_by_the_truth_as_torch_does() -> None:
    code, targets = code_of("softmax-class"), example()
    logits, rows = logits_for(targets, code), label_rows(targets)
    elementwise = ClassWeighted(ENTROPY, torch.tensor([2.0, 3.0, 5.0]))
    classes = F.pad(rows.float(), (0, 1), value=0.5).argmax(-1)  # 3: none of them
    expected = F.cross_entropy(
        logits.flatten(0, 1),
        classes.flatten(),
        weight=torch.tensor([2.0, 3.0, 5.0, 1.0]),
        reduction="none",
    )
    torch.testing.assert_close(elementwise(code.terms(logits, rows)).flatten(), expected)


def test_the_weights_go_into_the_checkpoint() -> None:
    elementwise = ClassWeighted(Focal(), torch.tensor([2.0, 3.0]))
    other = ClassWeighted(Focal(), torch.full((2,), torch.nan))
    other.load_state_dict(elementwise.state_dict())
    assert other.weights.tolist() == [2, 3]
