"""What the sums of the losses are divided by: Z, known before the forward pass.

All counts are of the whole step: over its micro-batches and over the ranks. N images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from detector.distributed import begin_sum
from detector.structures import Targets

Selected = Callable[[Targets], Tensor]  # targets -> int64 (N,), anchors that count in each image
Pending = Callable[[], "list[Divisors]"]  # waits for the ranks; to be called once


@dataclass(frozen=True)
class Divisors:
    """Of one micro-batch; each is at least 1."""

    classification: Tensor  # float32 (N,), one for each image
    box: Tensor  # float32 scalar: the positives of the whole step, whatever the normalizer


class Normalizer(nn.Module, ABC):
    """Divides by what `count` counts."""

    needs_sample_counts = False

    def forward(self, micro: Sequence[Targets], selected: Selected) -> Pending:
        """Begin a training step of these micro-batches of this rank; the ranks meet here, once."""
        total = begin_sum(self.counts(micro, selected))

        def wait() -> list[Divisors]:
            counts = total()
            own, box = counts.clamp(min=1).float().unbind()
            self.observe(own)
            classification = self.divisor(own)
            return [Divisors(classification * self.share(each), box) for each in micro]

        return wait

    def counts(self, micro: Sequence[Targets], selected: Selected) -> Tensor:
        """int64 (2,): what this normalizer counts in the micro-batches, and their positives."""
        own = torch.stack([self.count(targets, selected).sum() for targets in micro]).sum()
        positives = torch.stack([targets.foreground.sum() for targets in micro]).sum()
        return torch.stack([own, positives])

    def observe(self, total: Tensor) -> None:
        """Take note of a training step's count."""

    @abstractmethod
    def count(self, targets: Targets, selected: Selected) -> Tensor:
        """int64 (N,): what is counted in each image."""

    def divisor(self, total: Tensor) -> Tensor:
        """The step's divisor from the count over the whole step (scalar, at least 1)."""
        return total

    def share(self, targets: Targets) -> Tensor:
        """float32 (N,): by which the step's divisor is multiplied for each image."""
        return torch.ones_like(targets.keys, dtype=torch.float32)


class Positives(Normalizer):
    """Z = P, the foreground anchors of the step (Lin et al. 2017, section 4.1)."""

    def count(self, targets: Targets, selected: Selected) -> Tensor:
        return targets.foreground.sum(1)


class Images(Normalizer):
    """Z = N, the images of the step."""

    def count(self, targets: Targets, selected: Selected) -> Tensor:
        return torch.ones_like(targets.keys)


class PositivesPerImage(Images):
    """Z_n = N max(1, P_n): the mean over images of each image's loss per foreground anchor."""

    def share(self, targets: Targets) -> Tensor:
        return targets.foreground.sum(1).clamp(min=1).float()


class Sampled(Normalizer):
    """Z = |S|, the anchors that the sampler lets count."""

    needs_sample_counts = True

    def count(self, targets: Targets, selected: Selected) -> Tensor:
        return selected(targets)


class EmaPositives(Positives):
    """Z = a running mean of P, moved once a step while training.

    Detectron2's RetinaNet (momentum 0.9, first value 100), but of the whole step's positives,
    where Detectron2 averages each process's own.
    """

    average: Tensor

    def __init__(self, *, momentum: float = 0.9, start: float = 100.0) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("average", torch.tensor(float(start)))

    @torch.no_grad()
    def observe(self, total: Tensor) -> None:
        self.average.lerp_(total, 1 - self.momentum)

    def divisor(self, total: Tensor) -> Tensor:
        return self.average.clone()  # the buffer moves on before this step's backward may be done
