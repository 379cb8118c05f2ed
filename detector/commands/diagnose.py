"""What a trained network does on its validation set, and why its AP is what it is.

`diagnose` leaves detections.json, as tools/evaluate.py does, and diagnostics.json. Shares and AP
are fractions; AP is -1 for a class without boxes; whatever else is undefined is null. In it:

    checkpoint, images, AP, AP50
    anchors             foreground and background, how many the matcher made of all images' anchors
    loss_distribution   own (the run's loss without its sampler), gamma=0, gamma=0.5, gamma=1 and
                        gamma=2 (alpha null) on the same logits; each has foreground and background:
                        null without a loss (background that is not trained), or
        anchors, loss   the focal paper's Figure 4: the share of the loss that so large a share of
                        the anchors holds, sorted from easy to hard
        total           the sum of the loss over these anchors
        hardest         share of the anchors -> share of the loss that the hardest of them hold
    score_histogram     edges of 50 equal bins; foreground anchors by the score of their true class,
                        background anchors by their highest score
    calibration         null with too few detections; else of the half of the images on which
                        nothing was fitted, at this iou, in 20 bins with bins_edges
        before          d_ece, detections, and bins of count, mean score and precision
        temperature     the same after temperature scaling, and its temperature, 0.01 .. 100
        platt           the same after Platt scaling, and its slope, 0.01 .. 100, and intercept
    errors              AP50, and how much it gains where one kind of error alone is mended
    classes             name, training_boxes (null where the training set cannot be read) and AP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector import build
from detector.anchors.class_code import ClassCode
from detector.commands.evaluate import Trained
from detector.engine.restore import check_classes
from detector.errors import InputError
from detector.evaluation import calibration as scaling
from detector.evaluation.coco import CocoResult
from detector.evaluation.errors import error_split
from detector.evaluation.predict import Evaluator, coco_json, coco_rows
from detector.files import new_directory, write_json
from detector.lab import distribution, histogram
from detector.lab.matches import match
from detector.loss.detection import DetectionLoss
from detector.loss.elementwise import ElementwiseLoss
from detector.loss.focal import Focal
from detector.structures import Outputs, Targets

GAMMAS = (0.0, 0.5, 1.0, 2.0)


class AnchorSums:
    """What is kept of the anchors of the images seen so far; it does not grow with them."""

    def __init__(self, criterion: DetectionLoss, code: ClassCode, on: torch.device) -> None:
        self.criterion = criterion
        self.code = code
        self.leaves: dict[str, ElementwiseLoss] = {"own": criterion.classification.elementwise}
        self.leaves.update({f"gamma={gamma:g}": Focal(alpha=None, gamma=gamma) for gamma in GAMMAS})
        self.counts = torch.zeros(2, dtype=torch.int64, device=on)  # foreground, background
        self.scores = torch.zeros(2, histogram.BINS, dtype=torch.int64, device=on)
        self.losses = {  # each as of `distribution.tally_by_part`
            name: torch.zeros(2, 2, distribution.BINS, dtype=torch.float64, device=on)
            for name in self.leaves
        }

    def add(self, outputs: Outputs, targets: Targets) -> None:
        """The anchors of a batch."""
        logits = outputs.class_logits
        self.counts += torch.stack([targets.foreground.sum(), targets.background.sum()])
        self.scores += histogram.score_histograms(logits, targets, code=self.code)
        for name, elementwise in self.leaves.items():
            fits = None
            if elementwise.reads_quality:
                fits = self.criterion.box.quality(outputs.box_deltas, targets)
            self.losses[name] += distribution.tally_by_part(
                logits, targets, fits, code=self.code, elementwise=elementwise
            )

    def content(self) -> dict[str, Any]:
        """Their part of diagnostics.json."""
        return {
            "anchors": _parts(self.counts.tolist()),
            "loss_distribution": {
                name: _parts([_curve(part) for part in tallies])
                for name, tallies in self.losses.items()
            },
            "score_histogram": {"edges": histogram.EDGES.tolist(), **_parts(self.scores.tolist())},
        }


def _parts(both: list[Any]) -> dict[str, Any]:
    return dict(zip(("foreground", "background"), both, strict=True))


def _curve(tally: Tensor) -> dict[str, Any] | None:
    found = distribution.shares(tally)
    return None if found is None else asdict(found)


def diagnose(trained: Trained, output: Path) -> dict[str, Any]:
    """The content of diagnostics.json, which is left in `output` with detections.json."""
    examine = trained.evaluator(trained.validation())
    with new_directory(output) as draft:
        rows, anchors = look(trained, examine)
        result = examine.metrics(rows)
        content = {
            "checkpoint": str(trained.weights),
            "images": result.images,
            **{key: result.summary[key] for key in ("AP", "AP50")},
            **anchors.content(),
            "calibration": calibration(rows, examine),
            "errors": errors(rows, examine),
            "classes": classes(trained, result),
        }
        write_json(draft / "detections.json", coco_json(rows))
        write_json(draft / "diagnostics.json", content)
    return content


@torch.inference_mode()
def look(trained: Trained, examine: Evaluator) -> tuple[NDArray[np.float64], AnchorSums]:
    """One pass over the images: detections (D, 7), as of `coco_rows`, and what anchors gave."""
    anchors = AnchorSums(trained.criterion, trained.code, trained.device)
    rows = [np.zeros((0, 7))]
    for batch in examine.loader:
        batch = batch.to(trained.device)
        outputs, found = examine.predictor(trained.net, batch)
        rows.append(coco_rows(found, batch.image_ids, examine.category_ids))
        height, width = batch.images.shape[-2:]
        boxes = examine.predictor.anchor_generator(height, width, batch.images.device)
        anchors.add(outputs, examine.matcher(boxes, batch))
    return np.concatenate(rows), anchors


def calibration(rows: NDArray[np.float64], examine: Evaluator) -> dict[str, Any] | None:
    """Of the detections (D, 7) that are right or wrong at IoU 0.5."""
    matches = match(rows, examine.ground_truth, examine.image_ids)
    counts = ~matches.ignored[0]
    found = scaling.calibrate(
        matches.scores[counts],
        matches.hit[0, counts],
        matches.images[counts],
        num_images=len(matches.image_ids),
    )
    if found is None:
        return None
    platt = {"slope": found.slope, "intercept": found.intercept}
    return {
        "iou": 0.5,
        "bins_edges": np.linspace(0, 1, scaling.BINS + 1).tolist(),
        "before": asdict(found.before),
        "temperature": {**asdict(found.by_temperature), "temperature": found.temperature},
        "platt": {**asdict(found.by_platt), **platt},
    }


def errors(rows: NDArray[np.float64], examine: Evaluator) -> dict[str, float | None]:
    """AP50 and what each kind of error costs of it."""
    found = error_split(rows, examine.ground_truth, examine.image_ids)
    return {"AP50": found.ap50, **found.gains}


def classes(trained: Trained, result: CocoResult) -> list[dict[str, Any]]:
    """AP beside the number of boxes that each class was trained on."""
    counts: Sequence[int | None] = training_boxes(trained) or [None] * len(result.per_class)
    return [
        {"name": name, "training_boxes": count, "AP": ap}
        for (name, ap), count in zip(result.per_class.items(), counts, strict=True)
    ]


def training_boxes(trained: Trained) -> list[int] | None:
    """How many boxes of each class the training set holds, crowds not counted.

    None where it is gone or no longer what was trained on: that is no reason not to look at the
    validation set.
    """
    try:
        index = build.data_index(trained.config, "train")
        check_classes(trained.classes, index)
    except InputError:
        return None
    counts: list[int] = index.boxes_per_class.tolist()
    return counts


def table(content: Mapping[str, Any]) -> str:
    """The main figures as lines of text; `-` where undefined."""
    lines = [f"AP {_figure(content['AP'])}   AP50 {_figure(content['AP50'])}   "
             f"{content['images']} images"]  # fmt: skip
    lines += ["", *_distribution_lines(content), "", *_calibration_lines(content["calibration"])]
    lines += ["", "AP50 gained without errors of one kind"]
    lines += [f"{kind:<15} {_figure(gain)}" for kind, gain in content["errors"].items()
              if kind != "AP50"]  # fmt: skip
    width = max(len("class"), *(len(entry["name"]) for entry in content["classes"]))
    lines += ["", f"{'class':<{width}}      AP    training boxes"]
    lines += [
        f"{entry['name']:<{width}}  {_figure(entry['AP'])}  {_count(entry['training_boxes']):>10}"
        for entry in content["classes"]
    ]
    if any(entry["training_boxes"] is None for entry in content["classes"]):
        lines.append("-: the training set of the run's config cannot be read")
    return "\n".join(lines)


def _distribution_lines(content: Mapping[str, Any]) -> list[str]:
    lines = [f"{'share of the loss':<20} {'of hardest 0.1 %':>18} {'1 %':>6} {'10 %':>6}"]
    for name, parts in content["loss_distribution"].items():
        for part, curve in parts.items():
            held = [None] * 3 if curve is None else list(curve["hardest"].values())
            figures = " ".join(_figure(share) for share in held)
            lines.append(f"{name:<9} {part:<10} {'':>12}{figures}")
    counts = content["anchors"]
    return [*lines, f"{counts['foreground']} foreground and {counts['background']} background"]


def _calibration_lines(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return ["D-ECE: too few detections"]
    before, temperature, platt = (found[key] for key in ("before", "temperature", "platt"))
    return [
        f"D-ECE         {_figure(before['d_ece'])}  on half of the images; fitted on the other:",
        f"  temperature {_figure(temperature['d_ece'])}  T {temperature['temperature']:.3g}",
        f"  Platt       {_figure(platt['d_ece'])}  slope {platt['slope']:.3g}, "
        f"intercept {platt['intercept']:.3g}",
    ]


def _figure(value: float | None) -> str:
    return "     -" if value is None or value == -1 else f"{value:6.3f}"


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)
