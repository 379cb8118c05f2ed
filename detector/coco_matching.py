"""COCO's matching of detections to ground-truth boxes, per image and class, by hotcoco."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())  # IoU thresholds of COCO's AP
ALL_AREAS = (0.0, 1e10)  # COCO's range "all", in square pixels
PER_IMAGE = 100  # detections that COCO counts of each class in an image


def matched(
    detections: NDArray[np.float64],
    ground_truth: dict[str, Any],
    *,
    image_ids: list[int],
    category_ids: list[int],
    thresholds: Sequence[float],
    per_image: int = PER_IMAGE,
) -> list[dict[str, Any]]:
    """For each image and class with a detection or a box, an entry of pycocotools' `evalImgs`.

    `detections` is float64 (D, 7): image id, x, y, width, height, score, category id; the ids must
    be in `ground_truth`. Boxes of all areas count, of the images in `image_ids`, which must not be
    empty; and of the detections of a class in an image the best `per_image`.
    """
    evaluation = hotcoco_evaluation(
        detections, ground_truth, image_ids=image_ids, category_ids=category_ids
    )
    evaluation.params.iouThrs = list(thresholds)
    evaluation.params.areaRng = [list(ALL_AREAS)]
    evaluation.params.areaRngLbl = ["all"]
    evaluation.params.maxDets = [per_image]
    evaluation.evaluate()
    images, categories = _ids(ground_truth["images"]), _ids(ground_truth["categories"])
    return [
        {
            **entry,
            "image_id": int(images[entry["image_id"]]),
            "category_id": int(categories[entry["category_id"]]),
        }
        for entry in evaluation.eval_imgs
        if entry is not None
    ]


def hotcoco_evaluation(
    detections: NDArray[np.float64],
    ground_truth: dict[str, Any],
    *,
    image_ids: list[int],
    category_ids: list[int],
) -> Any:
    """hotcoco's COCOeval for boxes, not yet run; arguments as for `matched`.

    hotcoco refuses negative ids, which COCO files may have. So its ids of images and categories are
    0, 1, … in ascending order of the original ids.
    """
    import hotcoco

    if not image_ids:  # hotcoco would take no image for every image
        raise ValueError("image_ids names no image; expected at least one of the ground truth.")
    images, categories = _ids(ground_truth["images"]), _ids(ground_truth["categories"])
    annotations = ground_truth["annotations"]
    owners = np.searchsorted(images, [entry["image_id"] for entry in annotations]).tolist()
    labels = np.searchsorted(categories, [entry["category_id"] for entry in annotations]).tolist()
    truth = hotcoco.COCO(
        {
            "images": [{"id": index} for index in range(len(images))],
            "categories": [{"id": index, "name": str(index)} for index in range(len(categories))],
            "annotations": [
                {**entry, "image_id": owner, "category_id": label}
                for entry, owner, label in zip(annotations, owners, labels, strict=True)
            ],
        }
    )
    rows = detections.copy()
    rows[:, 0] = np.searchsorted(images, rows[:, 0])
    rows[:, 6] = np.searchsorted(categories, rows[:, 6])
    evaluation = hotcoco.COCOeval(truth, truth.loadRes(rows), "bbox")
    evaluation.params.imgIds = np.searchsorted(images, image_ids).tolist()
    evaluation.params.catIds = np.searchsorted(categories, category_ids).tolist()
    return evaluation


def _ids(entries: list[dict[str, Any]]) -> NDArray[np.int64]:
    """The ids of the entries, ascending."""
    return np.unique(np.array([entry["id"] for entry in entries], np.int64))
