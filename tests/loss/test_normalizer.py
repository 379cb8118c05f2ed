from collections.abc import Callable

import pytest
import torch
from loss_cases import make_targets
from torch import Tensor

from detector.loss import normalizer
from detector.loss.normalizer import (
    EmaPositives,
    Images,
    Normalizer,
    Positives,
    PositivesPerImage,
    Sampled,
)
from detector.structures import BACKGROUND, IGNORED, Targets

B, I = BACKGROUND, IGNORED  # noqa: E741
LABELS = torch.ones(2, 1, 1, dtype=torch.bool)
FIRST = make_targets([[0, 0, 0, I], [B, B, I, I]], LABELS)  # 3 and 0 positives
SECOND = make_targets([[0, B, B, B]], LABELS[:1])  # 1 positive


def selected(targets: Targets) -> Tensor:
    """Foreground and background: 3, 2; 4."""
    return (targets.matches != IGNORED).sum(1)


@pytest.mark.parametrize(
    ("make", "first", "second"),
    [
        (Positives, [4, 4], [4]),
        (PositivesPerImage, [3 * 3, 3 * 1], [3 * 1]),
        (EmaPositives, [90.4, 90.4], [90.4]),  # 0.9 * 100 + 0.1 * 4
        (Sampled, [9, 9], [9]),
        (Images, [3, 3], [3]),
    ],
)
def test_by_hand(make: Callable[[], Normalizer], first: list[float], second: list[float]) -> None:
    divisors = make()([FIRST, SECOND], selected)()
    torch.testing.assert_close(divisors[0].classification, torch.tensor(first).float())
    torch.testing.assert_close(divisors[1].classification, torch.tensor(second).float())
    assert [each.box.item() for each in divisors] == [4, 4]


@pytest.mark.parametrize(
    ("make", "expected"),
    [(Positives, 12), (PositivesPerImage, 27), (EmaPositives, 91.2), (Sampled, 27), (Images, 9)],
)
def test_counts_are_of_all_ranks(
    make: Callable[[], Normalizer], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three ranks with the same images."""
    monkeypatch.setattr(normalizer, "begin_sum", lambda tensor: lambda: 3 * tensor)
    divisors = make()([FIRST, SECOND], selected)()
    assert divisors[0].classification[0].item() == pytest.approx(expected)
    assert divisors[1].box.item() == 12


@pytest.mark.parametrize("make", [Positives, PositivesPerImage, Sampled, Images])
def test_at_least_one(make: Callable[[], Normalizer]) -> None:
    nothing = make_targets([[I, I]], LABELS[:1])
    (divisors,) = make()([nothing], selected)()
    assert divisors.classification.tolist() == [1] and divisors.box.item() == 1


def test_running_mean_moves_once_a_step_and_not_in_validation() -> None:
    running = EmaPositives(momentum=0.5, start=10)
    assert running([FIRST, SECOND], selected)()[0].classification[0] == 7  # (10 + 4) / 2
    before = running([FIRST, SECOND], selected)()[0].classification
    assert before[0] == 5.5
    assert running.counts([SECOND], selected).tolist() == [1, 1]
    running([SECOND], selected)()
    assert before[0] == 5.5  # a divisor that was handed out does not move
    restored = EmaPositives()
    restored.load_state_dict(running.state_dict())
    assert restored.average == 3.25
