"""Who gives the loss and its gradient, in numbers that a person can redo."""

import math

import pytest
import torch

from detector.anchors.class_code import ClassCode
from detector.loss.origin import origin
from detector.structures import BACKGROUND, IGNORED, Targets

ONE = ClassCode(num_classes=2, activation="sigmoid", background="negatives")
BOTH = ClassCode(num_classes=2, activation="softmax", background="class")


def targets(matches: list[list[int]]) -> Targets:
    labels = torch.tensor([[[True, False]]])
    count = len(matches[0])
    return Targets(
        anchors=torch.zeros(count, 4),
        matches=torch.tensor(matches),
        boxes=torch.zeros(1, 1, 4),
        labels=labels,
        keys=torch.zeros(1, dtype=torch.int64),
    )


def test_by_hand() -> None:
    """A positive, an ignored one, two easy negatives and a hard one; p = .6 and .4 lie about .5."""
    logits = torch.tensor(
        [[[9.0, 9], [9, 9], [-3, -3], [math.log(4 / 6), -9], [-9, math.log(6 / 4)]]]
    )
    losses = torch.tensor([[1.0, 0, 2, 4, 8]])
    gradient = torch.tensor([[[3.0, -4], [7, 7], [-1, 0], [0.5, 0.5], [0, -10]]])
    found = origin(losses, logits, gradient, targets([[0, IGNORED, -1, -1, -1]]), code=ONE)
    assert found.tolist() == [[1, 6, 8], [7, 2, 10]]
    assert found.dtype == torch.float64


def test_hardness_is_the_score_and_not_the_logit() -> None:
    """Under softmax the same foreground logit is easy or hard by the background logit beside it."""
    logits = torch.tensor([[[2.0, 0, 5], [2.0, 0, -5]]])
    found = origin(
        torch.ones(1, 2), logits, torch.ones(1, 2, 3), targets([[BACKGROUND] * 2]), code=BOTH
    )
    assert found.tolist() == [[0, 1, 1], [0, 3, 3]]


@pytest.mark.parametrize("code", [ONE, BOTH])
def test_chunks_change_nothing(code: ClassCode, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 50, code.channels, generator=generator)
    losses, gradient = torch.rand(1, 50, generator=generator), torch.randn_like(logits)
    where = targets([[0] * 10 + [BACKGROUND] * 40])
    whole = origin(losses, logits, gradient, where, code=code)
    monkeypatch.setattr("detector.loss.origin.CHUNK", 7)
    assert origin(losses, logits, gradient, where, code=code).equal(whole)
    assert whole[0].sum().item() == pytest.approx(losses.double().sum().item())
