"""An ablation: variants of one config, each trained from several seeds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, model_validator

from detector.settings.figures import LOSSES, is_coco_figure
from detector.settings.section import (
    Count,
    FilePath,
    NotEmpty,
    Positive,
    Proper,
    Section,
    Whole,
    item,
)

# keys by which each of them is another measure, beside those of the validation set
MEASURED_BY = {
    "loss": ("loss.", "matching.", "anchors."),
    "loss/classification": ("loss.classification.", "matching.", "anchors."),
    "loss/box": ("loss.box.", "matching.", "anchors."),
}


def changing_measure(metric: str, keys: Iterable[str]) -> list[str]:
    """Those, sorted, by which configs that differ have a metric of one name for two things."""
    starts = ("data.val.", "data.folds", "data.tuning", *MEASURED_BY.get(metric, ()))
    return sorted(key for key in keys if key.startswith(starts))


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"found {list(seeds)}, each should occur once")
    return seeds


def _contrast(value: Any) -> ContrastNames:
    match value:
        case [str(), str()]:
            return ((value[0], value[1]),)
        case [[str(), str()], [str(), str()]]:
            return tuple((first, second) for first, second in value)
    raise ValueError(
        f"found {json.dumps(value)}, it should be [a, b], for a less b, or [[a, b], [c, d]], for "
        "a less b, less the difference of c and d"
    )


ContrastNames = tuple[tuple[str, str], ...]  # one pair, or the two of an interaction
Contrasts = Annotated[tuple[Annotated[Any, AfterValidator(_contrast)], ...], NotEmpty]
Seeds = Annotated[tuple[Whole, ...], NotEmpty, AfterValidator(_distinct)]
Values = Annotated[tuple[Any, ...], NotEmpty]
Files = Annotated[tuple[FilePath, ...], NotEmpty]


class Published(Section):
    """A figure to compare with."""

    value: float = item(..., "of the metric, as a fraction")
    source: str = item(..., "paper, table, row")


class VariantSettings(Section):
    """What one variant changes, and why it is there."""

    question: str = item("", "what this variant is to answer")
    set: tuple[str, ...] = item((), "changes of the config, each as key=value")
    published: Published | None = item(None, "what a paper found")
    tune: dict[str, Values] = item(
        {}, "keys and their values; the best combination makes one more variant, NAME_tuned"
    )


class Ablation(Section):
    """Every variant is trained from every seed."""

    config: Path = item(..., "the config that all variants change, relative to this file")
    set: tuple[str, ...] = item(
        (), "changes that all variants share, each as key=value; {seed} in a value is the run's"
    )
    seeds: Seeds = item((0, 1, 2), "train.seed of the runs")
    metric: str = item("AP", "the validation figure that is compared")  # Plan checks the name
    metrics: tuple[str, ...] = item((), "more figures to show beside it, which are not tested")
    baseline: str | None = item(
        None, "the variant that the others are compared with; null, with contrasts: the first"
    )
    contrasts: Contrasts | None = item(
        None,
        "what is tested, each as [a, b]: a - b, or [[a, b], [c, d]]: (a - b) - (c - d); null: each "
        "variant less the baseline and, if the baseline is tuned, each tuned one less the tuned "
        "baseline",
    )
    margin: Positive | None = item(
        None, "differences of the metric below it count as none; null: equality is not tested"
    )
    variants: dict[str, VariantSettings] = item({}, "by name")
    grid: dict[str, Values] = item(
        {}, "keys and their values; every combination is a variant, named after its values"
    )
    tuning_seeds: Seeds = item((1000,), "train.seed of the trials; none of those of the runs")
    tuning_share: Proper | None = item(
        0.2, "of the training images, to choose among what is tuned; null: on data.val of {seed}"
    )
    external: dict[str, Files] = item(
        {}, "results of other detectors by name: COCO result files on data.val, one a seed"
    )
    gpus_per_run: Count = item(1, "that train each run together, started by torchrun")

    @model_validator(mode="after")
    def _check(self) -> Ablation:
        if not self.variants and not self.grid:
            raise ValueError("there are no variants; give some under variants or grid")
        if self.baseline is None and self.contrasts is None:
            raise ValueError(
                "baseline and contrasts are both null; name the variant that the others are "
                "compared with under baseline, or what is compared under contrasts"
            )
        tuned = any(variant.tune for variant in self.variants.values())
        if tuned and (both := sorted({*self.seeds} & {*self.tuning_seeds})):
            raise ValueError(
                f"tuning_seeds and seeds share {', '.join(map(str, both))}; a run that helped to "
                "choose the values cannot be reported: name other tuning_seeds"
            )
        losses = [name for name in (self.metric, *self.metrics) if name in LOSSES]
        if self.external and losses:
            key = "metric is" if self.metric in losses else "metrics name"
            raise ValueError(
                f"{key} {losses[0]}, which detections from elsewhere do not have; name "
                "an AP, or leave out external"
            )
        for name, files in self.external.items():
            if len(files) != len(self.seeds):
                raise ValueError(
                    f"external.{name} has {len(files)} files, and there are {len(self.seeds)} "
                    "seeds; name one file for each, in their order"
                )
            for file, count in Counter(files).items():
                if count > 1:
                    raise ValueError(
                        f"external.{name} names {file} {count} times; each seed needs detections "
                        "of a training of its own, or one counts as several"
                    )
        for name, variant in self.variants.items():
            value = variant.published.value if variant.published else 0.0
            if is_coco_figure(self.metric) and not 0 <= value <= 1:
                raise ValueError(
                    f"variants.{name}.published.value is {value}, and {self.metric} is a fraction "
                    f"from 0 to 1{f': {value / 100:g}?' if 1 < value <= 100 else ''}"
                )
        return self
