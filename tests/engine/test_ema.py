"""The moving average against worked numbers."""

import torch
from torch import nn

from detector.engine.optim import EMA


def test_first_steps_are_soon_forgotten() -> None:
    """Decay 1/10 at step 0: 0.1 * 0 + 0.9 * 10 = 9; at most 0.5 later: 0.5 * 9 + 0.5 * 1 = 5."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = EMA(model, decay=0.5)
    nn.init.constant_(model.weight, 10)
    average.update(model, 0)
    assert torch.isclose(average.module.weight, torch.tensor(9.0)).all()
    nn.init.constant_(model.weight, 1)
    average.update(model, 1000)
    assert torch.isclose(average.module.weight, torch.tensor(5.0)).all()


def test_buffers_are_copied_and_nothing_is_trained() -> None:
    model = nn.BatchNorm2d(1)
    average = EMA(model, decay=0.9)
    model.running_mean.fill_(3)
    average.update(model, 5)
    assert average.module.running_mean == 3
    assert not any(p.requires_grad for p in average.parameters())
