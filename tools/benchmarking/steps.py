"""The training step beside torchvision's and beside the bare network; its parts and its losses."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from benchmarking import made_up
from benchmarking.setup import PRESETS, Setup, changed
from benchmarking.timing import (
    PARTS,
    WARM_UP,
    Figures,
    Timing,
    Work,
    as_graph,
    extra_peak,
    in_turn,
    kernels,
    part_shares,
    ratio,
    spread,
)
from detector import build
from detector.config import Config
from detector.engine.meter import Meter
from detector.engine.step import TrainingStep
from detector.errors import InputError
from detector.model.backbone import Backbone, group_norm
from detector.model.timm_layout import is_timm
from detector.structures import Batch
from detector.training import training_step

NO_PARTNER = "mobilenet_v2"  # its stages have other names in torchvision's detectors
NORMS: dict[str, Callable[..., nn.Module]] = {
    "frozen_batch": FrozenBatchNorm2d,
    "batch": nn.BatchNorm2d,
    "group": group_norm,
}
RATIOS = (  # time of one side / that of another
    ("ours", "network"),
    ("ours_compiled", "network_compiled"),
    ("ours_graph", "network_graph"),
    ("torchvision", "ours"),
    ("torchvision_default", "ours"),
    ("ours", "ours_compiled"),
    ("ours", "ours_graph"),
)


def measure_step(setup: Setup) -> Figures:
    """The section `step`: the sides of the setup, in turn."""
    batches = _batches(setup)
    works: dict[str, Work] = {}

    def settle(name: str) -> None:
        """Set up libraries, memory and, compiled, the code of a side."""
        works[name] = SIDES[name](setup, batches)
        for _ in range(WARM_UP):
            works[name]()

    peaks = {name: extra_peak(partial(settle, name), setup.on) for name in setup.sides}
    times = in_turn(works, rounds=setup.rounds, on=setup.on)
    images = sum(len(batch) for batch in batches)
    return {
        "images": [images, *batches[0].images.shape[2:]],
        "backbone": setup.config.model.backbone.name,
        "sides": {
            name: {"peak_bytes": peaks[name], **_speed(times[name], images),
                   **kernels(works[name], setup.on)}
            for name in setup.sides
        },
        "ratios": {
            f"{above} / {below}": ratio(times[above], times[below])
            for above, below in RATIOS
            if above in works and below in works
        },
    }  # fmt: skip


def _speed(times: Sequence[Timing], images: int) -> Figures:
    seconds = statistics.median(timing.device for timing in times)
    return {
        "milliseconds": 1000 * seconds,
        "images_per_second": images / seconds,
        "host_milliseconds": 1000 * statistics.median(timing.host for timing in times),
    }


def _ours(setup: Setup, batches: Sequence[Batch]) -> Work:
    return _work(_step(setup, setup.config), batches)


def _ours_compiled(setup: Setup, batches: Sequence[Batch]) -> Work:
    return _work(_step(setup, changed(setup.config, "train", compile=True)), batches)


def _ours_graph(setup: Setup, batches: Sequence[Batch]) -> Work:
    step = _step(setup, setup.config)
    for group in step.optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True
    return as_graph(_work(step, batches), setup.on)


def _network(setup: Setup, batches: Sequence[Batch], *, compiled: bool = False) -> Work:
    """Forward, and backward of a random gradient: what no loss, matcher or optimizer can beat."""
    code = build.class_code(setup.config, setup.classes)
    net = build.model(setup.config, code).to(setup.on).train()
    if compiled:
        net.compile()
    autocast = build.autocast(setup.precision, setup.on)
    gradients: list[Tensor] = []  # not constant ones, on which matrix units draw less power

    def work() -> None:
        net.zero_grad(set_to_none=True)
        for batch in batches:
            with autocast():
                outputs = net(batch.images)
            tensors = [outputs.class_logits, outputs.box_deltas]
            if not gradients:
                gradients.extend(torch.randn_like(tensor) for tensor in tensors)
            torch.autograd.backward(tensors, gradients)

    return work


def _torchvision(setup: Setup, batches: Sequence[Batch], *, default: bool = False) -> Work:
    """In our precision and memory format; default: as its script trains without options."""
    dtype = torch.float32 if default else setup.precision
    ours = setup.config.train.channels_last and not default
    form = torch.channels_last if ours else torch.contiguous_format
    net = _retinanet(setup.config, setup.classes).to(setup.on, memory_format=form).train()
    inputs = [_torchvision_batch(batch) for batch in batches]
    optimizer, clip = _plain_optimizer(setup.config, net), setup.config.optimizer.clip_norm
    scaler = torch.amp.GradScaler(setup.on.type, enabled=dtype is torch.float16)
    autocast = build.autocast(dtype, setup.on)

    def work() -> None:
        optimizer.zero_grad(set_to_none=True)
        for images, targets in inputs:
            with autocast():
                losses = net(images, targets)
            scaler.scale(sum(losses.values())).backward()
        if clip is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()

    return work


def _plain_optimizer(config: Config, net: nn.Module) -> torch.optim.Optimizer:
    """As a script of torchvision's would make it: torch's own choice of implementation."""
    o, trainable = config.optimizer, [p for p in net.parameters() if p.requires_grad]
    if o.name == "sgd":
        return torch.optim.SGD(trainable, 0.0, momentum=o.momentum, weight_decay=o.weight_decay)
    return torch.optim.AdamW(trainable, 0.0, weight_decay=o.weight_decay)


def _retinanet(config: Config, classes: int) -> RetinaNet:
    """torchvision's, of the same layers as the config's, with ResNets only.

    It resizes nothing in training, as ours does not: that is the loader's work.
    """
    anchors, head, b, fpn = (
        config.anchors,
        config.model.head,
        config.model.backbone,
        config.model.fpn,
    )
    assert not isinstance(anchors, str)  # our own step was built before, which refuses auto
    generator = AnchorGenerator(
        tuple(tuple(size * scale for scale in anchors.scales) for size in anchors.sizes),
        (anchors.ratios,) * len(anchors.sizes),
    )
    ours = Backbone(b.name, b.norm, b.frozen_stages)  # only asked for widths and frozen names
    body = get_model(b.name, weights=None, norm_layer=partial(NORMS[b.norm], eps=b.norm_eps))
    for name, parameter in ours.body.named_parameters():
        body.get_parameter(name).requires_grad_(parameter.requires_grad)
    last = LastLevelP6P7(ours.channels[2] if fpn.p6_from == "c5" else fpn.channels, fpn.channels)
    stages = {"layer2": "0", "layer3": "1", "layer4": "2"}
    backbone = BackboneWithFPN(body, stages, list(ours.channels), fpn.channels, last)
    norm = group_norm if head.norm == "group" else None
    heads = RetinaNetHead(
        fpn.channels, generator.num_anchors_per_location()[0], classes, norm_layer=norm
    )
    for branch in (heads.classification_head, heads.regression_head):
        branch.conv = branch.conv[: head.convs]  # torchvision's has always four
    return RetinaNet(backbone, classes, anchor_generator=generator, head=heads, _skip_resize=True)


def _torchvision_batch(batch: Batch) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Images (3, H, W) in 0..1 and targets, as torchvision's detectors take them."""
    targets = [
        {"boxes": boxes[present], "labels": labels[present].int().argmax(-1)}
        for boxes, labels, present in zip(batch.boxes, batch.labels, batch.present, strict=True)
    ]
    return list(batch.images.float() / 255), targets


