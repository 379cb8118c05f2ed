"""Our speed and memory, always beside those of a partner in the same process.

Sides run in turn, A B A B ...; a ratio is made within its round and written as {median, lowest,
highest} over the rounds. N images, A anchors, G boxes of an image, K classes.

`loss.PRESET`: dense classification loss of 2 images, forward and backward, from matches and labels;
the targets that a partner wants are part of its work. Partners: torchvision's sigmoid_focal_loss,
and torch's binary_cross_entropy_with_logits and cross_entropy (of K + 1 classes).
  speed             partner's time / ours: above 1, ours is faster
  copies            our extra peak memory / bytes of the logits
  partner_copies    the partner's
  difference        largest difference of the two gradients / largest entry of the partner's
`matching`: 2 images, against torchvision's box_iou and Matcher image by image.
  speed             partner's time / ours
  memory            partner's extra peak memory / ours
  extra_bytes, partner_extra_bytes   these two
  agreement         share of the anchors with the same match
`step`: one training step of the config on made-up images, at learning rate 0.
  images            N, height, width, with padding
  share.PART        share of the step's time, under the config's own loss: assign (and divisors),
                    forward, loss, backward, optimizer (and clipping, averages, meter). A GPU is
                    waited for after every part, which the step by itself never does
  cost.PRESET       time of the step under a preset of configs/losses / under focal
  diagnosis         time of a step that train.diagnose_every (here diagnosis_every) looks at / of
                    another: all diagnoses cost (diagnosis - 1) / diagnosis_every of the training
Extra peak memory: the most bytes held at once beyond what was there before, gradients included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import Matcher as TorchvisionMatcher
from torchvision.ops import box_iou

from detector import build
from detector.anchors.matching import Matcher
from detector.commands.partners import PARTNERS, LossOf
from detector.commands.stopwatch import PARTS, Laps, Ratio, Work, extra_peak, in_turn
from detector.commands.train import training_step
from detector.config import Config
from detector.data.batch import Sample, collate
from detector.engine.meter import Meter
from detector.engine.run import environment
from detector.engine.step import TrainingStep
from detector.files import new_directory, write_json
from detector.structures import BACKGROUND, Batch, Targets

PRESETS = ("cross_entropy", "background_cross_entropy", "focal")  # files of configs/losses
IMAGES = 2  # of the sections loss and matching
FOREGROUND_EVERY = 500  # one anchor in so many is foreground
BOXES = 8  # an image, of the sections loss and step; COCO has 7
PHOTOGRAPH = (480, 640)  # height and width of made-up images before the config's resize
Figures = dict[str, Any]  # as they are written


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured, and on what."""

    config: Config
    presets: Mapping[str, Config]  # the config under each of PRESETS
    on: torch.device
    rounds: int
    anchors: int  # A of the sections loss and matching
    boxes: int  # G of the section matching
    classes: int  # K

    @staticmethod
    def read(file: Path, overrides: Sequence[str], losses: Path, **counts: int) -> Plan:
        """From a config file and the folder of the presets; InputError as load_config."""
        config = build.load_config(file, overrides)
        presets = {
            name: _with_loss_of(config, build.load_config(losses / f"{name}.yaml"))
            for name in PRESETS
        }
        return Plan(config=config, presets=presets, on=build.device(config), **counts)

    def setting(self) -> Figures:
        """What the sections are of, for the file."""
        on_gpu = self.on.type == "cuda"
        device = torch.cuda.get_device_name(self.on) if on_gpu else "cpu"
        sizes = {"anchors": self.anchors, "boxes": self.boxes, "classes": self.classes}
        return {"device": device, "rounds": self.rounds, **sizes}


