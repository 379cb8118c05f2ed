"""What a program does with trained detectors: load one, predict, evaluate."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from detector import build
from detector.config import Config, parse
from detector.data.annotations import annotations_of
from detector.data.images import ImageInput, to_image
from detector.data.sources import source_files
from detector.engine import checkpoint as checkpoints
from detector.engine import run
from detector.engine.restore import classes_of
from detector.evaluation.coco import CocoResult, Engine
from detector.evaluation.coco import evaluate as evaluate_rows
from detector.evaluation.coco_files import (
    detections_of,
    ground_truth_of,
    load_detections,
    load_ground_truth,
)
from detector.prediction import Prediction, detect, predictor_above
from detector.thresholds import SCORE, best_scores, class_scores
from detector.trained import Trained


class Detector:
    """A trained network with its classes; made by `load`.

    config: that of its training. model: the network in evaluation mode, on `device`; it takes
    images uint8 (N, 3, H, W) and gives `Outputs`.
    """

    def __init__(self, trained: Trained) -> None:
        self._trained = trained
        self.config: Config = trained.config
        self.model: nn.Module = trained.net
        self.device: torch.device = trained.device
        self.class_names: list[str] = list(trained.classes.names)
        self.category_ids: list[int] = list(trained.classes.category_ids)  # of its annotation file

    def predict(
        self,
        images: ImageInput | Sequence[ImageInput],
        *,
        score: float | Mapping[str, float] | Literal["auto"] = SCORE,
    ) -> list[Prediction]:
        """What is detected in each image, as `detector predict` has it; a list also of one image.

        images: one or several, of any sizes: files, folders of images, patterns such as
            "photos/*.jpg", Pillow images, uint8 arrays (H, W, 3) or uint8 tensors (3, H, W), all
            RGB. Files and Pillow images are turned as their EXIF data say, and boxes are in pixels
            of the turned image.
        score: detections that score no more than this are left out; a dict gives the score of
            classes by name, the others keep 0.3; "auto": that of each class with the best F1 on
            the validation set (from the run's evaluation, or by one, which may take minutes).

        Raises ValueError for a wrong argument, and its subclass InputError for an unreadable file.
        """
        predictor = predictor_above(self._trained, self._scores(score))
        decoding = build.decoding(self.config)
        return [
            detect(
                self._trained,
                predictor,
                to_image(image, f"images[{index}]", decoding),
                image if isinstance(image, Path) else None,
            )
            for index, image in enumerate(_one_by_one(images))
        ]

    def _scores(self, score: float | Mapping[str, float] | str) -> list[float]:
        if score == "auto":
            return self._best_scores
        if isinstance(score, Mapping):
            return class_scores(score, self.class_names)
        if isinstance(score, str):
            raise ValueError(f"score is {score!r}; it should be a number, a dict or 'auto'.")
        return class_scores({}, self.class_names, others=score)

    @cached_property
    def _best_scores(self) -> list[float]:
        return [SCORE if best is None else best.score for best in best_scores(self._trained)]


def _one_by_one(images: ImageInput | Sequence[ImageInput]) -> Iterator[ImageInput]:
    """The images, with paths for files, folders and patterns."""
    several: Sequence[Any] = images if isinstance(images, list | tuple) else [images]
    for image in several:
        if isinstance(image, str | Path):
            yield from source_files([image])
        else:
            yield image


def load(
    path: str | Path, *, checkpoint: Literal["best", "last"] = "best", device: str = "auto"
) -> Detector:
    """The detector in a run's folder, or in a checkpoint file of one.

    checkpoint: which one, of a folder. device: auto (a GPU where there is one), cpu, cuda or
        cuda:N.

    Raises ValueError for a wrong argument, and its subclass InputError where there is no such
    checkpoint, or it cannot be used.
    """
    if checkpoint not in ("best", "last"):
        raise ValueError(f"checkpoint is {checkpoint!r}; it should be 'best' or 'last'.")
    _check_device(device)
    file = Path(path)
    if not file.is_file():
        run.config_file(file)  # says what is wrong with a folder that is no run
        file = run.checkpoint_file(file, checkpoint)
    state = checkpoints.load_state(file)
    config = parse(state["config"], f"the config in {file}")
    train = config.train.model_copy(update={"device": device})
    return Detector(
        Trained(config.model_copy(update={"train": train}), file, state, classes_of(state, file))
    )


def _check_device(device: str) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", device):
        raise ValueError(f"device is {device!r}; it should be 'auto', 'cpu', 'cuda' or 'cuda:N'.")
    gpus, number = torch.cuda.device_count(), device.removeprefix("cuda").removeprefix(":")
    if device.startswith("cuda") and int(number or 0) >= gpus:
        raise ValueError(f"device is {device!r}, but torch finds {gpus} GPUs; use 'cpu'.")


def evaluate(
    detections: str | Path | list[dict[str, Any]],
    ground_truth: str | Path | dict[str, Any],
    *,
    engine: Engine = "hotcoco",
) -> CocoResult:
    """COCO's bounding-box metrics of detections, as `detector evaluate --detections` has them.

    detections: a COCO result file, or its content: a list of {image_id, category_id, bbox, score}
        with bbox x, y, width, height in pixels.
    ground_truth: a COCO annotation file, or its content: a dict of images, categories, annotations.

    Raises ValueError for an unknown engine, and its subclass InputError, with index or id and key,
    for what is not of COCO's form or does not belong together.
    """
    if engine not in ("hotcoco", "pycocotools"):
        raise ValueError(f"engine is {engine!r}; it should be 'hotcoco' or 'pycocotools'.")
    if isinstance(ground_truth, str | Path):
        truth = load_ground_truth(ground_truth)
    else:
        source = Path("ground_truth")
        truth = ground_truth_of(annotations_of(ground_truth, source), source)
    if isinstance(detections, str | Path):
        rows = load_detections(detections, truth)
    else:
        rows = detections_of(detections, "detections", truth)
    return evaluate_rows(rows, truth, engine=engine)
