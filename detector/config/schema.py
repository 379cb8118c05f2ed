"""One experiment: the sections of a config; their keys are in detector/settings and loss/."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import SerializeAsAny, model_validator

from detector import yaml_text
from detector.anchors.atss import ATSSSettings
from detector.anchors.matching import MatchingSettings, MaxIoUSettings
from detector.data.settings import DataSettings
from detector.loss.assemble import CLASSIFICATION_LOSSES
from detector.loss.box import BoxLossSettings
from detector.loss.elementwise import ElementwiseSettings
from detector.loss.focal import FocalSettings
from detector.model.settings import ModelSettings
from detector.settings import network, training
from detector.settings.one_of import OneOf
from detector.settings.section import Section
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


class Config(Section):
    """One experiment. Immutable; equal configs are equal objects."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    anchors: network.AnchorsSettings = network.AnchorsSettings()
    matching: Annotated[SerializeAsAny[MatchingSettings], MATCHINGS] = MaxIoUSettings()
    loss: LossSettings = LossSettings()
    optimizer: training.OptimizerSettings = training.OptimizerSettings()
    schedule: training.ScheduleSettings = training.ScheduleSettings()
    train: training.TrainSettings = training.TrainSettings()
    evaluation: training.EvaluationSettings = training.EvaluationSettings()
    postprocess: network.PostprocessSettings = network.PostprocessSettings()

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
        one_of = next((data for data in field.metadata if isinstance(data, OneOf)), None)
        if one_of is not None:
            yield path, one_of
            yield from _alternatives(one_of.base, path)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _alternatives(field.annotation, path)


ALTERNATIVES = dict(_alternatives(Config))  # the key paths of which there are several kinds
