"""Why a detector's AP is what it is: where its loss lies, calibration, kinds of error, classes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detector import build
from detector.anchors.class_code import ClassCode
from detector.cli.detection_figures import Detected, detection_figures
from detector.cli.diagnostics_table import diagnostics_table
from detector.cli.evaluate import checkpoint_and_output
from detector.coco_matching import PER_IMAGE
from detector.command_line import add_set, program
from detector.engine.restore import check_classes
from detector.errors import InputError
from detector.evaluation.coco import evaluate
from detector.evaluation.coco_files import load_detections, load_ground_truth
from detector.evaluation.predict import Evaluator, coco_json, coco_rows
from detector.files import new_directory, write_json
from detector.lab import distribution
from detector.lab.distribution import Shares
from detector.loss.detection import DetectionLoss
from detector.loss.elementwise import ElementwiseLoss
from detector.loss.focal import Focal
from detector.report.diagnostics import (
    Diagnostics,
    Histogram,
)
from detector.structures import Outputs, Targets
from detector.trained import Trained

FOCAL_GAMMAS = (0.0, 0.5, 1.0, 2.0)
KINDS = ("foreground", "background")  # of anchors
UNCUT = 1000  # detections of an image, of any score, for the curve of recall and the LRP error


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the words after the command's name; None: those of this process."""
    parser = argparse.ArgumentParser(prog=program("diagnose"), description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, metavar="DIR", help="run directory of `train`")
    source.add_argument(
        "--detections", type=Path, metavar="FILE", help="COCO result file, of any framework"
    )
    parser.add_argument(
        "--checkpoint", metavar="NAME", help="of the run: best (the default), last, or a file"
    )
    parser.add_argument(
        "--ground-truth", type=Path, metavar="FILE", help="COCO annotations of the result file"
    )
    add_set(parser, "change keys of the run's config, e.g. data.val.images=DIR")
    parser.add_argument(
        "--output", type=Path, metavar="DIR",
        help="gets diagnostics.json, and of a run detections.json (RUN/diagnosis/CHECKPOINT)",
    )  # fmt: skip
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Diagnose and print; the exit code."""
    options = arguments(argv)
    if options.detections is None:
        if options.ground_truth:
            raise InputError(
                "--ground-truth goes with --detections; for a run use "
                "--set data.val.annotations=FILE."
            )
        content = diagnose(*checkpoint_and_output(options, "diagnosing", "diagnosis"))
    else:
        if options.checkpoint or options.set:
            raise InputError("--checkpoint and --set go with --run.")
        if options.ground_truth is None or options.output is None:
            raise InputError(
                "--detections needs --ground-truth, the COCO file to compare with, and --output."
            )
        content = diagnose_file(options.detections, options.ground_truth, options.output)
    print(diagnostics_table(content))
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
        detected, anchors = predict_and_tally(trained, examine)
        result = examine.metrics(detected.rows)
        boxes_of_class: Sequence[int | None]
        boxes_of_class = training_boxes(trained) or [None] * len(result.per_class)
        content = replace(
            detection_figures(detected, result, boxes_of_class, source=str(trained.weights)),
            anchors=dict(zip(KINDS, anchors.counts.tolist(), strict=True)),
            loss_distribution=anchors.distribution(),
            score_histogram=Histogram(distribution.SCORE_EDGES.tolist(), *anchors.scores.tolist()),
        )
        write_json(draft / "detections.json", coco_json(detected.rows))
        write_json(draft / "diagnostics.json", asdict(content))
    return content


def diagnose_file(detections: Path, ground_truth: Path, output: Path) -> Diagnostics:
    """The content of diagnostics.json, which is left in `output`, of a COCO result file.

    On all images of the ground truth. What needs the model is absent: the anchors, their losses
    and scores, and the numbers of training boxes. Where another framework has cut its detections,
    by a score or a number an image, the curve of recall ends there.
    """
    # an output that cannot be used is refused before anything is read
    with new_directory(output) as draft:
        truth = load_ground_truth(ground_truth)
        if not truth["images"]:
            raise InputError(f"{ground_truth}: it holds no images; expected at least one.")
        rows = load_detections(detections, truth)
        result = evaluate(rows, truth)
        image_ids = [image["id"] for image in truth["images"]]
        detected = Detected(rows, rows, most_in_an_image(rows), truth, image_ids)
        unknown = [None] * len(result.per_class)
        content = detection_figures(detected, result, unknown, source=str(detections))
        write_json(draft / "diagnostics.json", asdict(content))
    return content


def most_in_an_image(rows: NDArray[np.float64]) -> int:
    """How many detections of an image a result file may have been cut to.

    COCO's own limit of 100 or, where an image has more, the most that one has.
    """
    _, counts = np.unique(rows[:, 0], return_counts=True)
    return max(PER_IMAGE, int(counts.max(initial=0)))


@torch.inference_mode()
def predict_and_tally(trained: Trained, examine: Evaluator) -> tuple[Detected, AnchorSums]:
    """One pass over the images: detections, and sums over the anchors.

    The outputs of each batch are post-processed twice: as the config says, and with no score
    threshold and UNCUT detections an image. `postprocess.per_level` holds for both.
    """
    anchors = AnchorSums(trained.criterion, trained.code, trained.device)
    predictor = examine.predictor
    per_image = max(UNCUT, predictor.postprocess.per_image)
    lenient = replace(predictor.postprocess, score=0.0, per_image=per_image)
    uncut_predictor = replace(predictor, postprocess=lenient)
    rows, uncut = [np.zeros((0, 7))], [np.zeros((0, 7))]
    for batch in examine.loader:
        batch = batch.to(trained.device)
        outputs, detections = predictor(trained.net, batch)
        rows.append(coco_rows(detections, batch.image_ids, examine.category_ids))
        every = uncut_predictor.detections(outputs, batch)
        uncut.append(coco_rows(every, batch.image_ids, examine.category_ids))
        height, width = batch.images.shape[-2:]
        boxes = predictor.anchor_generator(height, width, batch.images.device)
        anchors.add(outputs, examine.matcher(boxes, batch))
    detected = Detected(
        np.concatenate(rows),
        np.concatenate(uncut),
        per_image,
        examine.ground_truth,
        examine.image_ids,
    )
    return detected, anchors


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
