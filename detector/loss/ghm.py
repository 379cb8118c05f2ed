"""GHM-C: weighs each term by the inverse density of its gradient norm."""

from __future__ import annotations

import torch
from pydantic import model_validator
from torch import Tensor, nn

from detector.anchors.class_code import Terms
from detector.distributed import sum_over_ranks
from detector.loss.elementwise import Chunks, ElementwiseLoss, ElementwiseSettings
from detector.settings.section import Below1, Count, item


class GHMC(nn.Module, ElementwiseLoss):
    """Cross entropy over the gradient density: beta_i (-log p_t), beta_i = N / GD(g_i).

    Li et al. 2019 (Gradient Harmonized Single-stage Detector), section "GHM-C Loss": g = 1 - p_t is
    the gradient norm at the logit and GD the number of terms in its bin of `bins`, over the bin's
    width; N counts all terms. Kept is each bin's share of the terms, so beta = 1 / (bins * share):
    a running mean, moved before a micro-batch (of all ranks) is costed, so that here alone a
    gradient depends on how a step is cut into micro-batches. As in the authors' code, a bin that
    is empty this time keeps its share. A bin never seen weighs 1: before the first
    step the loss is the mean cross entropy of an anchor's terms.

    The cost of an anchor is the mean over its terms: under the normalizer 'sampled', which counts
    anchors, the loss is the paper's mean over N; another normalizer divides by far less.
    """

    shares: Tensor

    def __init__(self, *, bins: int = 30, momentum: float = 0.75) -> None:
        super().__init__()
        self.bins = bins
        self.momentum = momentum
        self.register_buffer("shares", torch.zeros(bins))

    @torch.no_grad()
    def observe(self, chunks: Chunks) -> None:
        counts = torch.zeros_like(self.shares, dtype=torch.float64)
        for terms, counted in chunks():
            bins = self._bins(terms).masked_fill(~counted[..., None], -1)  # which histc leaves out
            counts += bins.histc(self.bins, 0, self.bins)
        counts = sum_over_ranks(counts)
        seen = (counts / counts.sum().clamp(min=1)).to(self.shares.dtype)
        moved = torch.where(self.shares > 0, self.shares.lerp(seen, 1 - self.momentum), seen)
        self.shares.copy_(torch.where(seen > 0, moved, self.shares))

    def forward(self, terms: Terms) -> Tensor:
        share = self.shares[self._bins(terms).long()]
        weight = torch.where(share > 0, 1 / (self.bins * share), 1.0)
        return terms.log_p * weight / -terms.log_p.shape[-1]

    def _bins(self, terms: Terms) -> Tensor:
        """(..., T) whole numbers from 0, in the terms' dtype; 0 for NaN."""
        place = (terms.log_q.detach().exp() * self.bins).floor()
        return place.clamp(max=self.bins - 1).nan_to_num(0.0)


class GHMCSettings(ElementwiseSettings):
    kind: str = "ghm"
    bins: Count = item(30, "parts of the range of gradient norms, 0 to 1")
    momentum: Below1 = item(0.75, "what a bin's share of the terms keeps of its past in each step")

    @model_validator(mode="after")
    def _check_sampling(self) -> GHMCSettings:
        if self.sampling.kind != "all":
            raise ValueError(
                "kind ghm weighs every term by the density of all terms: set sampling to "
                "{kind: all}"
            )
        return self

    def elementwise(self) -> GHMC:
        return GHMC(bins=self.bins, momentum=self.momentum)
