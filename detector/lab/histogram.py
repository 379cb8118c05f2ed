"""Histograms of the scores that a trained network gives to its anchors.

N images, A anchors of one image, C channels, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from detector.anchors.class_code import ClassCode
from detector.structures import Targets

SCORE_BINS = 50
EDGES = np.linspace(0, 1, SCORE_BINS + 1)  # each bin holds its lower edge, the last one both


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
        counts[0] += _count(true.amax(-1))
        counts[1] += _count(scores[targets.background[image]].amax(-1))
    return counts


def _count(scores: Tensor) -> Tensor:
    """(M,) -> int64 (SCORE_BINS,)"""
    bins = (scores.double() * SCORE_BINS).long().clamp(0, SCORE_BINS - 1)
    return torch.bincount(bins, minlength=SCORE_BINS)
