"""What a benchmark measures, and on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from detector import build
from detector.config import Config

PRESETS = ("cross_entropy", "background_cross_entropy", "focal")  # files of configs/losses
Figures = dict[str, Any]  # as they are written to JSON


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Sizes of the made-up data."""

    rounds: int  # of each measurement; a ratio is made within each
    anchors: int  # an image, of the sections loss and matching
    boxes: int  # an image, of the section matching
    classes: int  # of the sections loss, step and parts
    images: int  # of the sections loader and evaluation
    annotated: int  # images of the section index


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A config and its variations, a device, and the sizes of the made-up data."""

    config: Config
    presets: Mapping[str, Config]  # the config under each of PRESETS
    published: Config  # configs/torchvision_v1.yaml with the config's sizes and precision
    on: torch.device
    sides: tuple[str, ...]  # of the section step
    counts: Counts

    @staticmethod
    def read(
        file: Path, overrides: Sequence[str], configs: Path, *, sides: Sequence[str], counts: Counts
    ) -> Setup:
        """From a config file and the project's folder `configs`; InputError as load_config."""
        config = build.load_config(file, overrides)
        presets = {
            name: _with_loss_of(config, build.load_config(configs / "losses" / f"{name}.yaml"))
            for name in PRESETS
        }
        published = _with_sizes_of(config, build.load_config(configs / "torchvision_v1.yaml"))
        return Setup(
            config=config,
            presets=presets,
            published=published,
            on=build.device(config),
            sides=tuple(sides),
            counts=counts,
        )

    @property
    def precision(self) -> torch.dtype:
        """In which convolutions run, and of the logits."""
        return build.precision(self.config, self.on)

    def describe(self) -> Figures:
        """For the file."""
        on_gpu = self.on.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(self.on) if on_gpu else "cpu",
            "precision": str(self.precision).removeprefix("torch."),
            **{field.name: getattr(self.counts, field.name) for field in fields(Counts)},
        }


def _with_loss_of(config: Config, other: Config) -> Config:
    loss = config.loss.model_copy(update={"classification": other.loss.classification})
    return config.model_copy(update={"loss": loss})


def _with_sizes_of(config: Config, published: Config) -> Config:
    data = published.data.model_copy(update={"resize": config.data.resize})
    same = {"data": data, "train": config.train, "evaluation": config.evaluation}
    return published.model_copy(update=same)
