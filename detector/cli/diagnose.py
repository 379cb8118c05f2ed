"""Why a run's AP is what it is: where its loss lies, calibration, kinds of error, classes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detector import build
from detector.anchors.class_code import ClassCode
from detector.cli.evaluate import checkpoint_and_output
from detector.command_line import add_set, program
from detector.engine.restore import check_classes
from detector.errors import InputError
from detector.evaluation import calibration
from detector.evaluation.errors import error_split
from detector.evaluation.predict import Evaluator, coco_json, coco_rows
from detector.files import new_directory, write_json
from detector.lab import distribution
from detector.lab.distribution import Shares
from detector.lab.matches import match
from detector.loss.detection import DetectionLoss
from detector.loss.elementwise import ElementwiseLoss
from detector.loss.focal import Focal
from detector.report.diagnostics import (
    ERRORS,
    CalibrationReport,
    ClassAP,
    Diagnostics,
    Histogram,
    PlattScaled,
    TemperatureScaled,
)
from detector.structures import Outputs, Targets
from detector.trained import Trained

FOCAL_GAMMAS = (0.0, 0.5, 1.0, 2.0)
KINDS = ("foreground", "background")  # of anchors


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the words after the command's name; None: those of this process."""
    parser = argparse.ArgumentParser(prog=program("diagnose"), description=__doc__)
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="run directory of `train`"
    )
    parser.add_argument(
        "--checkpoint", default="best", metavar="NAME", help="best (the default), last, or a file"
    )
    add_set(parser, "change keys of the run's config, e.g. data.val.images=DIR")
    parser.add_argument(
        "--output", type=Path, metavar="DIR",
        help="gets diagnostics.json and detections.json (RUN/diagnosis/CHECKPOINT)",
    )  # fmt: skip
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Diagnose and print; the exit code."""
    trained, output = checkpoint_and_output(arguments(argv), "diagnosing", "diagnosis")
    print(diagnostics_table(diagnose(trained, output)))
    return 0


class AnchorSums:
    """Sums over the anchors of the images seen so far; their size does not grow with the images."""

    def __init__(self, criterion: DetectionLoss, code: ClassCode, on: torch.device) -> None:
        self.criterion = criterion
        self.code = code
        self.elementwise: dict[str, ElementwiseLoss] = {
            "own": criterion.classification.elementwise,
            **{f"gamma={gamma:g}": Focal(alpha=None, gamma=gamma) for gamma in FOCAL_GAMMAS},
        }
        self.counts = torch.zeros(2, dtype=torch.int64, device=on)  # foreground, background
        self.scores = torch.zeros(2, distribution.SCORE_BINS, dtype=torch.int64, device=on)
        self.losses = {  # each as of `distribution.tally_by_part`
            name: torch.zeros(2, 2, distribution.LOSS_BINS, dtype=torch.float64, device=on)
            for name in self.elementwise
        }

    def add(self, outputs: Outputs, targets: Targets) -> None:
        """The anchors of a batch."""
        logits = outputs.class_logits
        self.counts += torch.stack([targets.foreground.sum(), targets.background.sum()])
        self.scores += distribution.score_histograms(logits, targets, code=self.code)
        for name, elementwise in self.elementwise.items():
            quality = None
            if elementwise.reads_quality:
                quality = self.criterion.box.quality(outputs.box_deltas, targets)
            self.losses[name] += distribution.tally_by_part(
                logits, targets, quality, code=self.code, elementwise=elementwise
            )

    def distribution(self) -> dict[str, dict[str, Shares | None]]:
        """The loss distributions of foreground and background anchors, by loss."""
        return {
            name: dict(zip(KINDS, map(distribution.shares, tallies), strict=True))
            for name, tallies in self.losses.items()
        }


def diagnose(trained: Trained, output: Path) -> Diagnostics:
    """The content of diagnostics.json, which is left in `output` with detections.json."""
    examine = trained.evaluator(trained.validation())
    with new_directory(output) as draft:
        rows, anchors = predict_and_tally(trained, examine)
        result = examine.metrics(rows)
        split = error_split(rows, examine.ground_truth, examine.image_ids)
        boxes_of_class: Sequence[int | None]
        boxes_of_class = training_boxes(trained) or [None] * len(result.per_class)
        content = Diagnostics(
            checkpoint=str(trained.weights),
            images=result.images,
            AP=result.summary["AP"],
            AP50=result.summary["AP50"],
            anchors=dict(zip(KINDS, anchors.counts.tolist(), strict=True)),
            loss_distribution=anchors.distribution(),
            score_histogram=Histogram(distribution.SCORE_EDGES.tolist(), *anchors.scores.tolist()),
            calibration=calibration_report(rows, examine),
            errors={"AP50": split.ap50, **split.gains},
            classes=[
                ClassAP(name, boxes, ap)
                for (name, ap), boxes in zip(result.per_class.items(), boxes_of_class, strict=True)
            ],
        )
        write_json(draft / "detections.json", coco_json(rows))
        write_json(draft / "diagnostics.json", asdict(content))
    return content


@torch.inference_mode()
def predict_and_tally(
    trained: Trained, examine: Evaluator
) -> tuple[NDArray[np.float64], AnchorSums]:
    """One pass over the images: detections (D, 7), as of `coco_rows`, and sums over the anchors."""
    anchors = AnchorSums(trained.criterion, trained.code, trained.device)
    rows = [np.zeros((0, 7))]
    for batch in examine.loader:
        batch = batch.to(trained.device)
        outputs, detections = examine.predictor(trained.net, batch)
        rows.append(coco_rows(detections, batch.image_ids, examine.category_ids))
        height, width = batch.images.shape[-2:]
        boxes = examine.predictor.anchor_generator(height, width, batch.images.device)
        anchors.add(outputs, examine.matcher(boxes, batch))
    return np.concatenate(rows), anchors


def calibration_report(rows: NDArray[np.float64], examine: Evaluator) -> CalibrationReport | None:
    """Of the detections (D, 7) that are right or wrong at IoU 0.5; None with too few of them."""
    matches = match(rows, examine.ground_truth, examine.image_ids)
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
    return [int(count) for count in index.boxes_per_class]


def diagnostics_table(content: Diagnostics) -> str:
    """The main figures as lines of text; `-` where undefined."""
    ap, ap50 = _fixed(content.AP), _fixed(content.AP50)
    lines = [f"AP {ap}   AP50 {ap50}   {content.images} images", ""]
    lines += [*_distribution_lines(content), "", *_calibration_lines(content.calibration)]
    lines += ["", "AP50 gained without errors of one kind"]
    lines += [f"{kind:<15} {_fixed(content.errors[kind])}" for kind in ERRORS]
    width = max(len("class"), *(len(entry.name) for entry in content.classes))
    lines += ["", f"{'class':<{width}}      AP    training boxes"]
    for entry in content.classes:
        boxes = "-" if entry.training_boxes is None else entry.training_boxes
        lines.append(f"{entry.name:<{width}}  {_fixed(entry.AP)}  {boxes:>10}")
    if any(entry.training_boxes is None for entry in content.classes):
        lines.append("-: the training set of the run's config cannot be read")
    return "\n".join(lines)


def _distribution_lines(content: Diagnostics) -> list[str]:
    lines = [f"{'share of the loss':<20} {'of hardest 0.1 %':>18} {'1 %':>6} {'10 %':>6}"]
    for name, kinds in content.loss_distribution.items():
        for kind, curve in kinds.items():
            shares = [None] * 3 if curve is None else curve.hardest.values()
            lines.append(f"{name:<9} {kind:<10} {'':>12}{' '.join(map(_fixed, shares))}")
    counts = content.anchors
    return [*lines, f"{counts['foreground']} foreground and {counts['background']} background"]


def _calibration_lines(report: CalibrationReport | None) -> list[str]:
    if report is None:
        return ["D-ECE: too few detections"]
    before, temperature, platt = report.before, report.temperature, report.platt
    return [
        f"D-ECE         {_fixed(before.d_ece)}  on half of the images; fitted on the other:",
        f"  temperature {_fixed(temperature.d_ece)}  T {temperature.temperature:.3g}",
        f"  Platt       {_fixed(platt.d_ece)}  slope {platt.slope:.3g}, "
        f"intercept {platt.intercept:.3g}",
    ]


def _fixed(value: float | None) -> str:
    return "     -" if value is None or value == -1 else f"{value:6.3f}"
