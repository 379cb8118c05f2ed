"""The training step beside torchvision's and beside the bare network; its parts and its losses."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial

import torch
from torch.optim import Optimizer

from detector import build
from detector.benchmark import made_up
from detector.benchmark.partners import torchvision_detector, torchvision_images
from detector.benchmark.setup import PRESETS, Figures, Setup
from detector.benchmark.timing import (
    PARTS,
    WARM_UP,
    Ratio,
    StepParts,
    Timing,
    Work,
    as_graph,
    in_turn,
    kernels,
    with_extra_peak,
)
from detector.commands.train import training_step
from detector.config import Config
from detector.engine.meter import Meter
from detector.engine.step import TrainingStep
from detector.errors import InputError
from detector.model.timm_layout import is_timm
from detector.structures import Batch

NO_PARTNER = "mobilenet_v2"  # its stages have other names in torchvision's detectors
RATIOS = (  # time of one side / that of another
    ("ours", "network"),
    ("ours_compiled", "network_compiled"),
    ("ours_graph", "network_graph"),
    ("torchvision", "ours"),
    ("torchvision_default", "ours"),
    ("ours", "ours_compiled"),
    ("ours", "ours_graph"),
)
Make = Callable[[Setup, Sequence[Batch]], Work]


def measure_step(setup: Setup) -> Figures:
    """The section `step`: the sides of the setup, in turn."""
    batches, works, peaks = _batches(setup), {}, {}
    for name in setup.sides:
        make = partial(_settled, SIDES[name], setup, batches)
        works[name], peaks[name] = with_extra_peak(make, setup.on)
    times = in_turn(works, rounds=setup.counts.rounds, on=setup.on)
    images = sum(len(batch) for batch in batches)
    return {
        "images": [images, *batches[0].images.shape[2:]],
        "backbone": setup.config.model.backbone.name,
        "sides": {
            name: {"peak_bytes": peaks[name], **_side(works[name], times[name], images, setup)}
            for name in setup.sides
        },
        "ratios": {
            f"{above} / {below}": asdict(Ratio.of_times(times[above], times[below]))
            for above, below in RATIOS
            if above in works and below in works
        },
    }


def _settled(make: Make, setup: Setup, batches: Sequence[Batch]) -> Work:
    """A side that has set up its libraries, its memory and, compiled, its code."""
    work = make(setup, batches)
    for _ in range(WARM_UP):
        work()
    return work


def _side(work: Work, times: Sequence[Timing], images: int, setup: Setup) -> Figures:
    seconds = statistics.median(timing.device for timing in times)
    device = kernels(work, setup.on)
    return {
        "milliseconds": 1000 * seconds,
        "images_per_second": images / seconds,
        "host_milliseconds": 1000 * statistics.median(timing.host for timing in times),
        "kernel_milliseconds": None if device is None else 1000 * device.seconds,
        "launches": None if device is None else device.launches,
    }


def _ours(setup: Setup, batches: Sequence[Batch]) -> Work:
    return _work(_step(setup, setup.config), batches, setup)


def _ours_compiled(setup: Setup, batches: Sequence[Batch]) -> Work:
    train = setup.config.train.model_copy(update={"compile": True})
    config = setup.config.model_copy(update={"train": train})
    return _work(_step(setup, config), batches, setup)


def _ours_graph(setup: Setup, batches: Sequence[Batch]) -> Work:
    step = _step(setup, setup.config)
    for group in step.optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True
    return as_graph(_work(step, batches, setup), setup.on)


def _network(setup: Setup, batches: Sequence[Batch]) -> Work:
    """Forward, and backward of a random gradient: what no loss, matcher or optimizer can beat."""
    return _network_of(setup, batches, lambda net: None)


def _network_of(
    setup: Setup, batches: Sequence[Batch], prepare: Callable[[torch.nn.Module], None]
) -> Work:
    code = build.class_code(setup.config, setup.counts.classes)
    net = build.model(setup.config, code).to(setup.on).train()
    prepare(net)
    autocast = build.autocast(setup.precision, setup.on)
    gradients: list[torch.Tensor] = []  # not constant ones, on which matrix units draw less power

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


def _torchvision(setup: Setup, batches: Sequence[Batch]) -> Work:
    """In our precision and memory format."""
    channels_last = setup.config.train.channels_last
    form = torch.channels_last if channels_last else torch.contiguous_format
    return _torchvision_in(setup, batches, setup.precision, form)


def _torchvision_default(setup: Setup, batches: Sequence[Batch]) -> Work:
    """As its reference script trains without options."""
    return _torchvision_in(setup, batches, torch.float32, torch.contiguous_format)


def _torchvision_in(
    setup: Setup, batches: Sequence[Batch], dtype: torch.dtype, form: torch.memory_format
) -> Work:
    net = torchvision_detector(setup.config, setup.counts.classes).to(setup.on, memory_format=form)
    net.train()
    inputs = [torchvision_images(batch) for batch in batches]
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
            torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()

    return work


def _plain_optimizer(config: Config, net: torch.nn.Module) -> Optimizer:
    """As a script of torchvision's would make it: torch's own choice of implementation."""
    o, trainable = config.optimizer, [p for p in net.parameters() if p.requires_grad]
    if o.name == "sgd":
        return torch.optim.SGD(trainable, 0.0, momentum=o.momentum, weight_decay=o.weight_decay)
    return torch.optim.AdamW(trainable, 0.0, weight_decay=o.weight_decay)


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


SIDES: dict[str, Make] = {
    "ours": _ours,
    "ours_compiled": _ours_compiled,
    "ours_graph": _ours_graph,
    "torchvision": _torchvision,
    "torchvision_default": _torchvision_default,
    "network": _network,
    "network_compiled": partial(_network_of, prepare=torch.nn.Module.compile),
    "network_graph": lambda setup, batches: as_graph(_network(setup, batches), setup.on),
}


def measure_parts(setup: Setup) -> Figures:
    """The section `parts`."""
    batches = _batches(setup)
    shares, costs = _shares(setup, batches), _costs(setup, batches)
    return {
        "share": {
            part: asdict(Ratio.of([of_round[part] for of_round in shares])) for part in PARTS
        },
        "cost": {name: asdict(cost) for name, cost in costs.items()},
        "diagnosis": asdict(_diagnosis(setup, batches)),
        "diagnosis_every": setup.config.train.diagnose_every,
    }


def _shares(setup: Setup, batches: Sequence[Batch]) -> list[dict[str, float]]:
    """The share of each part in a step of the config, round by round."""
    parts, step = StepParts(setup.on), _step(setup, setup.config)
    parts.watch(step)
    once = partial(step, batches, parts.meter, rate=0.0, index=1)
    once()  # libraries, anchors and the optimizer's state are set up here
    return [parts.shares(once) for _ in range(setup.counts.rounds)]


def _costs(setup: Setup, batches: Sequence[Batch]) -> dict[str, Ratio]:
    """The time of a step under each preset by that under focal."""
    works = {
        name: _work(_step(setup, config), batches, setup) for name, config in setup.presets.items()
    }
    times = _times(setup, works)
    return {name: Ratio.of_times(times[name], times["focal"]) for name in PRESETS}


def _diagnosis(setup: Setup, batches: Sequence[Batch]) -> Ratio:
    """The time of a step that is looked at by that of the same step without it."""
    step = _step(setup, setup.config)
    step.diagnose_every = 2
    works = {"with": _work(step, batches, setup, number=0), "without": _work(step, batches, setup)}
    times = _times(setup, works)
    return Ratio.of_times(times["with"], times["without"])


def _times(setup: Setup, works: Mapping[str, Work]) -> dict[str, list[Timing]]:
    for once in works.values():
        once()
    return in_turn(works, rounds=setup.counts.rounds, on=setup.on)


def _work(step: TrainingStep, batches: Sequence[Batch], setup: Setup, *, number: int = 1) -> Work:
    """At learning rate 0, so that every round does the same."""
    return partial(step, batches, Meter(setup.on), rate=0.0, index=number)


def _step(setup: Setup, config: Config) -> TrainingStep:
    """A step of a new network with its initial weights."""
    code = build.class_code(config, setup.counts.classes)
    net, boxes_per_class = build.model(config, code).train(), torch.ones(setup.counts.classes)
    return training_step(config, code, net, setup.on, boxes_per_class)


def _batches(setup: Setup) -> list[Batch]:
    """The micro-batches of a step, all the same."""
    config, micro = setup.config, setup.config.optimizer.accumulate
    size = build.transform(config).resize.for_evaluation().target(*made_up.PHOTOGRAPH, draw=0.0)
    batch = made_up.batch(
        config.train.batch_size // micro, *size, boxes=made_up.BOXES, classes=setup.counts.classes
    )
    return [batch.to(setup.on)] * micro
