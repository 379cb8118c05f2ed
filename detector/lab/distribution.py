"""How loss and scores are spread over the anchors; the loss as in the focal paper's Figure 4.

N images, A anchors of one image, C channels, K classes, M losses, B = 2^19 bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from detector.anchors.class_code import ClassCode
from detector.loss.classification import per_anchor_loss
from detector.loss.elementwise import ElementwiseLoss
from detector.structures import Targets

OPEN_BITS = 12  # of a float32 that its bin leaves open; sign, exponent and 11 bits of it are kept
LOSS_BINS = 2 ** (31 - OPEN_BITS)  # of counts that are not negative
HARDEST = (0.001, 0.01, 0.1)
# Shares of the anchors, easy to hard: hundredths up to .9, then 36 a decade up to .9999, and 1.
ANCHOR_SHARES = np.concatenate([np.arange(90) / 100, 1 - np.geomspace(0.1, 1e-4, 109), [1.0]])
SCORE_BINS = 50
SCORE_EDGES = np.linspace(0, 1, SCORE_BINS + 1)  # each bin holds its lower edge, the last one both


@dataclass(frozen=True)
class Shares:
    """The cumulative distribution of a loss over anchors, sorted from easy to hard."""

    anchors: list[float]  # ANCHOR_SHARES, 0 .. 1
    loss: list[float]  # the share of the loss that so many of the easiest anchors hold, 0 .. 1
    total: float  # the sum of all losses, not divided by anything
    hardest: dict[str, float]  # share of the anchors -> share of the loss that its hardest hold


def tally(losses: Tensor) -> Tensor:
    """Losses (M,), from 0 up -> float64 (2, B): their count and sum in each bin.

    A bin holds the losses whose upper 20 bits as float32 are equal, so that the largest is less
    than 1/2048 above the smallest. Tallies of parts add up to that of the whole: nothing is left
    out, and what must be kept does not grow with the images. A loss that rounding has brought below
    0 (Poly-1 may be the difference of equal terms) is 0.
    """
    # abs, since clamp leaves -0.0, whose sign bit would give a negative bin
    losses = losses.float().clamp(min=0).abs()
    bins = losses.view(torch.int32).long() >> OPEN_BITS
    counts = torch.bincount(bins, minlength=LOSS_BINS).double()
    return torch.stack([counts, torch.bincount(bins, losses.double(), minlength=LOSS_BINS)])


def tally_by_part(
    logits: Tensor,
    targets: Targets,
    quality: Tensor | None = None,
    *,
    code: ClassCode,
    elementwise: ElementwiseLoss,
) -> Tensor:
    """Logits (N, A, C) -> float64 (2, 2, B): tallies of foreground and of background anchors.

    All anchors count, also those that a sampler would leave out; where the code does not train
    background its losses are 0. `quality` is as of `per_anchor_loss`.
    """
    losses = per_anchor_loss(
        logits, targets.matches, targets.labels, quality, code=code, elementwise=elementwise
    )
    return torch.stack([tally(losses[part]) for part in (targets.foreground, targets.background)])


def shares(tally: Tensor) -> Shares | None:
    """The curve of a tally (2, B); None where there is no loss, or one that is not finite.

    A share of the anchors that is no whole number of them takes a part of one anchor, and of its
    loss the same part: the curve is linear between anchors. It is exact at the bins' edges; inside
    a bin every loss is taken for the bin's mean, which moves the curve by less than 1/8192 of what
    the bin holds.
    """
    counts, sums = tally.cpu().numpy()
    full = counts > 0
    reached, held = (np.cumsum([0.0, *column[full]]) for column in (counts, sums))
    total = float(held[-1])
    if not 0 < total < math.inf:
        return None
    reached, held = reached / reached[-1], held / total
    return Shares(
        anchors=ANCHOR_SHARES.tolist(),
        loss=np.interp(ANCHOR_SHARES, reached, held).tolist(),
        total=total,
        hardest={str(h): 1 - float(np.interp(1 - h, reached, held)) for h in HARDEST},
    )


def score_histograms(logits: Tensor, targets: Targets, *, code: ClassCode) -> Tensor:
    """Logits (N, A, C) -> int64 (2, SCORE_BINS): foreground, background anchors by score.

    Foreground by the score of the true class, of several the highest; background by the highest
    score of any class. Histograms of batches add up.
    """
    counts = torch.zeros(2, SCORE_BINS, dtype=torch.int64, device=logits.device)
    for image, matches in enumerate(targets.matches):  # one at a time: A * K scores are many
        scores = code.scores(logits[image])
        boxes = matches[matches >= 0]
        true = scores[matches >= 0].masked_fill(~targets.labels[image, boxes], 0)
        counts[0] += _histogram(true.amax(-1))
        counts[1] += _histogram(scores[targets.background[image]].amax(-1))
    return counts


def _histogram(scores: Tensor) -> Tensor:
    """(M,) -> int64 (SCORE_BINS,)"""
    bins = (scores.double() * SCORE_BINS).long().clamp(0, SCORE_BINS - 1)
    return torch.bincount(bins, minlength=SCORE_BINS)
