"""A trained detector, and its evaluation on a data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detector import build
from detector.anchors.class_code import ClassCode
from detector.config import Config, parse
from detector.data.batch import collate, unlabelled
from detector.data.coco import CocoIndex
from detector.data.loader import DetectionDataset, evaluation_loader
from detector.distributed import rank, world_size
from detector.engine import checkpoint, run
from detector.engine.preflight import describe_data
from detector.engine.restore import (
    Classes,
    check_classes,
    classes_of,
    load_detector,
    weights_of,
)
from detector.errors import InputError, about
from detector.evaluation.coco import recall_limits
from detector.evaluation.coco_files import index_ground_truth
from detector.evaluation.own_metrics import OwnMetric, own_metrics
from detector.evaluation.predict import Evaluator
from detector.loss.detection import DetectionLoss
from detector.model.pretrained import load_backbone
from detector.model.retinanet import RetinaNet
from detector.model.transfer import ClassChannels, Transfer, transfer
from detector.structures import Batch


def evaluator(
    config: Config, index: CocoIndex, code: ClassCode, on: torch.device, criterion: DetectionLoss
) -> Evaluator:
    """Validation loss and COCO metrics on a data set, split over the ranks."""
    dataset = DetectionDataset(index, build.transform(config).for_evaluation(), config.train.seed)
    classes = Classes.of(index)
    return Evaluator(
        loader=evaluation_loader(
            dataset,
            batch_size=config.evaluation.batch_size,
            rank=rank(),
            world_size=world_size(),
            workers=config.data.workers,
            pin_memory=on.type == "cuda",
        ),
        predictor=build.predictor(config, code, on),
        matcher=build.matcher(config),
        criterion=criterion,
        ground_truth=index_ground_truth(index),
        image_ids=index.image_ids.tolist(),
        category_ids=classes.category_ids,
        class_names=classes.names,
        engine=config.evaluation.engine,
        pictures=config.evaluation.images,
        own=own_metrics_of(config),
    )


@about("evaluation.metrics")
def own_metrics_of(config: Config) -> dict[str, OwnMetric]:
    """The functions of evaluation.metrics by their names; InputError if one cannot be imported."""
    return own_metrics(config.evaluation.metrics)


def describe_validation(index: CocoIndex, examine: Evaluator) -> Iterator[str]:
    """Lines on what is evaluated, what was left out of it, and what bounds its recall."""
    yield describe_data("validation", index)
    yield from recall_limits(
        examine.ground_truth, examine.image_ids, kept=examine.predictor.postprocess.per_image
    )


def check_class_of(figure: str, index: CocoIndex, key: str) -> None:
    """InputError, about `key`, where a figure is the AP of a class that the data set lacks."""
    name, names = figure.removeprefix("AP/"), index.category_names
    distinct = len(set(names)) == len(names)  # others are followed by the category's id
    if name != figure and distinct and name not in names:
        raise InputError(
            f"{key}: found {figure!r}, and {index.annotations_file} has no class {name!r}; it "
            f"should be one of {', '.join(names)}."
        )


def load_pretrained(
    config: Config, net: RetinaNet, code: ClassCode, classes: Classes
) -> Transfer | None:
    """Load model.weights, or else model.backbone.weights, into a new network; what was copied."""
    path, backbone = config.model.weights, config.model.backbone.weights
    if path is not None:
        state, their_code, remarks = checkpoint.load_state(path), None, []
        if "config" in state:
            theirs = parse(state["config"], f"the config in {path}")
            their_code = build.class_code(theirs, len(state["class_names"]))
            if theirs.anchors != config.anchors:
                remarks = ["anchors: not those it was trained with, to which its boxes refer"]
        ours = ClassChannels(classes.names, code)
        taken = transfer(net, *weights_of(state, their_code), ours, source=str(path))
        return replace(taken, remarks=remarks)
    if backbone is not None:
        load_backbone(net.backbone, "imagenet" if backbone == "imagenet" else Path(backbone))
    return None


class Trained:
    """A network with its weights and classes, ready to look at images."""

    def __init__(
        self, config: Config, weights: Path, state: dict[str, Any], classes: Classes
    ) -> None:
        """state: what `checkpoint.load_state` found in the file `weights`."""
        self.config = config
        self.weights = weights
        self.classes = classes
        self.code = build.class_code(config, len(classes))
        self.device = build.device(config)
        self.net = build.model(config, self.code)
        self.criterion = build.criterion(config, self.code).to(self.device)
        load_detector(self.net, state, weights, classes, self.code)
        self.net.to(self.device).eval()
        self.predictor = build.predictor(config, self.code, self.device)

    @classmethod
    def from_run(cls, directory: Path, checkpoint_name: str, overrides: Sequence[str]) -> Trained:
        """A checkpoint (`best`, `last` or a file) of a run of tools/train.py."""
        config = build.load_config(run.config_file(directory), overrides)
        path = run.checkpoint_file(directory, checkpoint_name)
        state = checkpoint.load_state(path)
        trained = cls(config, path, state, classes_of(state, path))
        trained._restore_criterion(state["criterion"], path)
        return trained

    def _restore_criterion(self, state: dict[str, Tensor], path: Path) -> None:
        """Load a running normalizer and weights of classes."""
        try:
            unknown = self.criterion.load_state_dict(state, strict=False).missing_keys
        except RuntimeError as error:  # torch names a tensor of another shape so
            raise InputError(
                f"{path}: the run's loss has other numbers than loss.classification wants "
                f"({str(error).splitlines()[-1].strip()}); evaluate it with the run's own loss."
            ) from error
        if any(".elementwise." in key for key in unknown):
            raise InputError(
                f"{path}: loss.classification wants numbers that come from training with it, and "
                "the run was trained with another loss; evaluate it with the run's own loss."
            )

    @classmethod
    def from_config(cls, path: Path, overrides: Sequence[str]) -> Trained:
        """The model.weights of a config; the classes are those of its validation set."""
        config = build.load_config(path, overrides)
        if config.model.weights is None:
            raise InputError(
                f"{path}: model.weights is null; name the detector's file by "
                "--set model.weights=FILE, or a run by --run."
            )
        weights, classes = config.model.weights, Classes.of(build.data_index(config, "val"))
        return cls(config, weights, checkpoint.load_state(weights), classes)

    def origin(self) -> dict[str, Any]:
        """What metrics.json says of where its figures come from."""
        data, truth = self.config.data, " and ".join(map(str, self.truth_files))
        origin: dict[str, Any] = {"weights": str(self.weights), "ground_truth": truth}
        if data.folds is not None:
            origin["folds"] = data.folds.model_dump()
        return origin if data.tuning is None else {**origin, "tuning": data.tuning}

    @property
    def truth_files(self) -> list[Path]:
        """The annotation files that the boxes of the validation set stand in."""
        data = self.config.data
        files = [(data.val if data.tuning is None else data.train).annotations]
        if data.folds is not None:
            files = [data.train.annotations, data.val.annotations]
        return [file for file in files if file is not None]

    def validation(self) -> CocoIndex:
        """The validation set of the config (or the one that `--set data.val…` names)."""
        index = build.data_index(self.config, "val")
        check_classes(self.classes, index)
        return index

    def evaluator(self, index: CocoIndex) -> Evaluator:
        """Loss and metrics on these images."""
        return evaluator(self.config, index, self.code, self.device, self.criterion)


def batch_of(trained: Trained, image: Tensor, number: int = 0) -> Batch:
    """One image, uint8 (3, H, W) RGB, with the id `number` and no boxes, resized for `trained`."""
    sample = unlabelled(image, classes=len(trained.classes), image_id=number)
    resize = build.transform(trained.config).for_evaluation()
    return collate([resize(sample, torch.Generator())]).to(trained.device)
