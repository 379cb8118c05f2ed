"""How it is minimised, and how often the result is looked at."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from detector.settings.section import (
    Count,
    Fraction,
    NotNegative,
    Positive,
    Proper,
    Section,
    Whole,
    item,
)

COCO_FIGURES = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
LOSSES = ("loss", "loss/classification", "loss/box")  # these alone are better the lower they are
# keys of metrics.json, which a figure of a user's own cannot have
RESERVED = {
    *COCO_FIGURES, "loss", "per_class", "boxes", "images", "detections", "engine", "ground_truth",
    "areas_replaced", "weights", "tuning", "result_file",
}  # fmt: skip


def is_coco_figure(name: str) -> bool:
    """Whether it is a fraction, -1 where it is undefined: one of the twelve, or AP/CLASS."""
    return name in COCO_FIGURES or name.removeprefix("AP/") not in {"", name}


def figure_of(metric: str) -> str:
    """The name of the figure of a metric "module:function"."""
    return metric.partition(":")[2]


def unknown_figure(name: str, metrics: Iterable[str], losses: tuple[str, ...] = LOSSES) -> str:
    """What is wrong with a name that no figure of a validation has; empty if nothing is.

    metrics: those of one's own, "module:function". What these return is not known: the part of the
        name before a "/" is looked at.
    """
    own = sorted({figure_of(metric) for metric in metrics})
    if is_coco_figure(name) or name in losses or name.partition("/")[0] in own:
        return ""
    known = (*COCO_FIGURES, *losses, *own)
    near = difflib.get_close_matches(name, known, n=1)
    return (
        f"found {name!r}, it should be a figure that validation writes: {', '.join(known)}, or "
        f"AP/CLASS{f'; did you mean {near[0]!r}?' if near else ''}"
    )


def check_metrics(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names "module:function"; ValueError where a figure would have another one's name."""
    for name in names:
        if not re.fullmatch(r"[^:\s]+:[^\W\d]\w*", name):
            raise ValueError(f"found {name!r}, it should be module:function")
        if figure_of(name) in RESERVED:
            raise ValueError(
                f"found {name!r}, and metrics.json has {figure_of(name)} already; give the "
                "function another name"
            )
    figures = [figure_of(name) for name in names]
    if twice := [name for name in figures if figures.count(name) > 1]:
        raise ValueError(f"found {twice[0]} of several modules; give each function its own name")
    return names


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", name):
        raise ValueError(f"found {name!r}, it should be auto, cpu, cuda or cuda:N")
    return name


class OptimizerSettings(Section):
    name: Literal["sgd", "adamw"] = item("sgd", "sgd | adamw")
    lr: Positive = item(0.01, "learning rate at reference_batch")
    reference_batch: Count | None = item(16, "used is lr * batch_size / this; null: lr as it is")
    momentum: Annotated[float, Field(ge=0, lt=1)] = item(0.9, "of sgd")
    weight_decay: NotNegative = item(1e-4, "of weights")
    decay_norms: bool = item(default=False, description="decay norms and biases too")
    clip_norm: Positive | None = item(None, "longest gradient of all parameters; null: not clipped")
    accumulate: Count = item(1, "micro-batches a step; must divide train.batch_size")


class ScheduleSettings(Section):
    epochs: Count | None = item(12, "length; set this or steps, and the other to null")
    steps: Count | None = item(None, "length in optimizer steps")
    warmup_steps: Whole = item(500, "steps of linear growth at the start")
    warmup_factor: Fraction = item(0.001, "share of the learning rate at step 0")
    kind: Literal["step", "cosine"] = item("step", "step | cosine (to 0 at the end)")
    milestones: tuple[Count, ...] = item(
        (8, 11), "of step: when the rate falls, in epochs or steps as above"
    )
    factor: Annotated[float, Field(gt=0, le=1)] = item(0.1, "of step: what it is multiplied by")

    @model_validator(mode="after")
    def _check(self) -> ScheduleSettings:
        if (self.epochs is None) == (self.steps is None):
            both = "null" if self.epochs is None else "given"
            raise ValueError(f"epochs and steps are both {both}; set one, and the other to null")
        if sorted(set(self.milestones)) != list(self.milestones):
            raise ValueError(f"milestones is {list(self.milestones)}, it should increase")
        return self


class TrainSettings(Section):
    batch_size: Count = item(16, "images a step, over all ranks and micro-batches")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = item(
        "auto", "auto (the best the device has) | float32 | bfloat16 | float16"
    )
    compile: bool = item(default=False, description="torch.compile the step")
    channels_last: bool = item(default=True, description="memory layout that convolutions prefer")
    seed: Whole = item(0, "of weights, order and augmentation")
    ema: Proper | None = item(None, "decay of a moving average of the weights; null: none")
    log_every: Count = item(20, "steps between lines of metrics.jsonl")
    diagnose_every: Count | None = item(
        20, "steps between looks at who gives the classification loss and its gradient; null: never"
    )
    checkpoint_every: Count | None = item(None, "steps between checkpoints; null: at epoch ends")
    device: Annotated[str, AfterValidator(_device)] = item("auto", "auto | cpu | cuda | cuda:N")


class EvaluationSettings(Section):
    engine: Literal["hotcoco", "pycocotools"] = item("hotcoco", "hotcoco (fast) | pycocotools")
    every: Count = item(1, "epochs between validations; the last is always validated")
    batch_size: Count = item(16, "images a batch, on each rank")
    images: Whole = item(8, "validation images drawn for TensorBoard")
    metrics: Annotated[tuple[str, ...], AfterValidator(check_metrics)] = item(
        (), "functions of your own, as [my_module:my_metric], that give more figures"
    )
    best: str = item(
        "AP", "figure whose highest value names the best checkpoint: AP, AP50, ... ARl, my_metric"
    )

    @field_validator("best")
    @classmethod
    def _figure(cls, name: str, before: ValidationInfo) -> str:
        if name in LOSSES:
            raise ValueError(
                f"found {name!r}, which is better the lower it is; name another figure"
            )
        if problem := unknown_figure(name, before.data.get("metrics", ()), losses=()):
            raise ValueError(problem)
        return name
