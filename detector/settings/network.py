"""What is predicted where: model, anchors, their match with boxes, and the output."""

from __future__ import annotations

from typing import Annotated

from pydantic import model_validator

from detector.settings.section import (
    Count,
    Fraction,
    NotEmpty,
    Pair,
    Positive,
    Section,
    item,
)


class AnchorsSettings(Section):
    sizes: Annotated[tuple[Positive, ...], NotEmpty] = item(
        (32.0, 64.0, 128.0, 256.0, 512.0), "one a level, P3 to P7: square root of area in pixels"
    )
    scales: Annotated[tuple[Positive, ...], NotEmpty] = item(
        (1.0, 1.26, 1.587), "factors of the size at every position"
    )
    ratios: Annotated[tuple[Positive, ...], NotEmpty] = item((0.5, 1.0, 2.0), "height / width")
    offset: Fraction = item(0.5, "centre of the first anchor in strides; 0.5: middle of its cell")
    cells: Annotated[tuple[tuple[Pair, ...], ...], NotEmpty] | None = item(
        None, "explicit [[[w, h], ...], ...] a level; then sizes, scales and ratios are unused"
    )

    @model_validator(mode="after")
    def _check(self) -> AnchorsSettings:
        counts = [len(level) for level in self.cells or ()]
        if counts and (min(counts) == 0 or min(counts) != max(counts)):
            raise ValueError(f"cells has {counts} a level, it should be equally many, at least 1")
        return self


class PostprocessSettings(Section):
    score: Fraction = item(0.05, "detections at or below are dropped")
    per_level: Count = item(1000, "best anchors kept a level before NMS")
    nms: Fraction = item(0.5, "IoU above which the lower of two detections of a class is dropped")
    per_image: Count = item(100, "detections kept an image")
