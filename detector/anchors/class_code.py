"""What class logits mean: their activation, their background, their prior.

K foreground classes, C channels, (...) any leading shape. Labels are multi-hot bool (..., K), all
False for background. The background channel, if there is one, is the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Literal["sigmoid", "softmax"]
Background = Literal["negatives", "class", "ignored"]


@dataclass(frozen=True)
class Terms:
    """The T terms of a classification loss; under sigmoid, C binary decisions (T = C)."""

    log_p: Tensor  # (..., T) log p_t, the log probability of the true outcome; at least float32
    log_q: Tensor  # (..., T) log(1 - p_t)
    positive: Tensor  # bool (..., T): weight alpha where True, 1 - alpha where False
    quality: Tensor | None = None  # (..., 1) in 0..1: IoU of predicted and true box, if asked for

    def mean_over_outcomes(self, cost: Callable[[Terms], Tensor]) -> Tensor:
        """(..., T): the mean of `cost` if each outcome in turn were the true one."""
        return (cost(self) + cost(Terms(self.log_q, self.log_p, ~self.positive))) / 2

    def by_label(self, values: Tensor, *, background: float) -> Tensor:
        """Values (K,) of the classes and one of background -> the value of each row (..., 1).

        A row with several labels gets the mean of their values.
        """
        labels = self.positive[..., : len(values)]
        count = labels.sum(-1, keepdim=True)
        mean = torch.where(labels, values, 0.0).sum(-1, keepdim=True) / count.clamp(min=1)
        return torch.where(count > 0, mean, background)


@dataclass(frozen=True, kw_only=True)
class Choice(Terms):
    """The single term (T = 1) of a choice among C outcomes (softmax)."""

    logits: Tensor  # (..., C), at least float32
    truth: Tensor  # bool (..., C), one True in each row
    num_classes: int  # K

    def mean_over_outcomes(self, cost: Callable[[Terms], Tensor]) -> Tensor:
        log_p, log_q = _log_softmaxes(self.logits)
        channels = torch.arange(log_p.shape[-1], device=log_p.device)
        outcomes = Terms(log_p, log_q, channels < self.num_classes)
        return cost(outcomes).mean(-1, keepdim=True)

    def by_label(self, values: Tensor, *, background: float) -> Tensor:
        each = F.pad(values, (0, self.truth.shape[-1] - len(values)), value=background)
        return torch.where(self.truth, each, 0.0).sum(-1, keepdim=True)


def _log_softmaxes(logits: Tensor) -> tuple[Tensor, Tensor]:
    """log p and log(1 - p) of every outcome, each (..., C), finite.

    log1p(-p) loses all digits where p is near 1, which only the likeliest outcome can be. For that
    one, 1 - p is the sum over the others; every other p is at most 1/2.
    """
    log_p = logits.log_softmax(-1)
    channels = torch.arange(logits.shape[-1], device=logits.device)
    first = channels == logits.argmax(-1, keepdim=True)
    lowest = torch.finfo(logits.dtype).min  # finite: -inf alone would give a logsumexp of -inf
    others = logits.masked_fill(first, lowest).logsumexp(-1, keepdim=True)
    of_first = others - logits.logsumexp(-1, keepdim=True)
    log_q = torch.where(first, of_first, torch.log1p(-log_p.exp().masked_fill(first, 0)))
    return log_p, log_q


class _LogSigmoids(torch.autograd.Function):
    """log sigmoid(x) and log sigmoid(-x) for the CPU, where torch's log1p would take most time.

    With r = sigmoid(-|x|) the first is min(x, 0) + log(1 - r), and log(1 - r) = log(w) - lost with
    w = 1 - r as rounded and lost = r - (1 - w). This is accurate even where r is far below the
    precision of 1 (compare theorem 4 of Goldberg 1991 on log1p).
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
    # a compiler fuses logsigmoid with its neighbours, so _LogSigmoids pays off without one only
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        return _LogSigmoids.apply(x)
    return F.logsigmoid(x), F.logsigmoid(-x)