def benchmark(
    plan: Plan, output: Path, *, command: Sequence[str], show: Callable[[str, Figures], object]
) -> None:
    """Measure the sections, show each under its name, and write `output`/benchmark.json.

    InputError where `output` holds something already; then nothing is measured.
    """
    with new_directory(output) as folder:
        report: Figures = {"environment": environment(command), "setting": plan.setting()}
        for name, measure in SECTIONS.items():
            report[name] = measure(plan)
            show(name, report[name])
        write_json(folder / "benchmark.json", report)


def measure_losses(plan: Plan) -> Figures:
    """The figures `loss` of the module's docstring, of each preset."""
    return {name: _measure_loss(name, plan) for name in PRESETS}


def _measure_loss(name: str, plan: Plan) -> Figures:
    code = build.class_code(plan.presets[name], plan.classes)
    targets = _matched(plan)
    shape = (IMAGES, plan.anchors, code.channels)
    logits = (torch.randn(shape, generator=_seed()) - 4).to(plan.on).requires_grad_()

    def gradient(loss: LossOf) -> Tensor:
        return torch.autograd.grad(loss(logits, targets).sum(), logits)[0]

    ours = partial(gradient, build.criterion(plan.presets[name], code).classification)
    partner = partial(gradient, PARTNERS[name])
    size = logits.numel() * logits.element_size()
    return {
        "difference": _difference(ours(), partner()),
        "copies": extra_peak(ours, plan.on) / size,
        "partner_copies": extra_peak(partner, plan.on) / size,
        "speed": _speed(ours, partner, plan),
    }


def measure_matching(plan: Plan) -> Figures:
    """The figures `matching` of the module's docstring."""
    anchors = _rectangles(plan.anchors, 1000, 1000, _seed()).to(plan.on)
    batch = _batch(IMAGES, 1000, 1000, boxes=plan.boxes, classes=1).to(plan.on)
    matcher = Matcher(foreground=0.5, background=0.4, low_quality=True)
    other = TorchvisionMatcher(0.5, 0.4, allow_low_quality_matches=True)

    def ours() -> Tensor:
        return matcher(anchors, batch).matches

    def partner() -> Tensor:
        return torch.stack([other(box_iou(own, anchors)) for own in batch.boxes[:, : plan.boxes]])

    agreement = (ours() == partner()).double().mean().item()
    extra, partner_extra = extra_peak(ours, plan.on), extra_peak(partner, plan.on)
    return {
        "agreement": agreement,
        "extra_bytes": extra,
        "partner_extra_bytes": partner_extra,
        "memory": partner_extra / extra,
        "speed": _speed(ours, partner, plan),
    }


