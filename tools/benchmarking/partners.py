"""The losses and the detector of torch and torchvision that a benchmark compares with ours."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FrozenBatchNorm2d, sigmoid_focal_loss
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detector.config import Config
from detector.model.backbone import Backbone, group_norm
from detector.structures import Batch, Targets

LossOf = Callable[[Tensor, Targets], Tensor]  # logits (N, A, C) -> a tensor to sum
NORMS: dict[str, Callable[..., nn.Module]] = {
    "frozen_batch": FrozenBatchNorm2d,
    "batch": nn.BatchNorm2d,
    "group": group_norm,
}


def _focal(logits: Tensor, targets: Targets) -> Tensor:
    hot = _one_hot(logits, targets)
    return sigmoid_focal_loss(logits, hot, alpha=0.25, gamma=2, reduction="sum")


def _binary(logits: Tensor, targets: Targets) -> Tensor:
    hot = _one_hot(logits, targets)
    return F.binary_cross_entropy_with_logits(logits, hot, reduction="sum")


def _with_background(logits: Tensor, targets: Targets) -> Tensor:
    classes = targets.labels.int().argmax(-1).gather(1, targets.matches.clamp(min=0))
    truth = torch.where(targets.foreground, classes, targets.labels.shape[-1])
    return F.cross_entropy(logits.flatten(0, 1), truth.flatten(), reduction="sum")


def _one_hot(logits: Tensor, targets: Targets) -> Tensor:
    """Float targets like the logits, made as in torchvision's RetinaNetClassificationHead."""
    hot = torch.zeros_like(logits)
    image, anchor = targets.foreground.nonzero(as_tuple=True)
    hot[image, anchor] = targets.labels[image, targets.matches[image, anchor]].to(logits.dtype)
    return hot


PARTNER_LOSSES: dict[str, LossOf] = {  # by preset of configs/losses
    "cross_entropy": _binary,
    "background_cross_entropy": _with_background,
    "focal": _focal,
}


def torchvision_detector(config: Config, classes: int) -> RetinaNet:
    """torchvision's RetinaNet of the same layers as the config's, with ResNets only.

    It resizes nothing in training, as ours does not: that is the loader's work.
    """
    anchors, head = config.anchors, config.model.head
    generator = AnchorGenerator(
        tuple(tuple(size * scale for scale in anchors.scales) for size in anchors.sizes),
        (anchors.ratios,) * len(anchors.sizes),
    )
    backbone = _backbone(config)
    heads = RetinaNetHead(
        backbone.out_channels,
        generator.num_anchors_per_location()[0],
        classes,
        norm_layer=group_norm if head.norm == "group" else None,
    )
    for branch in (heads.classification_head, heads.regression_head):
        branch.conv = branch.conv[: head.convs]  # torchvision's has always four
    return RetinaNet(backbone, classes, anchor_generator=generator, head=heads, _skip_resize=True)


def _backbone(config: Config) -> BackboneWithFPN:
    b, fpn = config.model.backbone, config.model.fpn
    ours = Backbone(b.name, b.norm, b.frozen_stages)  # only asked for widths and frozen names
    body = get_model(b.name, weights=None, norm_layer=partial(NORMS[b.norm], eps=b.norm_eps))
    trained = {name: parameter.requires_grad for name, parameter in ours.body.named_parameters()}
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(trained.get(name, True))
    last = ours.channels[2] if fpn.p6_from == "c5" else fpn.channels
    return BackboneWithFPN(
        body,
        {"layer2": "0", "layer3": "1", "layer4": "2"},
        list(ours.channels),
        fpn.channels,
        LastLevelP6P7(last, fpn.channels),
    )


def torchvision_images(batch: Batch) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Images (3, H, W) in 0..1 and targets, as torchvision's detectors take them."""
    targets = [
        {"boxes": boxes[present], "labels": labels[present].int().argmax(-1)}
        for boxes, labels, present in zip(batch.boxes, batch.labels, batch.present, strict=True)
    ]
    return list(batch.images.float() / 255), targets
