"""How large the check on a GPU is: in full, and as a toy that shows whether everything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DIGITS = "configs/digits.yaml"
COCO = "configs/coco_r50_1x.yaml"
Measured = tuple[str, tuple[str, ...], tuple[str, ...]]  # name, sections of a benchmark, options


@dataclass(frozen=True, kw_only=True)
class StepCase:
    """A network and a size of images whose training step is measured."""

    name: str
    config: str
    classes: int
    settings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What the sections of the check run; options are those of tools/benchmark.py."""

    device: str  # cuda, cpu
    tests: tuple[str, ...]  # options of pytest
    digits: tuple[str, ...]  # options of data/digits.py
    training: tuple[str, ...]  # settings of the trainings on the digits
    least_ap: float  # that such a training must reach
    steps: tuple[StepCase, ...]
    step_modes: Mapping[str, tuple[str, ...]]  # options, each with a process of its own
    compiled_step: tuple[str, ...]  # options, for the first case
    parts: tuple[str, ...]  # options, for the first case
    losses: tuple[Measured, ...]
    data: tuple[Measured, ...]
    lab: tuple[str, ...]  # settings of the runs of the lab
    together: int  # runs at a time


FULL = Scale(
    device="cuda",
    tests=("-m", "gpu", "--numprocesses", "8"),
    digits=(),
    training=(),
    least_ap=0.65,
    steps=(
        StepCase(
            name="R50",
            config=COCO,
            classes=80,
            settings=("data.resize={width: 1344, height: 800}", "train.batch_size=16"),
        ),
        StepCase(
            name="ResNeXt-50",
            config=COCO,
            classes=264,
            settings=(
                "model.backbone.name=resnext50_32x4d",
                "data.resize={width: 800, height: 800}",
                "train.batch_size=16",
            ),
        ),
        StepCase(name="digits", config=DIGITS, classes=10, settings=("train.batch_size=16",)),
    ),
    step_modes={
        "eager": (
            *("--rounds", "20"),
            *("--sides", "ours", "network", "torchvision", "torchvision_default"),
        ),
        "graph": ("--rounds", "20", "--sides", "ours", "ours_graph", "network_graph"),
    },
    compiled_step=("--rounds", "20", "--sides", "ours", "ours_compiled", "network_compiled"),
    parts=("--rounds", "3"),
    losses=(
        (
            "loss of 80 classes",
            ("loss", "matching"),
            ("--anchors", "200000", "--classes", "80", "--rounds", "20"),
        ),
        (
            "loss of 1,203 classes",
            ("loss",),
            ("--anchors", "200000", "--classes", "1203", "--rounds", "5"),
        ),
    ),
    data=(
        (
            "at 800 px",
            ("predict", "loader"),
            ("--config", COCO, "--rounds", "5", "--images", "5000"),
        ),
        (
            "at 128 px",
            ("loader",),
            ("--config", DIGITS, "--rounds", "3", "--images", "20000"),
        ),
    ),
    lab=("schedule.epochs=null", "schedule.steps=300", "evaluation.images=0"),
    together=8,
)

_TINY = ("train.batch_size=2", "evaluation.batch_size=1", "data.resize={width: 96, height: 64}")
_LITTLE = ("--rounds", "1", "--anchors", "1000", "--classes", "5", "--images", "20")
QUICK = Scale(
    device="cpu",
    tests=("-m", "gpu and not slow", "--sample", "1"),
    digits=tuple("--train 16 --val 6 --size 64 --objects 1 3 --scale 20 36".split()),
    training=(
        "data.resize={width: 64, height: 64}",
        "schedule.epochs=null",
        "schedule.steps=2",
        "train.batch_size=8",
        "train.log_every=1",
        "data.workers=0",
    ),
    least_ap=0.0,
    steps=(StepCase(name="digits", config=DIGITS, classes=10, settings=_TINY),),
    step_modes={"eager": ("--rounds", "1")},
    compiled_step=("--rounds", "1", "--sides", "ours"),  # compiling takes a CPU minutes
    parts=("--rounds", "1"),
    losses=(("loss of 5 classes", ("loss", "matching"), _LITTLE),),
    data=(("at 96 px", ("predict", "loader"), (*_LITTLE, "--set", *_TINY)),),
    lab=(*_TINY[:1], "data.workers=0", "schedule.epochs=null", "schedule.steps=1",
         "evaluation.images=0", "data.resize={width: 64, height: 64}"),
    together=2,
)  # fmt: skip
