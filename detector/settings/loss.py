"""What is minimised."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from detector.settings.section import (
    Count,
    Fraction,
    NotEmpty,
    NotNegative,
    Positive,
    Proper,
    Section,
    item,
)

Below1 = Annotated[float, Field(ge=0, lt=1)]


class AllSettings(Section):
    kind: Literal["all"] = item("all", "every anchor that is not ignored")


class OHEMSettings(Section):
    """The anchors of highest loss (Shrivastava et al. 2016), after NMS at this IoU if not null."""

    kind: Literal["ohem"] = "ohem"
    per_image: Count = 512
    nms: Fraction | None = None


class HardNegativesSettings(Section):
    """All positives, and `ratio` times as many negatives of highest loss (SSD, section 2.2)."""

    kind: Literal["hard_negatives"] = "hard_negatives"
    ratio: Positive = 3.0


class RandomSettings(Section):
    """A random draw with at most this fraction of positives (Faster R-CNN, section 3.1.3)."""

    kind: Literal["random"] = "random"
    per_image: Count = 256
    positive_fraction: Fraction = 0.5


class GHMSettings(Section):
    bins: Count = item(30, "of leaf ghm: parts of the range of gradient norms")
    momentum: Below1 = item(0.75, "of leaf ghm: what a part's share keeps of its past in each step")


SAMPLINGS: dict[str, type[Section]] = {
    "all": AllSettings,
    "ohem": OHEMSettings,
    "hard_negatives": HardNegativesSettings,
    "random": RandomSettings,
}  # by `kind`
Sampling = Annotated[
    AllSettings | OHEMSettings | HardNegativesSettings | RandomSettings, Field(discriminator="kind")
]


class ClassificationLossSettings(Section):
    activation: Literal["sigmoid", "softmax"] = item(
        "sigmoid", "sigmoid: one binary decision a class | softmax: one of all"
    )
    background: Literal["negatives", "class", "ignored"] = item(
        "negatives", "negatives: zero targets | class: one of its own | ignored: not learned"
    )
    alpha: Fraction | None = item(0.25, "weight of positives, 1 - alpha of negatives; null: all 1")
    gamma: NotNegative = item(2.0, "focusing; 0 is cross-entropy")
    leaf: Literal["focal", "ghm", "quality_focal", "varifocal"] = item(
        "focal", "focal | ghm | quality_focal | varifocal; the last two learn the IoU as the score"
    )
    ghm: GHMSettings = GHMSettings()
    poly: Annotated[float, Field(ge=-1)] | None = item(
        None, "epsilon of Poly-1: adds this times (1 - p_t)^(gamma + 1); null: nothing"
    )
    smoothing: Below1 = item(0.0, "share of a target that is spread evenly over its outcomes")
    class_weights: Annotated[tuple[Positive, ...], NotEmpty] | None = item(
        None, "a factor for anchors of each class, in the order of the category ids; null: all 1"
    )
    effective_number: Below1 | None = item(
        None, "beta of class weights from the number of training boxes, such as 0.999; null: none"
    )
    equalization: Proper | None = item(
        None,
        "share of boxes below which a class is rare and boxes of others spare it; null: off",
    )
    sampling: Sampling = AllSettings()
    normalizer: Literal[
        "positives", "positives_per_image", "ema_positives", "sampled", "images"
    ] = item("positives", "positives | positives_per_image | ema_positives | sampled | images")
    prior: Proper | None = item(0.01, "P(foreground) of an untrained head; null: bias 0")
    weight: NotNegative = item(1.0, "factor in the total loss")

    @model_validator(mode="after")
    def _check(self) -> ClassificationLossSettings:
        for sentence, wrong in self._contradictions().items():
            if wrong:
                raise ValueError(sentence)
        return self

    def _contradictions(self) -> dict[str, bool]:
        """Sentences, and whether they hold."""
        focused = self.gamma != 0 or self.alpha is not None or self.sampling.kind != "all"
        reshaped = self.poly is not None or self.smoothing != 0
        both = self.class_weights is not None and self.effective_number is not None
        of_boxes = self.leaf in {"quality_focal", "varifocal"}
        one_of = self.activation == "softmax"
        return {
            "leaf ghm finds by itself how much each of all anchors weighs: set gamma to 0, alpha "
            "to null and sampling to {kind: all}": self.leaf == "ghm" and focused,
            f"poly and smoothing change the leaf focal, and the leaf is {self.leaf}: set poly to "
            "null and smoothing to 0": self.leaf != "focal" and reshaped,
            f"leaf {self.leaf} wants a score of its own for each class, and in a softmax they sum "
            "to 1: set activation to sigmoid": one_of and of_boxes,
            "equalization leaves out classes that compete with a box's own, and a softmax cannot: "
            "set activation to sigmoid": one_of and self.equalization is not None,
            "leaf varifocal takes a background channel for a class that always fits and never "
            "quietens it: set background to negatives or ignored": self.leaf == "varifocal"
            and self.background == "class",
            "class_weights and effective_number both say what a class weighs: set one of them to "
            "null": both,
        }


class BoxLossSettings(Section):
    kind: Literal["smooth_l1", "l1", "giou", "ciou"] = item(
        "smooth_l1", "smooth_l1 | l1 | giou | ciou"
    )
    beta: Positive = item(0.11, "where smooth_l1 turns from quadratic to linear")
    weight: NotNegative = item(1.0, "factor in the total loss")


class LossSettings(Section):
    classification: ClassificationLossSettings = ClassificationLossSettings()
    box: BoxLossSettings = BoxLossSettings()