def measure_step(plan: Plan) -> Figures:
    """The figures `step` of the module's docstring."""
    config, micro = plan.config, plan.config.optimizer.accumulate
    size = build.transform(config).resize.for_evaluation().target(*PHOTOGRAPH, draw=0.0)
    batch = _batch(config.train.batch_size // micro, *size, boxes=BOXES, classes=plan.classes)
    batches = [batch.to(plan.on)] * micro
    shares, costs = _shares(plan, batches), _costs(plan, batches)
    return {
        "images": [len(batch) * micro, *batch.images.shape[2:]],
        "precision": str(build.precision(config, plan.on)).removeprefix("torch."),
        "share": {part: asdict(Ratio.of([one[part] for one in shares])) for part in PARTS},
        "cost": {name: asdict(Ratio.of([one[name] for one in costs])) for name in PRESETS},
        "diagnosis": asdict(Ratio.of(_diagnosis(plan, batches))),
        "diagnosis_every": config.train.diagnose_every,
    }


def _shares(plan: Plan, batches: Sequence[Batch]) -> list[dict[str, float]]:
    """The share of each part in a step of the config, round by round."""
    laps, step = Laps(plan.on), _step(plan, plan.config)
    laps.watch(step)
    once = partial(step, batches, laps.meter, rate=0.0, number=1)
    once()  # libraries, anchors and the optimizer's state are set up here
    return [laps.shares(once) for _ in range(plan.rounds)]


def _costs(plan: Plan, batches: Sequence[Batch]) -> list[dict[str, float]]:
    """The time of a step under each preset by that under focal, round by round."""
    steps = {name: (_step(plan, config), 1) for name, config in plan.presets.items()}
    times = _times(plan, steps, batches)
    return [{name: one[name] / one["focal"] for name in steps} for one in times]


def _diagnosis(plan: Plan, batches: Sequence[Batch]) -> list[float]:
    """The time of a step that is looked at by that of the same step without it, round by round."""
    step = _step(plan, plan.config)
    step.diagnose_every = 2
    times = _times(plan, {"with": (step, 0), "without": (step, 1)}, batches)
    return [one["with"] / one["without"] for one in times]


def _times(
    plan: Plan, steps: Mapping[str, tuple[TrainingStep, int]], batches: Sequence[Batch]
) -> list[dict[str, float]]:
    """Seconds of each step, given with its number, round by round."""
    works: dict[str, Work] = {
        name: partial(step, batches, Meter(plan.on), rate=0.0, number=number)
        for name, (step, number) in steps.items()
    }
    for once in works.values():
        once()
    return in_turn(works, rounds=plan.rounds, on=plan.on)


def _step(plan: Plan, config: Config) -> TrainingStep:
    """A step of a new network with its initial weights."""
    code = build.class_code(config, plan.classes)
    net, boxes_per_class = build.model(config, code), torch.ones(plan.classes)
    return training_step(config, code, net, plan.on, boxes_per_class)


def _speed(ours: Work, partner: Work, plan: Plan) -> Figures:
    times = in_turn({"ours": ours, "partner": partner}, rounds=plan.rounds, on=plan.on)
    return asdict(Ratio.of([one["partner"] / one["ours"] for one in times]))


def _difference(ours: Tensor, partner: Tensor) -> float:
    return ((ours - partner).abs().max() / partner.abs().max()).item()


SECTIONS: dict[str, Callable[[Plan], Figures]] = {
    "loss": measure_losses,
    "matching": measure_matching,
    "step": measure_step,
}


def _matched(plan: Plan) -> Targets:
    """Targets of the section loss: background but for every so-many-th anchor, none ignored."""
    batch = _batch(IMAGES, 1000, 1000, boxes=BOXES, classes=plan.classes)
    matches = torch.full((IMAGES, plan.anchors), BACKGROUND)
    foreground = matches[:, ::FOREGROUND_EVERY]
    foreground[:] = torch.arange(foreground.shape[1]) % BOXES
    anchors = _rectangles(plan.anchors, 1000, 1000, _seed())
    parts = (anchors, matches, batch.boxes, batch.labels, batch.keys)
    return Targets(*(part.to(plan.on) for part in parts))


def _batch(count: int, height: int, width: int, *, boxes: int, classes: int) -> Batch:
    """Made-up images of noise, with random boxes of random classes."""
    random = _seed()
    samples = [
        Sample(
            image=torch.randint(256, (3, height, width), dtype=torch.uint8, generator=random),
            boxes=_rectangles(boxes, height, width, random),
            labels=F.one_hot(torch.randint(classes, (boxes,), generator=random), classes).bool(),
            crowd=torch.zeros(boxes, dtype=torch.bool),
            image_id=number,
            original_size=(height, width),
            key=number,
        )
        for number in range(count)
    ]
    return collate(samples)


def _rectangles(count: int, height: int, width: int, random: torch.Generator) -> Tensor:
    """(count, 4) x1 y1 x2 y2 in pixels; sides of a hundredth to a fifth of the image's."""
    corner, side = torch.rand(2, count, 2, generator=random)
    corners = torch.cat([0.8 * corner, 0.8 * corner + 0.01 + 0.19 * side], dim=1)
    return corners * torch.tensor([width, height]).repeat(2)


def _seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _with_loss_of(config: Config, other: Config) -> Config:
    loss = config.loss.model_copy(update={"classification": other.loss.classification})
    return config.model_copy(update={"loss": loss})
