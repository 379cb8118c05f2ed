"""What is minimised."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import SerializeAsAny, model_validator

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


class ClassificationLossSettings(Section):
    """What every kind of classification loss has beside keys of its own."""

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
        "share of boxes below which a class is rare: boxes of others do not lower it; null: off",
    )
    sampling: Annotated[SerializeAsAny[SamplerSettings], SAMPLERS] = AllSettings()
    normalizer: Literal[
        "positives", "positives_per_image", "ema_positives", "sampled", "images"
    ] = item("positives", "positives | positives_per_image | ema_positives | sampled | images")
    prior: Proper | None = item(0.01, "P(foreground) of an untrained head; null: bias 0")
    weight: NotNegative = item(1.0, "factor in the total loss")

    @model_validator(mode="after")
    def _check(self) -> ClassificationLossSettings:
        for sentence, holds in self.contradictions().items():
            if holds:
                raise ValueError(sentence)
        return self

    def contradictions(self) -> dict[str, bool]:
        """Sentences on values that exclude each other, and whether they hold here."""
        both = self.class_weights is not None and self.effective_number is not None
        return {
            "equalization leaves out classes that compete with a box's own, and a softmax cannot: "
            f"{SIGMOID}": self.one_of_all and self.equalization is not None,
            "class_weights and effective_number both say what a class weighs: set one of them to "
            "null": both,
        }

    @property
    def one_of_all(self) -> bool:
        """Whether the classes compete in one softmax."""
        return self.activation == "softmax"


class BoxLossSettings(Section):
    kind: Literal["smooth_l1", "l1", "giou", "ciou"] = item(
        "smooth_l1", "smooth_l1 | l1 | giou | ciou"
    )
    beta: Positive = item(0.11, "where smooth_l1 turns from quadratic to linear")
    weight: NotNegative = item(1.0, "factor in the total loss")
