"""What an evaluation of a run says of its classes, its scores and its images.

K classes by ascending id, D detections, all of an overlap (IoU) of 0.5 unless AP or AR is named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.coco_matching import hotcoco_evaluation
from detector.data.coco import CocoIndex
from detector.errors import InputError
from detector.evaluation.coco import CocoResult, evaluate
from detector.evaluation.coco_files import index_ground_truth, load_detections
from detector.evaluation.errors import error_split
from detector.evaluation.score_curve import ScoreCurve
from detector.files import read_object
from detector.lab.matches import Matches, match

FALLBACK = 0.3  # the score to look at where no detection is right
IOU = 0.5


@dataclass(frozen=True, eq=False)
class RunEvaluation:
    """RUN/evaluation/CHECKPOINT, and the images that it is of."""

    folder: Path
    metrics: dict[str, Any]  # metrics.json
    rows: NDArray[np.float64]  # (D, 7) image id, x, y, width, height, score, category id
    index: CocoIndex
    ground_truth: dict[str, Any]
    result: CocoResult
    matches: Matches

    def older_than(self, checkpoint: Path) -> bool:
        """Whether the training wrote the checkpoint anew after this evaluation of it."""
        made = (self.folder / "metrics.json").stat().st_mtime
        return checkpoint.exists() and checkpoint.stat().st_mtime > made

    @property
    def names(self) -> list[str]:
        """Of the K classes."""
        return self.result.class_names

    @cached_property
    def errors(self) -> dict[str, float | None]:
        """AP50 that each kind of error costs."""
        return error_split(self.rows, self.ground_truth, self.index.image_ids.tolist()).gains


def read_evaluation(folder: Path, index: CocoIndex) -> RunEvaluation:
    """What `detector evaluate` left in a folder, on the validation images of `index`.

    InputError for a broken file, and where the figures are not those of these images.
    """
    metrics = read_object(folder / "metrics.json", "AP", "images", "detections")
    ground_truth = index_ground_truth(index)
    rows = load_detections(folder / "detections.json", ground_truth)
    ids = index.image_ids.tolist()
    result = evaluate(rows, ground_truth, image_ids=ids)
    now = (result.images, result.detections, result.summary["AP"])
    before = (metrics["images"], metrics["detections"], metrics["AP"])
    if not np.allclose(now, before, rtol=0, atol=1e-6):
        raise InputError(
            f"{folder}: it was made of other images or boxes than {index.annotations_file} has "
            f"now (AP {before[2]:.4f} of {before[0]} images there, {now[2]:.4f} of {now[0]} with "
            "them); take the folder away, and the same command evaluates again."
        )
    matches = match(rows, ground_truth, ids)
    return RunEvaluation(folder, metrics, rows, index, ground_truth, result, matches)


def score_curve(matches: Matches, of_class: int | None = None) -> ScoreCurve:
    """Of one class, or of all together; detections in crowds count neither way."""
    chosen, boxes = ~matches.ignored[0], np.ones(len(matches.truth_classes), np.bool_)
    if of_class is not None:
        chosen = chosen & (matches.classes == of_class)
        boxes = matches.truth_classes == of_class
    return ScoreCurve.of(matches.scores[chosen], matches.hit[0, chosen], int(boxes.sum()))


def best_score(matches: Matches) -> float:
    """Where the F1 of all classes together is highest, cut to three decimals, as it is written."""
    curve = score_curve(matches)
    return FALLBACK if curve.best is None else _cut(curve.scores[curve.best])


def _cut(score: float) -> float:
    """To three decimals, as it is written; rounded up it would leave a detection of it out."""
    return math.floor(1000 * score) / 1000


@dataclass(frozen=True)
class ClassFigures:
    """Of one class; None where there is nothing to measure."""

    name: str
    boxes: int
    ap: float | None
    ap50: float | None
    ar: float | None  # at 100 detections an image
    f1: float | None  # the best
    score: float | None  # where it is, cut to three decimals


def class_figures(evaluation: RunEvaluation) -> list[ClassFigures]:
    """Of each class, in their order."""
    result, matches = evaluation.result, evaluation.matches
    figures = []
    for k, (name, ap) in enumerate(result.per_class.items()):
        boxes = result.boxes[name]
        curve = score_curve(matches, k)
        best = curve.best if boxes else None
        f1 = (0.0 if best is None else float(curve.f1[best])) if boxes else None
        score = None if best is None else _cut(curve.scores[best])
        found = (matches.hit & ~matches.ignored)[:, matches.classes == k]
        ar = float(found.sum(1).mean() / boxes) if boxes else None
        ap50 = float(result.precision[0, :, k].mean()) if boxes else None
        figures.append(ClassFigures(name, boxes, ap if boxes else None, ap50, ar, f1, score))
    return figures


def confusion(evaluation: RunEvaluation, score: float) -> NDArray[np.int64]:
    """Boxes (K + 1, K + 1): true class by that of the detection which overlaps them, from `score`.

    A detection takes the free box that it overlaps most, of any class. The last column counts
    boxes that were missed, the last row detections without a box.
    """
    matches = evaluation.matches
    # hotcoco's matrix knows no crowds
    rows = evaluation.rows[matches.rows[~matches.ignored[0]]]
    matrix = hotcoco_evaluation(
        rows,
        evaluation.ground_truth,
        image_ids=evaluation.index.image_ids.tolist(),
        category_ids=matches.category_ids.tolist(),
    ).confusion_matrix(iou_thr=IOU, max_det=max(1, len(rows)), min_score=score)["matrix"]
    return np.asarray(matrix, np.int64)


@dataclass(frozen=True)
class ImageErrors:
    """What is wrong in one image."""

    image_id: int
    boxes: int
    missed: int
    false_positives: tuple[tuple[str, float], ...]  # name of the class and score, falling

    def __str__(self) -> str:
        """As "2 of 5 boxes missed, 1 false positive: cat 0.91"."""
        return f"{self._missed()}, {self._false_positives()}"

    def _missed(self) -> str:
        if not self.boxes:
            return "no boxes"
        return f"{self.missed or 'none'} of {self.boxes} box{'es' * (self.boxes > 1)} missed"

    def _false_positives(self) -> str:
        count = len(self.false_positives)
        if not count:
            return "no false positive"
        shown = ", ".join(f"{name} {score:.2f}" for name, score in self.false_positives[:3])
        more = f" and {count - 3} more" if count > 3 else ""
        return f"{count} false positive{'s' * (count > 1)}: {shown}{more}"


def worst_images(evaluation: RunEvaluation, score: float, most: int) -> Sequence[ImageErrors]:
    """The images with the most errors of detections from `score`, at most so many, worst first.

    A detection of the wrong class is a false positive, and its box is missed. Of equal numbers
    of errors the one with the surest false positive is worse.
    """
    m = evaluation.matches
    counts = (m.scores >= score) & ~m.ignored[0]
    length = len(m.image_ids)
    boxes = np.bincount(m.truth_images, minlength=length)
    missed = boxes - np.bincount(m.images[counts & m.hit[0]], minlength=length)
    wrong = counts & ~m.hit[0]
    errors = missed + np.bincount(m.images[wrong], minlength=length)
    surest = np.zeros(length)
    np.maximum.at(surest, m.images[wrong], m.scores[wrong])
    worst = [i for i in np.lexsort((-surest, -errors))[:most].tolist() if errors[i]]
    found = []
    for i in worst:
        own = np.flatnonzero(wrong & (m.images == i))
        own = own[np.argsort(-m.scores[own], kind="stable")]
        named = tuple((evaluation.names[m.classes[d]], float(m.scores[d])) for d in own)
        found.append(ImageErrors(int(m.image_ids[i]), int(boxes[i]), int(missed[i]), named))
    return found
