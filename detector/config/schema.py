"""One experiment: the sections of a config, those of data, model and loss beside what they make."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from detector import yaml_text
from detector.anchors.atss import ATSSSettings
from detector.anchors.generator import AnchorsSettings, OrAuto
from detector.anchors.matching import MatchingSettings, MaxIoUSettings
from detector.data.settings import DataSettings
from detector.loss.assemble import CLASSIFICATION_LOSSES
from detector.loss.box import BoxLossSettings
from detector.loss.elementwise import ElementwiseSettings
from detector.loss.focal import FocalSettings
from detector.model.settings import ModelSettings
from detector.settings.figures import LOSSES, check_metrics, unknown_figure
from detector.settings.one_of import OneOf
from detector.settings.section import (
    Below1,
    Count,
    Fraction,
    NotNegative,
    Positive,
    Proper,
    Section,
    Whole,
    is_section,
    item,
)
from detector.yaml_text import KeyPath

MATCHINGS = OneOf(
    base=MatchingSettings,
    kinds={"max_iou": MaxIoUSettings, "atss": ATSSSettings},
    default="max_iou",
)


class LossSettings(Section):
    classification: Annotated[SerializeAsAny[ElementwiseSettings], CLASSIFICATION_LOSSES] = (
        FocalSettings()
    )
    box: BoxLossSettings = BoxLossSettings()


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", name):
        raise ValueError(f"found {name!r}, it should be auto, cpu, cuda or cuda:N")
    return name


class OptimizerSettings(Section):
    name: Literal["sgd", "adamw"] = item("sgd", "sgd | adamw")
    lr: Positive = item(0.01, "learning rate at reference_batch")
    reference_batch: Count | None = item(16, "used is lr * batch_size / this; null: lr as it is")
    backbone_rate: Positive = item(1.0, "factor of the learning rate in the backbone")
    momentum: Below1 = item(0.9, "of sgd")
    weight_decay: NotNegative = item(1e-4, "of weights")
    decay_norms: bool = item(default=False, description="decay norms and biases too")
    clip_norm: Positive | None = item(
        None, "largest norm of the gradient of all parameters; null: not clipped"
    )
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


def _loggers(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not re.fullmatch(r"[^:\s]+:[^\W\d]\w*", name):
            raise ValueError(f"found {name!r}, it should be module:Class")
    return names


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
        20,
        "steps between shares of the loss by group of anchors (positives, negatives); null: never",
    )
    checkpoint_every: Count | None = item(None, "steps between checkpoints; null: at epoch ends")
    loggers: Annotated[tuple[str, ...], AfterValidator(_loggers)] = item(
        (), "classes of your own, as [my_module:MyLogger], that get what is logged, too"
    )
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


class PostprocessSettings(Section):
    score: Fraction = item(0.05, "detections at or below are dropped")
    per_level: Count = item(1000, "best anchors kept a level before NMS")
    nms: Fraction = item(0.5, "IoU above which the lower of two detections of a class is dropped")
    per_image: Count = item(100, "detections kept an image")
    agnostic: bool = item(
        default=False, description="NMS over all classes together: of two on one object one stays"
    )


class Config(Section):
    """One experiment. Immutable; equal configs are equal objects."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    anchors: Annotated[AnchorsSettings | Literal["auto"], OrAuto()] = AnchorsSettings()
    matching: Annotated[SerializeAsAny[MatchingSettings], MATCHINGS] = MaxIoUSettings()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    train: TrainSettings = TrainSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    postprocess: PostprocessSettings = PostprocessSettings()

    @model_validator(mode="after")
    def _check(self) -> Config:
        batch, parts = self.train.batch_size, self.optimizer.accumulate
        if batch % parts:
            raise ValueError(
                f"optimizer.accumulate is {parts}, it should divide train.batch_size, {batch}"
            )
        return self

    def to_yaml(self) -> str:
        """Every key with its value, as YAML that `parse` reads back to an equal Config."""
        return yaml_text.write(self.model_dump(mode="json"))


def _alternatives(section: type[Section], above: KeyPath = ()) -> Iterator[tuple[KeyPath, OneOf]]:
    for name, field in section.model_fields.items():
        path = (*above, name)
        one_of = OneOf.among(field.metadata)
        if one_of is not None:
            yield path, one_of
            yield from _alternatives(one_of.base, path)
        elif is_section(field.annotation):
            yield from _alternatives(field.annotation, path)


ALTERNATIVES = dict(_alternatives(Config))  # the key paths of which there are several kinds
