"""What is minimised."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from detector.settings.section import Count, Fraction, NotNegative, Positive, Proper, Section, item


class All(Section):
    kind: Literal["all"] = item("all", "every anchor that is not ignored")


class Ohem(Section):
    """The anchors of highest loss (Shrivastava et al. 2016), after NMS at this IoU if not null."""

    kind: Literal["ohem"] = "ohem"
    per_image: Count = 512
    nms: Fraction | None = None


class HardNegatives(Section):
    """All positives, and `ratio` times as many negatives of highest loss (SSD, section 2.2)."""

    kind: Literal["hard_negatives"] = "hard_negatives"
    ratio: Positive = 3.0


class Random(Section):
    """A random draw with at most this fraction of positives (Faster R-CNN, section 3.1.3)."""

    kind: Literal["random"] = "random"
    per_image: Count = 256
    positive_fraction: Fraction = 0.5


Sampling = Annotated[All | Ohem | HardNegatives | Random, Field(discriminator="kind")]


class ClassificationLoss(Section):
    activation: Literal["sigmoid", "softmax"] = item(
        "sigmoid", "sigmoid: one binary decision a class | softmax: one of all"
    )
    background: Literal["negatives", "class", "ignored"] = item(
        "negatives", "negatives: zero targets | class: one of its own | ignored: not learned"
    )
    alpha: Fraction | None = item(0.25, "weight of positives, 1 - alpha of negatives; null: all 1")
    gamma: NotNegative = item(2.0, "focusing; 0 is cross-entropy")
    sampling: Sampling = All()
    normalizer: Literal[
        "positives", "positives_per_image", "ema_positives", "sampled", "images"
    ] = item("positives", "positives | positives_per_image | ema_positives | sampled | images")
    prior: Proper | None = item(0.01, "P(foreground) of an untrained head; null: bias 0")
    weight: NotNegative = item(1.0, "factor in the total loss")


class BoxLoss(Section):
    kind: Literal["smooth_l1", "l1", "giou", "ciou"] = item(
        "smooth_l1", "smooth_l1 | l1 | giou | ciou"
    )
    beta: Positive = item(0.11, "where smooth_l1 turns from quadratic to linear")
    weight: NotNegative = item(1.0, "factor in the total loss")


class Loss(Section):
    classification: ClassificationLoss = ClassificationLoss()
    box: BoxLoss = BoxLoss()
