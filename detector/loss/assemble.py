"""The settings of the classification loss -> its objects; build.py calls this."""

from __future__ import annotations

import torch
from torch import Tensor

from detector.anchors.class_code import ClassCode
from detector.errors import InputError, about
from detector.imported import calling
from detector.loss import normalizer as normalizers
from detector.loss.by_class import ClassWeighted, Equalized, effective_number_weights, rare_classes
from detector.loss.classification import ClassificationLoss
from detector.loss.elementwise import ElementwiseLoss, ElementwiseSettings
from detector.loss.focal import FocalSettings, PolySettings, QualityFocalSettings, VarifocalSettings
from detector.loss.ghm import GHMCSettings
from detector.settings.one_of import OneOf

CLASSIFICATION_LOSSES = OneOf(
    base=ElementwiseSettings,
    kinds={
        "focal": FocalSettings,
        "poly": PolySettings,
        "ghm": GHMCSettings,
        "quality_focal": QualityFocalSettings,
        "varifocal": VarifocalSettings,
    },
    default="focal",
)
NORMALIZERS: dict[str, type[normalizers.Normalizer]] = {
    "positives": normalizers.Positives,
    "positives_per_image": normalizers.PositivesPerImage,
    "ema_positives": normalizers.EmaPositives,
    "sampled": normalizers.Sampled,
    "images": normalizers.Images,
}

SAMPLING = "loss.classification.sampling"


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
    # a loss or sampler of a user's own may refuse its keys, or fail
    with calling(loss, "loss.classification"), about("loss.classification"):
        plain = loss.elementwise()
        if not hasattr(plain, "observe"):
            raise ValueError(f"elementwise() returned {plain!r}; it should be an ElementwiseLoss")
    with calling(loss.sampling, SAMPLING), about(SAMPLING):
        sampler = loss.sampling.sampler()
        if not hasattr(sampler, "weights"):
            raise ValueError(f"sampler() returned {sampler!r}; it should be a Sampler")
    elementwise = _by_class(plain, loss, boxes_per_class)
    return ClassificationLoss(code=code, elementwise=elementwise, sampler=sampler)


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
