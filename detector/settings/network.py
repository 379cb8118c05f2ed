"""What is predicted where: model, anchors, their match with boxes, and the output."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from detector.settings.section import (
    Count,
    FilePath,
    Fraction,
    NotEmpty,
    NotNegative,
    Pair,
    Positive,
    Section,
    Whole,
    item,
    nameable,
)


def _nameable(text: str) -> str:
    nameable(Path(text))
    return text


class BackboneSettings(Section):
    name: str = item(  # checked by config.load, which knows the table of model/backbone.py
        "resnet50",
        "resnet18|34|50|101|152, resnext50_32x4d, resnext101_32x8d, mobilenet_v2, timm/NAME",
    )
    weights: Annotated[str, Field(min_length=1), AfterValidator(_nameable)] | None = item(
        "imagenet", "imagenet (through torchvision or timm) | file of a state dict of theirs | null"
    )
    frozen_stages: Annotated[int, Field(ge=0, le=5)] = item(
        2, "0 none, 1 the stem, 2 the stem and the first stage, ... 5 all"
    )
    norm: Literal["own", "frozen_batch", "batch", "group"] = item(
        "frozen_batch", "frozen_batch | batch | group | own (as torchvision or timm made it)"
    )
    norm_eps: NotNegative = item(
        1e-5, "added to variances; 0 for torchvision's published RetinaNet v1"
    )


class FPNSettings(Section):
    channels: Count = item(256, "channels of P3 to P7")
    p6_from: Literal["p5", "c5"] = item("c5", "P6 is computed from p5 | c5 (paper, Detectron2)")


class HeadSettings(Section):
    convs: Whole = item(4, "3x3 convolutions before the last, in each branch")
    channels: Count | None = item(None, "of those convolutions; null: as the pyramid")
    norm: Literal["none", "group"] = item("none", "none | group")


class ModelSettings(Section):
    backbone: BackboneSettings = BackboneSettings()
    fpn: FPNSettings = FPNSettings()
    head: HeadSettings = HeadSettings()
    weights: FilePath | None = item(
        None, "whole detector to start from: torchvision RetinaNet or one of our checkpoints"
    )


class AnchorsSettings(Section):
    sizes: Annotated[tuple[Positive, ...], NotEmpty] = item(
        (32.0, 64.0, 128.0, 256.0, 512.0), "one a level, P3 to P7: square root of area in pixels"
    )
    scales: Annotated[tuple[Positive, ...], NotEmpty] = item(
        (1.0, 1.26, 1.587), "factors of the size at every position"
    )
    ratios: Annotated[tuple[Positive, ...], NotEmpty] = item((0.5, 1.0, 2.0), "height / width")
    offset: Fraction = item(0.5, "centre of the first anchor in strides; 0.5: middle of its cell")
    cells: Annotated[tuple[tuple[Pair, ...], ...], NotEmpty] | None = item(
        None, "explicit [[[w, h], ...], ...] a level; then sizes, scales and ratios are unused"
    )

    @model_validator(mode="after")
    def _check(self) -> AnchorsSettings:
        counts = [len(level) for level in self.cells or ()]
        if counts and (min(counts) == 0 or min(counts) != max(counts)):
            raise ValueError(f"cells has {counts} a level, it should be equally many, at least 1")
        return self


class MaxIoUSettings(Section):
    kind: Literal["max_iou"] = item("max_iou", "by thresholds of the IoU")
    foreground: Fraction = item(0.5, "an anchor at or above this IoU with a box is foreground")
    background: Fraction = item(0.4, "below this IoU with every box it is background; else ignored")
    low_quality: bool = item(
        default=True, description="a box also gets its best anchors, if they overlap it at all"
    )
    crowd_overlap: Fraction = item(
        0.5, "share of an anchor in a crowd box above which it is ignored"
    )

    @model_validator(mode="after")
    def _check(self) -> MaxIoUSettings:
        if self.background > self.foreground:
            raise ValueError(
                f"background is {self.background}, above foreground {self.foreground}; "
                "it should be at most foreground"
            )
        return self


class ATSSSettings(Section):
    """Thresholds that adapt to each box (Zhang et al. 2020)."""

    kind: Literal["atss"] = "atss"
    candidates: Count = 9
    crowd_overlap: Fraction = 0.5


def _kind_of_matching(value: Any) -> str:
    kind = value.get("kind", "max_iou") if isinstance(value, dict) else getattr(value, "kind", "")
    return str(kind)


MATCHINGS: dict[str, type[Section]] = {"max_iou": MaxIoUSettings, "atss": ATSSSettings}  # by kind
Matching = Annotated[
    Annotated[MaxIoUSettings, Tag("max_iou")] | Annotated[ATSSSettings, Tag("atss")],
    Discriminator(_kind_of_matching),
]


class PostprocessSettings(Section):
    score: Fraction = item(0.05, "detections at or below are dropped")
    per_level: Count = item(1000, "best anchors kept a level before NMS")
    nms: Fraction = item(0.5, "IoU above which the lower of two detections of a class is dropped")
    per_image: Count = item(100, "detections kept an image")
