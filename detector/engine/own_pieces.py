"""A user's own assignment, loss and sampler, each called once before a training begins."""

from __future__ import annotations

import torch
from torch import Tensor

from detector.anchors.class_code import ClassCode
from detector.engine.step import TrainingStep
from detector.errors import InputError
from detector.imported import calling, is_own, name_of
from detector.loss.classification import trainable
from detector.loss.elementwise import ElementwiseLoss
from detector.loss.sampling import Sampler
from detector.structures import BACKGROUND, IGNORED, Batch, Targets


def check_own_pieces(step: TrainingStep, batch: Batch) -> None:
    """Call a user's own assignment, loss and sampler once; InputError if one cannot be used.

    It names what failed and its line, or what was returned and what should be.
    """
    code, sampler = step.criterion.classification.code, step.criterion.classification.sampler
    elementwise = step.criterion.classification.elementwise
    while hasattr(elementwise, "elementwise"):  # within factors by class
        elementwise = elementwise.elementwise
    if not any(map(is_own, (step.matcher, elementwise, sampler))):
        return
    with calling(step.matcher, "matching"):
        targets = step.assign(batch)
    if is_own(step.matcher):
        _check_targets(name_of(step.matcher), targets, batch)
    if is_own(elementwise):
        _check_elementwise(elementwise, code)
    if is_own(sampler):
        _check_sampler(sampler, targets, trainable(targets.matches, code=code))


def _check_targets(name: str, targets: object, batch: Batch) -> None:
    if not isinstance(targets, Targets):
        raise InputError(f"matching: {name} returned {type(targets).__name__}; expected Targets.")
    matches, images = targets.matches, len(batch)
    shape = (images, len(targets.anchors))
    if matches.dtype != torch.int64 or matches.shape != shape:
        raise InputError(
            f"matching: {name} gave matches {matches.dtype} of shape {tuple(matches.shape)}; "
            f"expected int64 of shape {shape}."
        )
    usable = batch.present & ~batch.crowd
    box = matches.clamp(0, usable.shape[1] - 1)
    right = (matches == box) & usable.gather(1, box)
    if not (right | (matches == BACKGROUND) | (matches == IGNORED)).all():
        raise InputError(
            f"matching: {name} gave matches that are no index of a box (present, and no crowd), "
            "nor BACKGROUND or IGNORED."
        )


def _check_elementwise(elementwise: ElementwiseLoss, code: ClassCode) -> None:
    logits = torch.linspace(-2, 2, 3 * code.channels).reshape(3, -1).requires_grad_()
    labels = torch.eye(3, code.num_classes, dtype=torch.bool)
    with torch.enable_grad():
        terms = code.terms(logits, labels, torch.ones(3, 1))
        with calling(elementwise, "loss.classification"):
            costs = elementwise(terms)
    if not (isinstance(costs, Tensor) and costs.shape == terms.log_p.shape and costs.requires_grad):
        what = type(costs).__name__
        if isinstance(costs, Tensor):
            gradient = "" if costs.requires_grad else " without a gradient"
            what = f"shape {tuple(costs.shape)}{gradient}"
        raise InputError(
            f"loss.classification: {name_of(elementwise)} returned {what}; expected a tensor of "
            f"the shape of terms.log_p, {tuple(terms.log_p.shape)} here, with a gradient."
        )
    with calling(elementwise, "loss.classification"):
        (slopes,) = torch.autograd.grad(costs.sum(), logits, materialize_grads=True)
    if not (costs.isfinite().all() and slopes.isfinite().all()):
        what = "a gradient" if costs.isfinite().all() else "a cost"
        raise InputError(
            f"loss.classification: {name_of(elementwise)} gave {what} that is not finite, of "
            "logits between -2 and 2; correct its formula."
        )


def _check_sampler(sampler: Sampler, targets: Targets, allowed: Tensor) -> None:
    where = "loss.classification.sampling"
    losses = torch.linspace(0, 1, allowed.numel(), device=allowed.device).reshape(allowed.shape)
    with calling(sampler, where):
        weights = sampler.weights(losses, targets, allowed)
        if sampler.known_before:
            sampler.counts(targets, allowed)
    fits = isinstance(weights, Tensor) and weights.shape == losses.shape
    if not fits or weights.dtype != losses.dtype or not ((weights == 0) | (weights == 1)).all():
        raise InputError(
            f"{where}: {name_of(sampler)} should return weights 0 or 1, {losses.dtype} of shape "
            f"{tuple(losses.shape)}, as the losses are."
        )
