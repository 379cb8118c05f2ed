"""What a program does with trained detectors: load one, predict, evaluate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from detector import build
from detector.config import Config, parse
from detector.data.annotations import annotations_of
from detector.data.images import ImageInput, to_image
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
from detector.evaluation.predict import Predictor
from detector.trained import Trained, batch_of


@dataclass(frozen=True)
class Prediction:
    """What was detected in one image, best first.    D detections."""

    boxes: Tensor  # float32 (D, 4) x1 y1 x2 y2 in pixels of the image as it was given
    scores: Tensor  # float32 (D,) in 0 .. 1
    labels: Tensor  # int64 (D,) indices into the detector's `class_names`
    class_names: list[str]  # D, those of the labels

    def __len__(self) -> int:
        return len(self.scores)


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
        self, images: ImageInput | Sequence[ImageInput], *, score: float = 0.3
    ) -> list[Prediction]:
        """What is detected in each image, as `detector predict` has it; a list also of one image.

        images: one or several, of any sizes: files, Pillow images, uint8 arrays (H, W, 3) or
            uint8 tensors (3, H, W), all RGB. Files and Pillow images are turned as their EXIF data
            say, and boxes are in pixels of the turned image.
        score: detections that score no more than this are left out.

        Raises ValueError for a wrong argument, and its subclass InputError for an unreadable file.
        """
        if not 0 <= score <= 1:
            raise ValueError(f"score is {score}; it should lie between 0 and 1.")
        one_by_one = images if isinstance(images, list | tuple) else [images]
        predictor = self._trained.predictor
        postprocess = replace(predictor.postprocess, score=score)
        predictor = replace(predictor, postprocess=postprocess)
        decoding = build.decoding(self.config)
        return [
            self._detect(predictor, to_image(image, f"images[{index}]", decoding))
            for index, image in enumerate(one_by_one)
        ]

    def _detect(self, predictor: Predictor, image: Tensor) -> Prediction:
        _, detections = predictor(self.model, batch_of(self._trained, image))
        present = detections.present[0]
        boxes, scores, labels = (
            values[0][present].cpu()
            for values in (detections.boxes, detections.scores, detections.labels)
        )
        names = [self.class_names[label] for label in labels.tolist()]
        return Prediction(boxes, scores, labels, names)


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
    classes = classes_of(state, file)
    config = parse(state["config"], f"the config in {file}")
    train = config.train.model_copy(update={"device": device})
    return Detector(Trained(config.model_copy(update={"train": train}), file, classes))


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
