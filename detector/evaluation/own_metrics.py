"""Metrics of a user's own: functions that a config names under `evaluation.metrics`.

    def mean_boxes(detections, ground_truth):
        return len(detections) / len(ground_truth["images"])

detections: float64 (D, 7): image id, x, y, width, height, score, category id, in pixels of the
    image files, those that post-processing keeps.
ground_truth: a dict as of a COCO file with the evaluated images alone: `images` (id, perhaps
    file_name), `categories` (id, name), `annotations` (id, image_id, category_id, bbox, area,
    iscrowd; crowds included).

It returns a number, the figure `mean_boxes`, or a dict of numbers, figures `mean_boxes/KEY`. Both
arguments are copies. NaN and infinity are written as null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from detector.errors import InputError
from detector.imported import calling, imported, line_of, name_of

OwnMetric = Callable[[np.ndarray, dict[str, Any]], Any]


def own_metrics(names: Sequence[str]) -> dict[str, OwnMetric]:
    """The functions of names like "module:function", by the name of their figure, `function`.

    Raises ValueError for one that cannot be imported, or that is no function.
    """
    metrics: dict[str, OwnMetric] = {}
    for name in names:
        function = imported(name)
        if not callable(function):
            raise ValueError(
                f"found {name!r}, it should be a function of detections and ground truth"
            )
        metrics[name.partition(":")[2]] = function
    return metrics


def own_figures(
    metrics: Mapping[str, OwnMetric],
    detections: np.ndarray,
    ground_truth: dict[str, Any],
    image_ids: Sequence[int],
) -> dict[str, float]:
    """All figures of the functions on these images, by name.

    detections (D, 7), ground_truth: as of `evaluation.coco.evaluate`. Raises InputError, with file
    and line, for a function that fails, and for one that returns something else than numbers.
    """
    figures: dict[str, float] = {}
    counted = detections[np.isin(detections[:, 0], image_ids)]
    for name, function in metrics.items():
        with calling(function, "evaluation.metrics"):
            result = function(counted.copy(), _of_images(ground_truth, image_ids))
        figures |= _named(name, function, result)
    return figures


def _of_images(ground_truth: dict[str, Any], image_ids: Sequence[int]) -> dict[str, Any]:
    """A copy, for the function may change it, with these images alone."""
    chosen = set(image_ids)
    return {
        "images": [dict(image) for image in ground_truth["images"] if image["id"] in chosen],
        "categories": [dict(category) for category in ground_truth["categories"]],
        "annotations": [
            dict(annotation)
            for annotation in ground_truth["annotations"]
            if annotation["image_id"] in chosen
        ],
    }


def _named(name: str, function: OwnMetric, result: object) -> dict[str, float]:
    if isinstance(result, Real):
        return {name: float(result)}
    if isinstance(result, Mapping) and all(
        isinstance(key, str) and key and isinstance(value, Real) for key, value in result.items()
    ):
        return {f"{name}/{key}": float(value) for key, value in result.items()}
    what = f"{type(result).__name__} {result!r}"
    raise InputError(
        f"evaluation.metrics: {name_of(function)} returned "
        f"{what if len(what) < 80 else what[:77] + '...'}, it should be a number, or a dict of "
        f"numbers by name ({line_of(function)})."
    )
