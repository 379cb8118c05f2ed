"""An ablation: variants of one config, each trained from several seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import model_validator

from detector.settings.section import NotEmpty, Section, Whole, item


class Published(Section):
    """A figure to compare with."""

    value: float = item(..., "of the metric, as a fraction")
    source: str = item(..., "paper, table, row")


class VariantSettings(Section):
    """What one variant changes, and why it is there."""

    question: str = item("", "what this variant is to answer")
    set: tuple[str, ...] = item((), "changes of the config, each as key=value")
    published: Published | None = item(None, "what a paper found")


class Ablation(Section):
    """Every variant is trained from every seed."""

    config: Path = item(..., "the config that all variants change, relative to this file")
    set: tuple[str, ...] = item((), "changes that all variants share, each as key=value")
    seeds: Annotated[tuple[Whole, ...], NotEmpty] = item((0, 1, 2), "train.seed of the runs")
    metric: str = item("AP", "the validation figure that is compared")
    baseline: str = item(..., "the variant that the others are compared with")
    variants: dict[str, VariantSettings] = item({}, "by name")
    grid: dict[str, tuple[Any, ...]] = item(
        {}, "keys and their values; every combination is a variant, named after its values"
    )

    @model_validator(mode="after")
    def _check(self) -> Ablation:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds is {list(self.seeds)}, each should occur once")
        if not self.variants and not self.grid:
            raise ValueError("there are no variants; give some under variants or grid")
        return self
