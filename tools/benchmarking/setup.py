"""What a benchmark measures, and on what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from detector import build
from detector.config import Config

CONFIGS = Path(__file__).parents[2] / "configs"
PRESETS = ("cross_entropy", "background_cross_entropy", "focal")  # files of configs/losses


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A config, a device, and the sizes of the made-up data."""

    config: Config
    on: torch.device
    sides: tuple[str, ...]  # of the section step
    rounds: int  # of each measurement; a ratio is made within each
    anchors: int  # an image, of the sections loss and matching
    boxes: int  # an image, of the section matching
    classes: int  # of the sections loss, step and parts
    images: int  # of the sections loader and evaluation
    annotated: int  # images of the section index

    @property
    def precision(self) -> torch.dtype:
        """In which convolutions run, and of the logits."""
        return build.precision(self.config, self.on)

    def preset(self, name: str) -> Config:
        """The config under one of PRESETS."""
        other = build.load_config(CONFIGS / "losses" / f"{name}.yaml")
        return changed(self.config, "loss", classification=other.loss.classification)


def changed(config: Config, section: str, **values: Any) -> Config:
    """The config with other values in one of its sections."""
    own = getattr(config, section).model_copy(update=values)
    return config.model_copy(update={section: own})
