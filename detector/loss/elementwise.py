"""An element-wise loss: the cost of each term of the classification loss, from its p_t."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Protocol

from torch import Tensor, nn

from detector.anchors.class_code import Terms
from detector.loss.settings import ClassificationLossSettings

# begins a pass over a micro-batch in chunks: terms (..., T), and bool (...), which rows count
Chunks = Callable[[], Iterator[tuple[Terms, Tensor]]]


class ElementwiseLoss(Protocol):
    """Costs terms, and never learns which activation they came from."""

    reads_quality: bool = False  # whether it needs `terms.quality`

    def observe(self, chunks: Chunks) -> None:
        """Look at a whole micro-batch of training before its loss is computed. Most need not."""
        return

    def __call__(self, terms: Terms) -> Tensor:
        """Terms (..., T) -> costs (..., T)."""


class ElementwiseWrapper(nn.Module, ElementwiseLoss):
    """Multiplies the costs of another element-wise loss, by buffers that a checkpoint holds."""

    def __init__(self, elementwise: ElementwiseLoss) -> None:
        super().__init__()
        self.elementwise = elementwise
        self.reads_quality = elementwise.reads_quality

    def observe(self, chunks: Chunks) -> None:
        self.elementwise.observe(chunks)


class ElementwiseSettings(ClassificationLossSettings):
    """The settings of one kind of classification loss: its own keys, and what they make.

    A subclass beside its loss is all that a new kind needs. `loss.classification.kind` names it as
    "module:Class"; the kinds of this package have short names in `detector.loss.assemble.KINDS`.
    """

    @abstractmethod
    def elementwise(self) -> ElementwiseLoss:
        """The loss with these settings."""
