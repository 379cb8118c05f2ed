"""Sums that stay on the device until somebody reads them."""

from __future__ import annotations

import torch
from torch import Tensor

from detector.distributed import sum_over_ranks
from detector.structures import IGNORED, Losses, Targets

NAMES = (
    "classification",
    "box",
    "from_foreground",
    "from_background",
    "anchors_foreground",
    "anchors_background",
    "anchors_ignored",
    "images",
    "gradient_norm",
    "clipped",
    "overflowed",
)


class Meter:
    """Means over steps of what a step says of itself; adding never waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(len(NAMES), dtype=torch.float64, device=device)
        self.steps = 0

    def add(self, losses: Losses, targets: Targets) -> None:
        """Count one micro-batch of the step in progress."""
        matches = targets.matches
        self._add(
            losses.classification.detach(),
            losses.box.detach(),
            losses.from_foreground,
            losses.from_background,
            targets.foreground.sum(),
            targets.background.sum(),
            (matches == IGNORED).sum(),
            torch.full((), len(matches), device=matches.device),
        )

    def end_step(self, gradient_norm: Tensor, clip_norm: float | None) -> None:
        """Close the step; the norm is that of the gradient before clipping, equal on all ranks.

        A gradient that overflowed under a loss scale counts as that, and as norm 0.
        """
        self.steps += 1
        norm = torch.where(gradient_norm.isfinite(), gradient_norm, 0)
        self.sums[NAMES.index("gradient_norm")] += norm
        self.sums[NAMES.index("overflowed")] += ~gradient_norm.isfinite()
        if clip_norm is not None:
            self.sums[NAMES.index("clipped")] += norm > clip_norm

    def read(self) -> dict[str, float]:
        """Means a step over all ranks since the last reading; here alone the host waits.

        Losses are summed over the ranks (each is divided by the divisor of all); so are counts.
        """
        from_ranks = NAMES.index("gradient_norm")
        sums = torch.cat([sum_over_ranks(self.sums[:from_ranks]), self.sums[from_ranks:]])
        means = (sums / max(1, self.steps)).tolist()
        self.sums.zero_()
        self.steps = 0
        return dict(zip(NAMES, means, strict=True))

    def state(self) -> dict[str, Tensor | int]:
        """For a checkpoint between two readings."""
        return {"sums": self.sums.cpu(), "steps": self.steps}

    def restore(self, state: dict[str, Tensor | int]) -> None:
        """Go on from `state`."""
        assert isinstance(state["steps"], int)
        self.steps = state["steps"]
        self.sums.copy_(torch.as_tensor(state["sums"]))

    def _add(self, *values: Tensor) -> None:
        self.sums[: len(values)] += torch.stack([value.double() for value in values])
