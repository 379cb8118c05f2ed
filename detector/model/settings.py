"""Which network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from detector.model.backbone import check_torchvision_name
from detector.model.timm_layout import check_timm_name, is_timm
from detector.settings.section import Count, FilePath, NotNegative, Section, Whole, item, nameable


def _nameable(text: str) -> str:
    nameable(Path(text))
    return text


def _known(name: str) -> str:
    if is_timm(name):
        check_timm_name(name)
    else:
        check_torchvision_name(name)
    return name


class BackboneSettings(Section):
    name: Annotated[str, AfterValidator(_known)] = item(
        "resnet50",
        "resnet18|34|50|101|152, resnext50_32x4d, resnext101_32x8d, mobilenet_v2, timm/NAME",
    )
    weights: Annotated[str, Field(min_length=1), AfterValidator(_nameable)] | None = item(
        "imagenet", "imagenet (through torchvision or timm) | file of a state dict of theirs | null"
    )
    frozen_stages: Annotated[int, Field(ge=0, le=5)] = item(
        2, "0 none, 1 the stem, 2 the stem and the first stage, ... 5 all"
    )
    frozen_epochs: Whole = item(
        0, "epochs at the start in which no stage is trained; then all but frozen_stages are"
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
        None, "whole detector to start from, of any classes: our checkpoint, torchvision RetinaNet"
    )
