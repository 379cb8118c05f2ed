"""An element-wise loss: the cost of each term of the classification loss, from its p_t."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Annotated, Literal, Protocol

from pydantic import SerializeAsAny, model_validator
from torch import Tensor

from detector.anchors.class_code import Terms
from detector.loss.sampling import SAMPLERS, AllSettings, SamplerSettings
from detector.settings.section import (
    Below1,
    NotEmpty,
    NotNegative,
    Positive,
    Proper,
    Section,
    item,
)

SIGMOID = "set activation to sigmoid"

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


class ElementwiseSettings(Section):
    """The settings of one kind of classification loss: keys that all have, its own, what they make.

    A subclass beside its loss is all that a new kind needs. `loss.classification.kind` names it as
    "module:Class"; the kinds of this package have short names in `loss/assemble.py`.
    """

    kind: str
    activation: Literal["sigmoid", "softmax"] = item(
        "sigmoid", "sigmoid: one binary decision a class | softmax: one of all"
    )
    background: Literal["negatives", "class", "ignored"] = item(
        "negatives", "negatives: zero targets | class: one of its own | ignored: not learned"
    )
    class_weights: Annotated[tuple[Positive, ...], NotEmpty] | None = item(
        None, "a factor for anchors of each class, in the order of the category ids; null: all 1"
    )
    effective_number: Below1 | None = item(
        None, "beta of class weights from the number of training boxes, such as 0.999; null: none"
    )
    equalization: Proper | None = item(
        None,
        "share of boxes below which a class is rare: boxes of others are no negatives for it; "
        "null: off",
    )
    sampling: Annotated[SerializeAsAny[SamplerSettings], SAMPLERS] = AllSettings()
    normalizer: Literal[
        "positives", "positives_per_image", "ema_positives", "sampled", "images"
    ] = item("positives", "positives | positives_per_image | ema_positives | sampled | images")
    prior: Proper | None = item(0.01, "P(foreground) of an untrained head; null: bias 0")
    weight: NotNegative = item(1.0, "factor in the total loss")

    @model_validator(mode="after")
    def _check_class_weights(self) -> ElementwiseSettings:
        if self.one_of_all and self.equalization is not None:
            raise ValueError(
                "equalization leaves out classes that compete with a box's own, and a softmax "
                f"cannot: {SIGMOID}"
            )
        if self.class_weights is not None and self.effective_number is not None:
            raise ValueError(
                "class_weights and effective_number both say what a class weighs: set one of them "
                "to null"
            )
        return self

    @property
    def one_of_all(self) -> bool:
        """Whether the classes compete in one softmax."""
        return self.activation == "softmax"

    @abstractmethod
    def elementwise(self) -> ElementwiseLoss:
        """The loss with these settings."""
