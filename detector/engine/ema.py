"""An exponential moving average of the weights; updating it never waits for the device."""

from __future__ import annotations

import copy

import torch
from torch import nn


class EMA(nn.Module):
    """`module` is a copy of a model: its parameters are averaged, its buffers copied unchanged.

    The decay of update n is min(decay, (1 + n) / (10 + n)), so that the first weights are soon
    forgotten (the rule of TensorFlow's ExponentialMovingAverage). torch's AveragedModel is not used
    because it keeps its count in a tensor, which is read or copied at every step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(model).requires_grad_(requires_grad=False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards `model` after optimizer step `step`, counted from 0."""
        # 1 - decay: lerp weighs the new value, the decay weighs the old one
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), weight)
        # running statistics are averages already, and counters are integers: both are copied
        for own, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            own.copy_(buffer)
