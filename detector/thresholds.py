"""The score that detections of each class need: one for all, by name, or that of the best F1.

K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from numbers import Real
from pathlib import Path
from typing import Any

from detector.config import load
from detector.config.messages import nearest
from detector.engine.restore import Classes
from detector.evaluation.coco_files import load_detections
from detector.evaluation.score_curve import BestF1, best_f1
from detector.trained import Trained

SCORE = 0.3  # of detections that are worth a look; a run has the low one that AP needs


def class_scores(
    given: Mapping[str, float], names: Sequence[str], *, others: float = SCORE
) -> list[float]:
    """The score of each class (K,); `others`: of classes that are not given.

    Raises ValueError for a class that is none of `names`, and for a score outside of 0 .. 1.
    """
    for name, score in given.items():
        if name not in names:
            near = nearest(name, names) or f"; it has {', '.join(names)}"
            raise ValueError(f"this detector has no class {name!r}{near}")
        _check(score, f"the score of {name!r}")
    _check(others, "the score")
    return [given.get(name, others) for name in names]


def _check(score: float, what: str) -> None:
    if not isinstance(score, Real) or not 0 <= score <= 1:
        raise ValueError(f"{what} is {score!r}; it should be a number from 0 to 1")


def best_scores(trained: Trained) -> list[BestF1 | None]:
    """The best score of each class on the validation set (K,); None where there is none.

    From the detections that `detector evaluate` left of this checkpoint with these settings, or
    else by evaluating, which leaves nothing. Raises InputError where the set cannot be read.
    """
    examine, folder = trained.evaluator(trained.validation()), evaluation_folder(trained)
    if folder is not None and _is_of(folder, trained):
        rows = load_detections(folder / "detections.json", examine.ground_truth)
    else:
        rows = examine.run(trained.net).rows
    lowest = trained.config.postprocess.score
    best = best_f1(rows, examine.ground_truth, examine.image_ids, lowest=lowest)
    return [best.get(category_id) for category_id in trained.classes.category_ids]


def evaluation_folder(trained: Trained) -> Path | None:
    """Where `detector evaluate` leaves a run's figures; None for a checkpoint outside of a run."""
    file = trained.weights
    inside = file.parent.name == "checkpoints"
    return file.parent.parent / "evaluation" / file.stem if inside else None


def _is_of(folder: Path, trained: Trained) -> bool:
    """Whether an evaluation is one of these weights, on this data, with this post-processing."""
    detections, config = folder / "detections.json", folder / "config.yaml"
    if not (detections.is_file() and config.is_file()):
        return False
    made = detections.stat().st_mtime
    if any(made < file.stat().st_mtime for file in (trained.weights, *trained.truth_files)):
        return False  # the training went on since, or there are other boxes or images
    there, here = load(config), trained.config
    keys = ("data", "model", "anchors", "postprocess")
    return all(getattr(there, key) == getattr(here, key) for key in keys)


def report(best: Sequence[BestF1 | None], classes: Classes) -> list[dict[str, Any]]:
    """The content of thresholds.json; the figures of a class without a best score are null."""
    missing = dict.fromkeys(("score", "f1", "precision", "recall", "boxes"))
    return [
        {"category_id": category_id, "category": name, **(asdict(one) if one else missing)}
        for category_id, name, one in zip(classes.category_ids, classes.names, best, strict=True)
    ]
