"""The settings of the classification loss -> its objects: build.py's part in this room."""

from __future__ import annotations

import torch
from torch import Tensor

from detector.anchors.class_code import ClassCode
from detector.errors import InputError
from detector.loss import normalizer as normalizers
from detector.loss import sampling as samplers
from detector.loss.class_weights import ClassWeighted, effective_number_weights
from detector.loss.classification import ClassificationLoss
from detector.loss.equalized import Equalized, rare_classes
from detector.loss.focal import Focal
from detector.loss.ghm import GHMC
from detector.loss.iou_aware import QualityFocal, Varifocal
from detector.loss.leaf import Leaf
from detector.loss.poly import Poly1
from detector.loss.smoothing import Smoothed
from detector.settings.loss import (
    AllSettings,
    ClassificationLossSettings,
    HardNegativesSettings,
    OHEMSettings,
    RandomSettings,
    Sampling,
)


def classification_loss(
    loss: ClassificationLossSettings, code: ClassCode, boxes_per_class: Tensor | None
) -> ClassificationLoss:
    """The loss, with weights that depend on the number of training boxes (K,), if these are known.

    Otherwise such weights are NaN, until a checkpoint brings them.

    Raises:
        InputError: there are class weights, but not one a class.
    """
    if boxes_per_class is None:
        boxes_per_class = torch.full((code.num_classes,), torch.nan)
    leaf = _by_class(_leaf(loss), loss, boxes_per_class)
    return ClassificationLoss(code=code, leaf=leaf, sampler=_sampler(loss.sampling))


def _leaf(loss: ClassificationLossSettings) -> Leaf:
    match loss.leaf:
        case "focal":
            return _focal(loss)
        case "ghm":
            return GHMC(bins=loss.ghm.bins, momentum=loss.ghm.momentum)
        case "quality_focal":
            return QualityFocal(alpha=loss.alpha, gamma=loss.gamma)
        case "varifocal":
            return Varifocal(alpha=loss.alpha, gamma=loss.gamma)


def _focal(loss: ClassificationLossSettings) -> Leaf:
    leaf: Leaf = Focal(alpha=loss.alpha, gamma=loss.gamma)
    if loss.poly is not None:
        leaf = Poly1(epsilon=loss.poly, alpha=loss.alpha, gamma=loss.gamma)
    return Smoothed(leaf=leaf, epsilon=loss.smoothing) if loss.smoothing else leaf


def _by_class(leaf: Leaf, loss: ClassificationLossSettings, boxes_per_class: Tensor) -> Leaf:
    if loss.class_weights is not None:
        found, expected = len(loss.class_weights), len(boxes_per_class)
        if found != expected:
            raise InputError(
                f"loss.classification.class_weights has {found} numbers, and the annotations have "
                f"{expected} classes: give one number for each, in the order of the category ids."
            )
        leaf = ClassWeighted(leaf, torch.tensor(loss.class_weights))
    if loss.effective_number is not None:
        weights = effective_number_weights(boxes_per_class, beta=loss.effective_number)
        leaf = ClassWeighted(leaf, weights)
    if loss.equalization is not None:
        leaf = Equalized(leaf, rare_classes(boxes_per_class, below=loss.equalization))
    return leaf


def _sampler(sampling: Sampling) -> samplers.Sampler:
    match sampling:
        case AllSettings():
            return samplers.All()
        case OHEMSettings(per_image=per_image, nms=nms):
            return samplers.OHEM(per_image=per_image, nms=nms)
        case HardNegativesSettings(ratio=ratio):
            return samplers.HardNegatives(ratio=ratio)
        case RandomSettings(per_image=per_image, positive_fraction=fraction):
            return samplers.Random(per_image=per_image, positive_fraction=fraction)


def normalizer(name: str) -> normalizers.Normalizer:
    """What the sums of the losses are divided by."""
    match name:
        case "positives":
            return normalizers.Positives()
        case "positives_per_image":
            return normalizers.PositivesPerImage()
        case "ema_positives":
            return normalizers.EmaPositives()
        case "sampled":
            return normalizers.Sampled()
        case "images":
            return normalizers.Images()
    raise AssertionError(name)
