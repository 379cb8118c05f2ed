"""The dense classification loss and the matcher beside those of torch and torchvision."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import Matcher as TorchvisionMatcher
from torchvision.ops import box_iou, sigmoid_focal_loss

from benchmarking import made_up
from benchmarking.setup import PRESETS, Setup
from benchmarking.timing import Figures, Work, extra_peak, in_turn, ratio, spread
from detector import build
from detector.anchors.matching import Matcher
from detector.structures import Targets

IMAGES = 2
COPIES = 9  # timed together: of one of some microseconds the launch would be timed
BUFFERS = 3  # in turn, so that the cache of a GPU does not hold them
LossOf = Callable[[Tensor, Targets], Tensor]  # logits (N, A, C) -> a tensor to sum


def measure_losses(setup: Setup, *, compiled: bool = False) -> Figures:
    """The section `loss`, of each preset; compiled: ours through torch.compile."""
    return {name: _measure_loss(name, setup, compiled=compiled) for name in PRESETS}


def _measure_loss(name: str, setup: Setup, *, compiled: bool) -> Figures:
    config = setup.preset(name)
    code = build.class_code(config, setup.classes)
    criterion = build.criterion(config, code).classification
    if compiled:
        criterion.compile()
    targets = made_up.targets(IMAGES, setup.anchors, classes=setup.classes, on=setup.on)
    shape = (IMAGES, setup.anchors, code.channels)
    random = torch.Generator(setup.on).manual_seed(0)
    logits = (torch.randn(shape, generator=random, device=setup.on) - 4).to(setup.precision)
    logits.requires_grad_()
    autocast = build.autocast(setup.precision, setup.on)

    def gradient(loss: LossOf) -> Tensor:
        with autocast():
            value = loss(logits, targets).sum()
        return torch.autograd.grad(value, logits)[0]

    ours, partner = partial(gradient, criterion), partial(gradient, PARTNERS[name])
    expected = partner().float()
    difference = (ours().float() - expected).abs().max() / expected.abs().max()
    size = logits.numel() * logits.element_size()
    works: dict[str, Work] = {
        "ours": ours, "partner": partner, "copies": _copies(logits.detach()),
    }  # fmt: skip
    peaks = {side: extra_peak(works[side], setup.on) / size for side in ("ours", "partner")}
    times = in_turn(works, rounds=setup.rounds, on=setup.on)
    copy = [timing.device / COPIES for timing in times["copies"]]
    return {
        "difference": difference.item(),
        "copies": peaks["ours"],
        "partner_copies": peaks["partner"],
        "speed": ratio(times["partner"], times["ours"]),
        "over_copy": spread([a.device / b for a, b in zip(times["ours"], copy, strict=True)]),
        "bandwidth": 2 * size / min(copy),
    }


def _copies(logits: Tensor) -> Work:
    buffers = [torch.empty_like(logits) for _ in range(BUFFERS)]

    def work() -> None:
        for index in range(COPIES):
            buffers[index % BUFFERS].copy_(logits)

    return work


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


PARTNERS: dict[str, LossOf] = {  # by preset
    "cross_entropy": _binary,
    "background_cross_entropy": _with_background,
    "focal": _focal,
}


def measure_matching(setup: Setup) -> Figures:
    """The section `matching`."""
    anchors = made_up.rectangles(setup.anchors, 1000, 1000, made_up.fixed_generator()).to(setup.on)
    batch = made_up.batch(IMAGES, 1000, 1000, boxes=setup.boxes, classes=1).to(setup.on)
    matcher = Matcher(foreground=0.5, background=0.4, low_quality=True)
    other = TorchvisionMatcher(0.5, 0.4, allow_low_quality_matches=True)

    def ours() -> Tensor:
        return matcher(anchors, batch).matches

    def partner() -> Tensor:
        return torch.stack([other(box_iou(own, anchors)) for own in batch.boxes[:, : setup.boxes]])

    agreement = (ours() == partner()).double().mean().item()
    extra, partner_extra = extra_peak(ours, setup.on), extra_peak(partner, setup.on)
    times = in_turn({"ours": ours, "partner": partner}, rounds=setup.rounds, on=setup.on)
    return {
        "agreement": agreement,
        "extra_bytes": extra,
        "partner_extra_bytes": partner_extra,
        "memory": partner_extra / extra,
        "speed": ratio(times["partner"], times["ours"]),
    }
