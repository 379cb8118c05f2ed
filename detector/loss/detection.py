"""The whole loss of a detector.    N images, A anchors of one image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detector.errors import InputError
from detector.loss.box import BoxLoss
from detector.loss.classification import ClassificationLoss
from detector.loss.normalizer import Divisors, Normalizer, Pending
from detector.structures import Losses, Outputs, Targets


class DetectionLoss(nn.Module):
    """Classification and box loss, each divided by its divisor of the whole step.

    The box loss asks nothing of the classification loss or of its normalizer; some classification
    losses ask how well the predicted boxes fit, without a gradient.

    Raises:
        InputError: the normalizer divides by a count that the sampler cannot tell in time.
    """

    def __init__(
        self,
        classification: ClassificationLoss,
        box: BoxLoss,
        normalizer: Normalizer,
        *,
        classification_weight: float = 1.0,
        box_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if normalizer.needs_sample_counts and not getattr(
            classification.sampler, "known_before", False
        ):
            raise InputError(
                "loss.classification.normalizer 'sampled' needs the number of sampled anchors "
                f"before the forward pass, and the sampler {type(classification.sampler).__name__} "
                "knows it only after it (OHEM where loss.classification.sampling.nms is not null): "
                "set the normalizer to 'positives', or take another sampler."
            )
        self.classification = classification
        self.box = box
        self.normalizer = normalizer
        self.classification_weight = classification_weight
        self.box_weight = box_weight

    def begin_divisors(self, micro: Sequence[Targets]) -> Pending:
        """Begin to count the divisors of each micro-batch of this rank's step.

        Call it once a step, on every rank; call what it returns once they are needed.
        """
        pending: Pending = self.normalizer(micro, self.classification.counts)
        return pending

    @torch.no_grad()
    def tally(self, outputs: Outputs, targets: Targets) -> Tensor:
        """float64 (4,): both losses, undivided, and both counts: tallies of batches add up."""
        share = self.normalizer.share(targets)
        losses = self(outputs, targets, Divisors(share, torch.ones_like(share[0])))
        counts = self.normalizer.counts([targets], self.classification.counts)
        return torch.cat([torch.stack([losses.classification, losses.box]).double(), counts])

    def means(self, tally: Tensor) -> Tensor:
        """float64 (2,): classification and box loss of all that was tallied, each over its count.

        A running mean of counts is replaced by the count itself, for a tally may be of any length.
        """
        return tally[:2] / tally[2:].clamp(min=1)

    def forward(self, outputs: Outputs, targets: Targets, divisors: Divisors) -> Losses:
        """The losses of one micro-batch; over micro-batches and ranks they add up to the step's."""
        weights = self.classification_weight / divisors.classification[:, None]
        quality = None  # how well the predicted boxes fit (N, A)
        if self.classification.elementwise.reads_quality:
            quality = self.box.quality(outputs.box_deltas, targets)
        classes = self.classification(outputs.class_logits, targets, quality) * weights
        boxes = self.box(outputs.box_deltas, targets).sum() / divisors.box
        return Losses(
            classification=classes.sum(),
            box=self.box_weight * boxes,
            by_anchor=classes.detach(),
        )
