"""What a leaf is: the cost of each term of the classification loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from torch import Tensor, nn

from detector.anchors.class_code import Terms

# begins a pass over a batch, part by part: terms (..., T), and bool (...), which rows count
Batch = Callable[[], Iterator[tuple[Terms, Tensor]]]


class Leaf(Protocol):
    """Costs terms, and never learns which activation they came from."""

    reads_quality: bool = False  # whether it needs `terms.quality`

    def observe(self, batch: Batch) -> None:
        """Look at a whole micro-batch of training before it is costed. Most leaves need not."""
        return

    def __call__(self, terms: Terms) -> Tensor:
        """Terms (..., T) -> costs (..., T)."""


class Around(nn.Module, Leaf):
    """A leaf that changes what another one says, and keeps numbers in the checkpoint."""

    def __init__(self, leaf: Leaf) -> None:
        super().__init__()
        self.leaf = leaf
        self.reads_quality = leaf.reads_quality

    def observe(self, batch: Batch) -> None:
        self.leaf.observe(batch)