SIDES: dict[str, Callable[[Setup, Sequence[Batch]], Work]] = {
    "ours": _ours,
    "ours_compiled": _ours_compiled,
    "ours_graph": _ours_graph,
    "torchvision": _torchvision,
    "torchvision_default": partial(_torchvision, default=True),
    "network": _network,
    "network_compiled": partial(_network, compiled=True),
    "network_graph": lambda setup, batches: as_graph(_network(setup, batches), setup.on),
}


def refuse_sides(setup: Setup) -> None:
    """InputError for sides that cannot be measured here, or of this network."""
    if setup.on.type != "cuda" and any(side.endswith("_graph") for side in setup.sides):
        raise InputError("--sides has CUDA graphs, which need a GPU; leave out ..._graph.")
    torchvision = any(side.startswith("torchvision") for side in setup.sides)
    name = setup.config.model.backbone.name
    if torchvision and (name == NO_PARTNER or is_timm(name)):
        raise InputError(
            f"model.backbone.name is {name}, of which torchvision has no RetinaNet: measure "
            "the step with --sides ours network."
        )


def measure_parts(setup: Setup) -> Figures:
    """The section `parts`: pieces of a step, steps under other losses, and with a diagnosis."""
    batches = _batches(setup)
    step = _step(setup, setup.config)
    once = _work(step, batches)
    once()  # libraries, anchors and the optimizer's state are set up here
    shares = [part_shares(step, once, setup.on) for _ in range(setup.rounds)]
    looked_at = _step(setup, setup.config)
    looked_at.diagnose_every = 2
    works = {name: _work(_step(setup, setup.preset(name)), batches) for name in PRESETS}
    works["looked at"] = _work(looked_at, batches, index=0)
    works["not looked at"] = _work(looked_at, batches)
    for work in works.values():
        work()
    times = in_turn(works, rounds=setup.rounds, on=setup.on)
    return {
        "share": {part: spread([of_round[part] for of_round in shares]) for part in PARTS},
        "cost": {name: ratio(times[name], times["focal"]) for name in PRESETS},
        "diagnosis": ratio(times["looked at"], times["not looked at"]),
        "diagnosis_every": setup.config.train.diagnose_every,
    }


def _work(step: TrainingStep, batches: Sequence[Batch], *, index: int = 1) -> Work:
    """At learning rate 0, so that every round does the same."""
    return partial(step, batches, Meter(batches[0].images.device), rate=0.0, index=index)


def _step(setup: Setup, config: Config) -> TrainingStep:
    """A step of a new network with its initial weights."""
    code = build.class_code(config, setup.classes)
    net, boxes_per_class = build.model(config, code).train(), torch.ones(setup.classes)
    return training_step(config, code, net, setup.on, boxes_per_class)


def _batches(setup: Setup) -> list[Batch]:
    """The micro-batches of a step, all the same."""
    config, micro = setup.config, setup.config.optimizer.accumulate
    size = build.transform(config).resize.for_evaluation().target(*made_up.PHOTOGRAPH, draw=0.0)
    batch = made_up.batch(
        config.train.batch_size // micro, *size, boxes=made_up.BOXES, classes=setup.classes
    )
    return [batch.to(setup.on)] * micro
