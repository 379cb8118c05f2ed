"""Sums that stay on the device until somebody reads them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from detector.distributed import sum_over_ranks
from detector.loss.normalizer import Divisors
from detector.loss.origin import GROUPS
from detector.structures import IGNORED, Losses, Targets

LOSS_ORIGINS = tuple(f"loss_of_{group}" for group in GROUPS)
GRADIENT_ORIGINS = tuple(f"gradient_of_{group}" for group in GROUPS)
NAMES = (
    "classification",
    "box",
    "from_foreground",
    "from_background",
    "anchors_foreground",
    "anchors_background",
    "anchors_ignored",
    "images",
    "divisors",
    *LOSS_ORIGINS,
    *GRADIENT_ORIGINS,
    "gradient_norm",
    "clipped",
    "overflowed",
)


class Meter:
    """Means over steps of what a step says of itself; adding never waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(len(NAMES), dtype=torch.float64, device=device)
        self.steps = 0

    def add(self, losses: Losses, targets: Targets, divisors: Divisors) -> None:
        """Count one micro-batch of the step in progress."""
        matches = targets.matches
        self._add(
            losses.classification.detach(),
            losses.box.detach(),
            _part(losses.by_anchor, targets.foreground),
            _part(losses.by_anchor, targets.background),
            targets.foreground.sum(),
            targets.background.sum(),
            (matches == IGNORED).sum(),
            torch.full((), len(matches), device=matches.device),
            divisors.classification.sum(),
        )

    def add_origin(self, given: Tensor) -> None:
        """Count what `origin` (2, 3) found in one micro-batch of a step that is looked at.

        A gradient that overflowed under a loss scale counts as 0.
        """
        first = NAMES.index(LOSS_ORIGINS[0])
        whole = torch.where(given.isfinite().all(1, keepdim=True), given, 0.0)
        self.sums[first : first + given.numel()] += whole.flatten()

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

    def state(self) -> dict[str, Any]:
        """For a checkpoint between two readings."""
        return {"sums": dict(zip(NAMES, self.sums.tolist(), strict=True)), "steps": self.steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`, be it of another version, which may lack sums (or their names)."""
        named = isinstance(state["sums"], dict)
        saved, self.steps = (state["sums"], state["steps"]) if named else ({}, 0)
        sums = [saved.get(name, 0.0) for name in NAMES]
        self.sums.copy_(torch.tensor(sums, dtype=torch.float64))

    def _add(self, *values: Tensor) -> None:
        self.sums[: len(values)] += torch.stack([value.double() for value in values])


def _part(losses: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, losses, 0.0).sum()


def training_record(means: dict[str, float]) -> dict[str, float]:
    """The meter's means under the names of metrics.jsonl."""
    classification = means["classification"]
    return {
        "loss/total": classification + means["box"],
        "loss/classification": classification,
        "loss/box": means["box"],
        "loss_share/foreground": means["from_foreground"] / max(classification, 1e-12),
        "loss_share/background": means["from_background"] / max(classification, 1e-12),
        **_origin_shares("loss_share", "loss_of", means),
        **_origin_shares("gradient_share", "gradient_of", means),
        "divisor/classification": means["divisors"] / max(means["images"], 1e-12),
        "anchors/foreground": means["anchors_foreground"],
        "anchors/background": means["anchors_background"],
        "anchors/ignored": means["anchors_ignored"],
        "gradient/norm": means["gradient_norm"],
        "gradient/clipped_steps": means["clipped"],
        "gradient/overflowed_steps": means["overflowed"],
    }


def _origin_shares(name: str, prefix: str, means: dict[str, float]) -> dict[str, float]:
    """Of each group in the steps that were looked at; nothing where there was none, or no loss."""
    given = {group: means[f"{prefix}_{group}"] for group in GROUPS}
    total = sum(given.values())
    if not (math.isfinite(total) and total > 0):
        return {}
    return {f"{name}/{group}": value / total for group, value in given.items()}
