"""One experiment: the sections of a config; their keys are in detector/settings and loss/."""

from __future__ import annotations

from pydantic import SerializeAsAny, model_validator

from detector import yaml_text
from detector.loss.elementwise import ElementwiseSettings
from detector.loss.focal import FocalSettings
from detector.settings import network, training
from detector.settings.data import DataSettings
from detector.settings.loss import BoxLossSettings
from detector.settings.section import Section


class LossSettings(Section):
    """Of the classification loss each kind has a class of its own; `config.load` puts it in."""

    classification: SerializeAsAny[ElementwiseSettings] = FocalSettings()
    box: BoxLossSettings = BoxLossSettings()


class Config(Section):
    """One experiment. Immutable; equal configs are equal objects."""

    data: DataSettings = DataSettings()
    model: network.ModelSettings = network.ModelSettings()
    anchors: network.AnchorsSettings = network.AnchorsSettings()
    matching: network.Matching = network.MaxIoUSettings()
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
