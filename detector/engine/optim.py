"""What moves the weights: parameter groups, momentum, the learning-rate schedule, and their EMA."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn


def parameter_groups(
    model: nn.Module, *, weight_decay: float, decay_norms: bool, backbone_rate: float = 1.0
) -> list[dict[str, Any]]:
    """Trainable parameters in groups: weight matrices and kernels, then norms and biases.

    The latter have no weight decay unless `decay_norms`. Each are two groups, of `model.backbone`
    and of the rest; the first has the `rate_factor` that a step multiplies the learning rate by.
    """
    groups = []
    for kernels, decay in ((True, weight_decay), (False, weight_decay if decay_norms else 0.0)):
        # the backbone comes first, so that the order is that of older checkpoints' moments
        for in_backbone, factor in ((True, backbone_rate), (False, 1.0)):
            # every weight of a linear or convolution layer has two or more dimensions, others one
            parameters = [
                p
                for name, p in model.named_parameters()
                if p.requires_grad
                and (p.ndim > 1) is kernels
                and name.startswith("backbone.") is in_backbone
            ]
            groups.append({"params": parameters, "weight_decay": decay, "rate_factor": factor})
    return [group for group in groups if group["params"]]


def with_moments(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The same SGD or AdamW, with moments of every parameter that are 0 instead of absent.

    The first step is the same. Without them, a fused SGD that skips its first step (`found_inf`)
    would keep buffers of uninitialized memory, and a checkpoint would lack those of parameters that
    are frozen at first.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if isinstance(optimizer, torch.optim.AdamW):
                state["step"] = torch.zeros((), device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            elif group["momentum"]:
                state["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning rate as a function of the step alone, so a checkpoint need not hold it.

    The warm-up raises a multiplier linearly from `warmup_factor` to 1 over `warmup_steps` (Goyal
    et al. 2017, section 2.2). The rate is also multiplied by `factor` at each of the `milestones`
    ("step"), or follows half a cosine down to 0 at `total_steps` (Loshchilov and Hutter 2017,
    without restarts; "cosine"). Steps are optimizer steps.
    """

    rate: float
    total_steps: int
    kind: Literal["step", "cosine"] = "step"
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    warmup_steps: int = 0
    warmup_factor: float = 0.001

    def __call__(self, step: int) -> float:
        """The learning rate of optimizer step `step`, counted from 0."""
        warmup = 1.0
        if step < self.warmup_steps:
            warmup = self.warmup_factor + (1 - self.warmup_factor) * step / self.warmup_steps
        return self.rate * warmup * self._decay(step)

    def _decay(self, step: int) -> float:
        if self.kind == "step":
            return self.factor ** sum(step >= m for m in self.milestones)
        # the cosine begins after the warm-up, or its first part would be lost to it
        done = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))


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
