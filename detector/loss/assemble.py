"""The settings of the classification loss -> its objects; build.py calls this."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor

from detector.anchors.class_code import ClassCode
from detector.errors import InputError, about
from detector.imported import imported
from detector.loss import normalizer as normalizers
from detector.loss import sampling as samplers
from detector.loss.class_weights import ClassWeighted, effective_number_weights
from detector.loss.classification import ClassificationLoss
from detector.loss.elementwise import ElementwiseLoss, ElementwiseSettings
from detector.loss.equalized import Equalized, rare_classes
from detector.loss.focal import FocalSettings
from detector.loss.ghm import GHMCSettings
from detector.loss.iou_aware import QualityFocalSettings, VarifocalSettings
from detector.loss.poly import PolySettings
from detector.settings.loss import (
    AllSettings,
    HardNegativesSettings,
    OHEMSettings,
    RandomSettings,
    Sampling,
)

KINDS: dict[str, type[ElementwiseSettings]] = {
    "focal": FocalSettings,
    "poly": PolySettings,
    "ghm": GHMCSettings,
    "quality_focal": QualityFocalSettings,
    "varifocal": VarifocalSettings,
}


def settings_of(kind: object) -> type[ElementwiseSettings]:
    """The settings class of a kind: a name in KINDS, or "module:Class" of a module of one's own.

    Such a module is looked for as `import` does, and in the current folder.

    Raises:
        ValueError: there is no such kind, or it is not a subclass of ElementwiseSettings.
    """
    if isinstance(kind, str) and kind in KINDS:
        return KINDS[kind]
    if not isinstance(kind, str) or ":" not in kind:
        raise ValueError(f"found {kind!r}, it should be {', '.join(KINDS)}, or module:Class")
    settings = imported(kind)
    if not (isinstance(settings, type) and issubclass(settings, ElementwiseSettings)):
        raise ValueError(f"found {kind!r}, it should be a subclass of ElementwiseSettings")
    if inspect.isabstract(settings):
        raise ValueError(f"found {kind!r}, which has no method elementwise() that makes its loss")
    return settings


def classification_loss(
    loss: ElementwiseSettings, code: ClassCode, boxes_per_class: Tensor | None
) -> ClassificationLoss:
    """The loss, with weights that depend on the number of training boxes (K,), if these are known.

    Otherwise such weights are NaN, until a checkpoint brings them.

    Raises:
        InputError: there are class weights, but not one a class; or the loss refuses its keys.
    """
    if boxes_per_class is None:
        boxes_per_class = torch.full((code.num_classes,), torch.nan)
    with about("loss.classification"):  # a loss of a user's own may refuse its keys
        plain = loss.elementwise()
    elementwise = _by_class(plain, loss, boxes_per_class)
    return ClassificationLoss(code=code, elementwise=elementwise, sampler=_sampler(loss.sampling))


def _by_class(
    elementwise: ElementwiseLoss, loss: ElementwiseSettings, boxes_per_class: Tensor
) -> ElementwiseLoss:
    if loss.class_weights is not None:
        found, expected = len(loss.class_weights), len(boxes_per_class)
        if found != expected:
            raise InputError(
                f"loss.classification.class_weights has {found} numbers, and the annotations have "
                f"{expected} classes: give one number for each, in the order of the category ids."
            )
        elementwise = ClassWeighted(elementwise, torch.tensor(loss.class_weights))
    if loss.effective_number is not None:
        weights = effective_number_weights(boxes_per_class, beta=loss.effective_number)
        elementwise = ClassWeighted(elementwise, weights)
    if loss.equalization is not None:
        elementwise = Equalized(elementwise, rare_classes(boxes_per_class, below=loss.equalization))
    return elementwise


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
