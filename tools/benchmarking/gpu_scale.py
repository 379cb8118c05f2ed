"""The size of the check on a GPU: in full, and so small that it only shows that all runs."""

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


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_SIZE = "data.resize={{width: {}, height: {}}}"  # no word by itself: YAML wants its spaces
FULL = Scale(
    device="cuda",
    tests=_words("-m gpu --numprocesses 8"),
    digits=(),
    training=(),
    least_ap=0.65,
    steps=(
        StepCase(
            name="R50", config=COCO, classes=80,
            settings=(_SIZE.format(1344, 800), "train.batch_size=16"),
        ),
        StepCase(
            name="ResNeXt-50", config=COCO, classes=264,
            settings=("model.backbone.name=resnext50_32x4d", _SIZE.format(800, 800),
                      "train.batch_size=16"),
        ),
        StepCase(name="digits", config=DIGITS, classes=10, settings=("train.batch_size=16",)),
    ),
    step_modes={
        "eager": _words("--rounds 20 --sides ours network torchvision torchvision_default"),
        "graph": _words("--rounds 20 --sides ours ours_graph network_graph"),
    },
    compiled_step=_words("--rounds 20 --sides ours ours_compiled network_compiled"),
    parts=_words("--rounds 3"),
    losses=(
        ("loss of 80 classes", ("loss", "matching"),
         _words("--anchors 200000 --classes 80 --rounds 20")),
        ("loss of 1,203 classes", ("loss",),
         _words("--anchors 200000 --classes 1203 --rounds 5")),
    ),
    data=(
        ("at 800 px", ("predict", "loader"),
         _words(f"--config {COCO} --rounds 5 --images 5000")),
        ("at 128 px", ("loader",), _words(f"--config {DIGITS} --rounds 3 --images 20000")),
    ),
    lab=_words("schedule.epochs=null schedule.steps=300 evaluation.images=0"),
    together=8,
)  # fmt: skip

_TINY = ("train.batch_size=2", "evaluation.batch_size=1", _SIZE.format(96, 64))
_LITTLE = _words("--rounds 1 --anchors 1000 --classes 5 --images 20")
QUICK = Scale(
    device="cpu",
    tests=("-m", "gpu and not slow", "--sample", "1"),
    digits=_words("--train 16 --val 6 --size 64 --objects 1 3 --scale 20 36"),
    training=(
        _SIZE.format(64, 64),
        *_words("schedule.epochs=null schedule.steps=2 train.batch_size=8 train.log_every=1"),
        "data.workers=0",
    ),
    least_ap=0.0,
    steps=(StepCase(name="digits", config=DIGITS, classes=10, settings=_TINY),),
    step_modes={"eager": _words("--rounds 1")},
    compiled_step=_words("--rounds 1 --sides ours"),  # compiling takes a CPU minutes
    parts=_words("--rounds 1"),
    losses=(("loss of 5 classes", ("loss", "matching"), _LITTLE),),
    data=(("at 96 px", ("predict", "loader"), (*_LITTLE, "--set", *_TINY)),),
    lab=(
        "train.batch_size=2",
        *_words("data.workers=0 schedule.epochs=null schedule.steps=1 evaluation.images=0"),
        _SIZE.format(64, 64),
    ),
    together=2,
)
