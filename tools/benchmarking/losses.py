"""The dense classification loss and the matcher beside those of torch and torchvision."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher as TorchvisionMatcher
from torchvision.ops import box_iou

from benchmarking import made_up
from benchmarking.partners import PARTNER_LOSSES, LossOf
from benchmarking.setup import PRESETS, Figures, Setup
from benchmarking.timing import Ratio, Work, extra_peak, in_turn
from detector import build
from detector.anchors.matching import Matcher
from detector.structures import Targets

IMAGES = 2
COPIES = 9  # timed together: of one of some microseconds the launch would be timed
BUFFERS = 3  # in turn, so that the cache of a GPU does not hold them


def measure_losses(setup: Setup) -> Figures:
    """The section `loss`, of each preset."""
    return {name: _measure_loss(name, setup) for name in PRESETS}


def measure_compiled_losses(setup: Setup) -> Figures:
    """The section `loss_compiled`: ours through torch.compile, the partners as they are."""
    return {name: _measure_loss(name, setup, compiled=True) for name in PRESETS}


def _measure_loss(name: str, setup: Setup, *, compiled: bool = False) -> Figures:
    code = build.class_code(setup.presets[name], setup.counts.classes)
    targets = _to(
        made_up.targets(IMAGES, setup.counts.anchors, classes=setup.counts.classes), setup
    )
    shape = (IMAGES, setup.counts.anchors, code.channels)
    random = torch.Generator(setup.on).manual_seed(0)
    logits = (torch.randn(shape, generator=random, device=setup.on) - 4).to(setup.precision)
    logits.requires_grad_()
    autocast = build.autocast(setup.precision, setup.on)

    def gradient(loss: LossOf) -> Tensor:
        with autocast():
            value = loss(logits, targets).sum()
        return torch.autograd.grad(value, logits)[0]

    criterion = build.criterion(setup.presets[name], code).classification
    if compiled:
        criterion.compile()
    ours, partner = partial(gradient, criterion), partial(gradient, PARTNER_LOSSES[name])
    works: dict[str, Work] = {
        "ours": ours, "partner": partner, "copies": _copies(logits.detach()),
    }  # fmt: skip
    difference = _difference(ours(), partner())
    size = logits.numel() * logits.element_size()
    peaks = {side: extra_peak(works[side], setup.on) / size for side in ("ours", "partner")}
    times = in_turn(works, rounds=setup.counts.rounds, on=setup.on)
    own = [timing.device for timing in times["ours"]]
    copy = [timing.device / COPIES for timing in times["copies"]]
    return {
        "difference": difference,
        "copies": peaks["ours"],
        "partner_copies": peaks["partner"],
        "speed": asdict(Ratio.of_times(times["partner"], times["ours"])),
        "over_copy": asdict(Ratio.of([a / b for a, b in zip(own, copy, strict=True)])),
        "bandwidth": 2 * size / min(copy),
    }


def _copies(logits: Tensor) -> Work:
    buffers = [torch.empty_like(logits) for _ in range(BUFFERS)]

    def work() -> None:
        for index in range(COPIES):
            buffers[index % BUFFERS].copy_(logits)

    return work


def measure_matching(setup: Setup) -> Figures:
    """The section `matching`."""
    counts = setup.counts
    anchors = made_up.rectangles(counts.anchors, 1000, 1000, made_up.fixed_generator()).to(setup.on)
    batch = made_up.batch(IMAGES, 1000, 1000, boxes=counts.boxes, classes=1).to(setup.on)
    matcher = Matcher(foreground=0.5, background=0.4, low_quality=True)
    other = TorchvisionMatcher(0.5, 0.4, allow_low_quality_matches=True)

    def ours() -> Tensor:
        return matcher(anchors, batch).matches

    def partner() -> Tensor:
        return torch.stack([other(box_iou(own, anchors)) for own in batch.boxes[:, : counts.boxes]])

    agreement = (ours() == partner()).double().mean().item()
    extra, partner_extra = extra_peak(ours, setup.on), extra_peak(partner, setup.on)
    times = in_turn({"ours": ours, "partner": partner}, rounds=counts.rounds, on=setup.on)
    return {
        "agreement": agreement,
        "extra_bytes": extra,
        "partner_extra_bytes": partner_extra,
        "memory": partner_extra / extra,
        "speed": asdict(Ratio.of_times(times["partner"], times["ours"])),
    }


def _to(targets: Targets, setup: Setup) -> Targets:
    tensors = (targets.anchors, targets.matches, targets.boxes, targets.labels, targets.keys)
    return Targets(*(tensor.to(setup.on) for tensor in tensors))


def _difference(ours: Tensor, partner: Tensor) -> float:
    """Largest difference of two gradients / largest entry of the partner's."""
    ours, partner = ours.float(), partner.float()
    return ((ours - partner).abs().max() / partner.abs().max()).item()
