"""What a row of class logits means: the only owner of activation, background and prior.

K foreground classes, C channels, (...) any leading shape. Labels are multi-hot (..., K) bool, all
False for background; the background channel, where there is one, is the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.errors import InputError

Activation = Literal["sigmoid", "softmax"]
Background = Literal["negatives", "class", "ignored"]


class Terms(NamedTuple):
    """The terms t of one loss (T = C independent ones under sigmoid, T = 1 under softmax)."""

    log_p: Tensor  # (..., T) log p_t, the log probability of the truth; at least float32
    log_q: Tensor  # (..., T) log(1 - p_t)
    positive: Tensor  # bool (..., T): weight alpha where True, 1 - alpha where False


class _LogSigmoids(torch.autograd.Function):
    """log sigmoid(x) and log sigmoid(-x) for the CPU, where torch's log1p is the slowest step.

    With r = sigmoid(-|x|) the first is min(x, 0) + log(1 - r), and log(1 - r) = log(w) - lost with
    w = 1 - r as rounded and lost = r - (1 - w): right also where r is far below the precision of 1
    (compare theorem 4 of Goldberg 1991 on log1p).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x)
        r = x.abs().neg_().sigmoid_()
        w = 1 - r
        lost = r.sub_(1 - w)
        log_p = x.clamp(max=0).add_(w.log_()).sub_(lost)
        return log_p, log_p - x

    @staticmethod
    def backward(ctx: Any, by_log_p: Tensor, by_log_q: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors  # derivatives sigmoid(-x) and sigmoid(-x) - 1
        return (-x).sigmoid_().mul_(by_log_p + by_log_q).sub_(by_log_q)


def _log_sigmoids(x: Tensor) -> tuple[Tensor, Tensor]:
    """log sigmoid(x) and log sigmoid(-x), finite for finite x."""
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        return _LogSigmoids.apply(x)
    return F.logsigmoid(x), F.logsigmoid(-x)


@dataclass(frozen=True, kw_only=True)
class ClassCode:
    """One kind of classification head: head width, head bias, loss terms and scores.

    `prior` is P(foreground) of an untrained head: of each class under sigmoid, of all classes
    together under softmax, of "not background" where background is a sigmoid channel
    (Lin et al. 2017, section 4.1; softmax as in Detectron v1). None: all biases are 0.
    """

    num_classes: int
    activation: Activation = "sigmoid"
    background: Background = "negatives"
    prior: float | None = 0.01

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise InputError(f"A detector needs at least one class; it has {self.num_classes}.")
        if self.activation == "softmax" and self.background == "negatives":
            raise InputError(
                "loss.classification: a softmax over the classes cannot say 'none of them': "
                "background 'negatives' needs activation 'sigmoid'; with 'softmax' set background "
                "to 'class' or 'ignored'."
            )
        if self.background == "ignored" and self.prior is not None:
            raise InputError(
                "loss.classification: with background 'ignored' nothing learns background, so a "
                f"prior of {self.prior} would never be unlearned: set prior to null."
            )
        if self.prior is not None and not 0 < self.prior < 1:
            raise InputError(f"A prior is a probability between 0 and 1; it was {self.prior}.")

    @property
    def channels(self) -> int:
        """C: K, or K + 1 where background is a class of its own."""
        return self.num_classes + (self.background == "class")

    @property
    def trains_background(self) -> bool:
        """Whether background anchors have a classification loss at all."""
        return self.background != "ignored"

    @property
    def multi_label(self) -> bool:
        """Whether a box may carry several labels."""
        return self.activation == "sigmoid"

    def bias(self) -> Tensor:
        """(C,) float32 biases under which an untrained head predicts `prior`."""
        bias = torch.zeros(self.channels)
        if self.prior is None:
            return bias
        odds = math.log(self.prior / (1 - self.prior))
        if self.activation == "sigmoid":
            bias[: self.num_classes] = odds
        if self.background == "class":
            rivals = self.num_classes if self.activation == "softmax" else 1
            bias[-1] = math.log(rivals) - odds
        return bias

    def truth(self, labels: Tensor) -> Tensor:
        """Labels (..., K) -> bool (..., C): with a background channel, it is true for no label."""
        if self.background != "class":
            return labels
        return torch.cat([labels, ~labels.any(dim=-1, keepdim=True)], dim=-1)

    def terms(self, logits: Tensor, labels: Tensor) -> Terms:
        """Logits (..., C) and labels (..., K) -> log probabilities, in log space throughout.

        Rows that the code does not train (background under 'ignored') come out finite and
        meaningless; the loss gives them weight 0.
        """
        truth = self.truth(labels)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.activation == "sigmoid":
            margin = logits * torch.where(truth, 1.0, -1.0)  # one op less each way than where(-z)
            return Terms(*_log_sigmoids(margin), truth)
        # A softmax is the sigmoid of how far the true logit lies above the logsumexp of the others.
        lowest = torch.finfo(logits.dtype).min  # not -inf: its logsumexp has no gradient
        others = logits.masked_fill(truth, lowest).logsumexp(-1, keepdim=True)
        margin = logits.masked_fill(~truth, 0).sum(-1, keepdim=True) - others
        return Terms(*_log_sigmoids(margin), labels.any(dim=-1, keepdim=True))

    def scores(self, logits: Tensor) -> Tensor:
        """(..., C) -> (..., K) probabilities; the background channel is dropped here only."""
        if self.activation == "softmax":
            return logits.softmax(-1)[..., : self.num_classes]
        scores = logits[..., : self.num_classes].sigmoid()
        if self.background == "class":
            scores = scores * (-logits[..., self.num_classes :]).sigmoid()
        return scores
