"""COCO's matching of detections and boxes, image by image and class by class: hotcoco's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())  # overlaps of COCO's AP
ALL_AREAS = (0.0, 1e10)
PER_IMAGE = 100  # detections of a class in an image


def matched(
    detections: NDArray[np.float64],
    ground_truth: dict[str, Any],
    *,
    image_ids: list[int],
    category_ids: list[int],
    thresholds: Sequence[float],
) -> list[dict[str, Any]]:
    """One entry for each image and class with a detection or a box, as pycocotools has them.

    `detections` is float64 (D, 7): image id, x, y, width, height, score, category id, all known to
    `ground_truth`. Areas of all sizes; others than those of `image_ids`, which is not empty, do not
    count.
    """
    import hotcoco

    assert image_ids, "hotcoco would take no image for every image"
    truth = hotcoco.COCO(ground_truth)
    evaluation = hotcoco.COCOeval(truth, truth.loadRes(detections), "bbox")
    evaluation.params.imgIds = image_ids
    evaluation.params.catIds = category_ids
    evaluation.params.iouThrs = list(thresholds)
    evaluation.params.areaRng = [list(ALL_AREAS)]
    evaluation.params.areaRngLbl = ["all"]
    evaluation.params.maxDets = [PER_IMAGE]
    evaluation.evaluate()
    return [entry for entry in evaluation.eval_imgs if entry is not None]