@dataclass(frozen=True, kw_only=True)
class ClassCode:
    """A way to code classes in logits: channels, bias, loss terms and scores.

    `prior` is the foreground probability that an untrained head predicts: for each class under
    sigmoid, for all classes together under softmax, and for "not background" where background is a
    sigmoid channel (Lin et al. 2017, section 4.1; softmax as in Detectron v1). None: all biases
    are 0. Raises InputError for combinations that cannot learn.
    """

    num_classes: int
    activation: Activation = "sigmoid"
    background: Background = "negatives"
    prior: float | None = 0.01

    def __post_init__(self) -> None:
        choices = {"activation": get_args(Activation), "background": get_args(Background)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; it should be one of {', '.join(allowed)}."
                )
        if self.num_classes < 1:
            raise ValueError(f"num_classes is {self.num_classes}; it should be at least one class.")
        if self.activation == "softmax" and self.background == "negatives":
            raise ValueError(
                "a softmax over the classes cannot say 'none of them': "
                "background 'negatives' needs activation 'sigmoid'; with 'softmax' set background "
                "to 'class' or 'ignored'."
            )
        if self.background == "ignored" and self.prior is not None:
            raise ValueError(
                "with background 'ignored' nothing learns background, so a "
                f"prior of {self.prior} would never be unlearned: set prior to None, in YAML null."
            )
        if self.prior is not None and not 0 < self.prior < 1:
            raise ValueError(f"prior is {self.prior}; it should lie between 0 and 1.")

    @property
    def channels(self) -> int:
        """C: K, or K + 1 where background is a class of its own."""
        return self.num_classes + (self.background == "class")

    @property
    def trains_background(self) -> bool:
        """Whether background anchors have a classification loss."""
        return self.background != "ignored"

    @property
    def multi_label(self) -> bool:
        """Whether a box may carry several labels."""
        return self.activation == "sigmoid"

    def bias(self) -> Tensor:
        """float32 (C,): the biases with which an untrained head predicts `prior`."""
        bias = torch.zeros(self.channels)
        if self.prior is None:
            return bias
        odds = math.log(self.prior / (1 - self.prior))
        if self.activation == "sigmoid":
            bias[: self.num_classes] = odds
        if self.background == "class":
            # softmax: p(background) = 1 - prior against K classes of logit 0; sigmoid: by itself
            rivals = self.num_classes if self.activation == "softmax" else 1
            bias[-1] = math.log(rivals) - odds
        return bias

    def reference(self, logits: Tensor) -> Tensor:
        """Logits (M, C, ...) -> (M, 1, ...), above which a class's logit is its log-odds.

        Log-odds against background, log p(class) / p(background): under softmax the logit of
        background is taken off, under sigmoid a logit is one already, and this is 0. Linear, so it
        holds for the weights and biases that give the logits.
        """
        if self.activation == "softmax" and self.background == "class":
            return logits[:, self.num_classes :]
        return torch.zeros_like(logits[:, :1])

    def comparable(self, other: ClassCode) -> bool:
        """Whether log-odds of classes against background mean the same in both.

        Under 'ignored' nothing learns what background is: such logits serve the same code alone.
        """
        same = (self.activation, self.background) == (other.activation, other.background)
        return same or "ignored" not in (self.background, other.background)

    def same_background(self, other: ClassCode) -> bool:
        """Whether both have a background channel that means the same."""
        both = self.background == other.background == "class"
        return both and self.activation == other.activation

    def truth(self, labels: Tensor) -> Tensor:
        """Labels (..., K) -> bool (..., C); a background channel is True where no label is."""
        if self.background != "class":
            return labels
        return torch.cat([labels, ~labels.any(dim=-1, keepdim=True)], dim=-1)

    def terms(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Terms:
        """Logits (..., C) and labels (..., K) -> log probabilities, computed in log space.

        Rows that are not trained (background under 'ignored') are finite but meaningless; the loss
        must give them weight 0. `quality` (..., 1) is passed on in the result.
        """
        truth = self.truth(labels)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.activation == "sigmoid":
            margin = logits * torch.where(truth, 1.0, -1.0)  # one op less each way than where(-z)
            return Terms(*_log_sigmoids(margin), truth, quality)
        # The softmax of the true outcome is the sigmoid of its logit minus the others' logsumexp.
        lowest = torch.finfo(logits.dtype).min  # not -inf: its logsumexp has no gradient
        others = logits.masked_fill(truth, lowest).logsumexp(-1, keepdim=True)
        margin = logits.masked_fill(~truth, 0).sum(-1, keepdim=True) - others
        positive = labels.any(dim=-1, keepdim=True)
        log_p, log_q = _log_sigmoids(margin)
        return Choice(
            log_p, log_q, positive, quality,
            logits=logits, truth=truth, num_classes=self.num_classes,
        )  # fmt: skip

    def scores(self, logits: Tensor) -> Tensor:
        """Logits (..., C) -> probabilities (..., K); background is dropped only here."""
        if self.activation == "softmax":
            return logits.softmax(-1)[..., : self.num_classes]
        scores = logits[..., : self.num_classes].sigmoid()
        if self.background == "class":
            # both channels are independent sigmoids: P(class) * P(not background)
            scores = scores * (-logits[..., self.num_classes :]).sigmoid()
        return scores
