"""Means of losses and counts over steps, summed on the device until they are read."""

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
    """Means over steps of losses, counts and gradient norms; adding never waits for the device.

    sums: float64 (len(NAMES),) on the device, in the order of NAMES.
    """

    def __init__(self, device: torch.device) -> None:
        # float64: float32 counts exactly only up to 2**24, or 84 images of 200,000 anchors
        self.sums = torch.zeros(len(NAMES), dtype=torch.float64, device=device)
        self.steps = 0

    def add(self, losses: Losses, targets: Targets, divisors: Divisors) -> None:
        """Add one micro-batch of the current step."""
        matches = targets.matches
        values = (
            losses.classification.detach(),
            losses.box.detach(),
            _sum_where(targets.foreground, losses.by_anchor),
            _sum_where(targets.background, losses.by_anchor),
            targets.foreground.sum(),
            targets.background.sum(),
            (matches == IGNORED).sum(),
            torch.full((), len(matches), device=matches.device),
            divisors.classification.sum(),
        )
        self.sums[: len(values)] += torch.stack([value.double() for value in values])

    def add_origin(self, origins: Tensor) -> None:
        """Add the result (2, 3) of `origin` for one micro-batch of a diagnosed step.

        A gradient that overflowed under a loss scale counts as 0.
        """
        first = NAMES.index(LOSS_ORIGINS[0])
        # a row as a whole: shares of its finite groups alone would be wrong
        whole = torch.where(origins.isfinite().all(1, keepdim=True), origins, 0.0)
        self.sums[first : first + origins.numel()] += whole.flatten()

    def end_step(self, gradient_norm: Tensor, clip_norm: float | None) -> None:
        """End the current step.

        gradient_norm: scalar, of the whole gradient before clipping, equal on all ranks. If it
            overflowed under a loss scale, the step counts as overflowed, with norm 0.
        clip_norm: the largest norm that is not clipped; None without clipping.
        """
        self.steps += 1
        norm = torch.where(gradient_norm.isfinite(), gradient_norm, 0)
        self.sums[NAMES.index("gradient_norm")] += norm
        self.sums[NAMES.index("overflowed")] += ~gradient_norm.isfinite()
        if clip_norm is not None:
            self.sums[NAMES.index("clipped")] += norm > clip_norm

    def read(self) -> dict[str, float]:
        """Means per step since the last call, by the names in NAMES; waits for the device.

        Losses and counts are sums over the ranks: each rank's loss is already divided by the
        divisor of all ranks. All ranks must call it.
        """
        from_ranks = NAMES.index("gradient_norm")
        # from here on every rank has the same values, which a sum over ranks would multiply
        sums = torch.cat([sum_over_ranks(self.sums[:from_ranks]), self.sums[from_ranks:]])
        means = (sums / max(1, self.steps)).tolist()
        self.sums.zero_()
        self.steps = 0
        return dict(zip(NAMES, means, strict=True))

    def state(self) -> dict[str, Any]:
        """What a checkpoint between two calls of `read` must hold."""
        return {"sums": dict(zip(NAMES, self.sums.tolist(), strict=True)), "steps": self.steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`; older versions may lack some sums, or save them without names."""
        named = isinstance(state["sums"], dict)
        saved, self.steps = (state["sums"], state["steps"]) if named else ({}, 0)
        sums = [saved.get(name, 0.0) for name in NAMES]
        self.sums.copy_(torch.tensor(sums, dtype=torch.float64))


def _sum_where(mask: Tensor, losses: Tensor) -> Tensor:
    # indexing by the mask would wait for the device, which alone knows how many it selects
    return torch.where(mask, losses, 0.0).sum()


def training_record(means: dict[str, float]) -> dict[str, float]:
    """The means of `Meter.read`, under the names of metrics.jsonl."""
    classification = means["classification"]
    # shares of a loss that underflowed to 0 are 0, not NaN, which JSON lacks
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
    """The share of each group in diagnosed steps; empty without such a step, or without loss."""
    sums = {group: means[f"{prefix}_{group}"] for group in GROUPS}
    total = sum(sums.values())
    if not (math.isfinite(total) and total > 0):
        return {}
    return {f"{name}/{group}": value / total for group, value in sums.items()}
