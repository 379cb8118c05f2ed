"""What diagnostics.json says of detections, whoever made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.coco_matching import matched
from detector.evaluation import calibration
from detector.evaluation.coco import CocoResult
from detector.evaluation.errors import error_split
from detector.evaluation.froc import froc
from detector.evaluation.lrp import mean_lrp, optimal_lrp
from detector.lab.matches import match
from detector.report.diagnostics import (
    CalibrationReport,
    ClassDiagnosis,
    Diagnostics,
    PlattScaled,
    TemperatureScaled,
)


@dataclass(frozen=True, eq=False)
class Detected:
    """Detections, each float64 (D, 7) as of `coco_rows`, and what they are measured against."""

    rows: NDArray[np.float64]  # as they are evaluated
    uncut: NDArray[np.float64]  # the same and those of lower scores
    per_image: int  # how many of these an image could have
    ground_truth: dict[str, Any]
    image_ids: Sequence[int]


def detection_figures(
    detected: Detected, result: CocoResult, boxes_of_class: Sequence[int | None], *, source: str
) -> Diagnostics:
    """All but what needs the model; curve and LRP error are those of the uncut detections.

    Args:
        result: COCO's metrics of `detected.rows`.
        boxes_of_class: for training, in the order of `result.per_class`; None where not known.
        source: the checkpoint or file that the detections come from.
    """
    truth, image_ids = detected.ground_truth, detected.image_ids
    category_ids = [category["id"] for category in truth["categories"]]
    entries = matched(
        detected.uncut,
        truth,
        image_ids=sorted(set(image_ids)),
        category_ids=sorted(category_ids),
        thresholds=[0.5],
        per_image=detected.per_image,
    )
    lrp = optimal_lrp(entries, detected.uncut, truth)
    split = error_split(detected.rows, truth, image_ids)
    of_classes = zip(category_ids, result.per_class.items(), boxes_of_class, strict=True)
    return Diagnostics(
        checkpoint=source,
        images=result.images,
        AP=result.summary["AP"],
        AP50=result.summary["AP50"],
        AP75=result.summary["AP75"],
        AR100=result.summary["AR100"],
        lrp=mean_lrp(lrp.values()),
        froc=froc(entries, detected.uncut, images=result.images, per_image=detected.per_image),
        calibration=calibration_report(detected),
        errors={"AP50": split.ap50, **split.gains},
        classes=[
            ClassDiagnosis(name, boxes, ap, lrp.get(category))
            for category, (name, ap), boxes in of_classes
        ],
    )


def calibration_report(detected: Detected) -> CalibrationReport | None:
    """Of the detections that are right or wrong at IoU 0.5; None with too few of them."""
    matches = match(detected.rows, detected.ground_truth, detected.image_ids)
    counts = ~matches.ignored[0]
    fitted = calibration.calibrate(
        matches.scores[counts],
        matches.hit[0, counts],
        matches.images[counts],
        num_images=len(matches.image_ids),
    )
    if fitted is None:
        return None
    temperature, platt = vars(fitted.by_temperature), vars(fitted.by_platt)
    return CalibrationReport(
        iou=0.5,
        bins_edges=np.linspace(0, 1, calibration.BINS + 1).tolist(),
        before=fitted.before,
        temperature=TemperatureScaled(**temperature, temperature=fitted.temperature),
        platt=PlattScaled(**platt, slope=fitted.slope, intercept=fitted.intercept),
    )
