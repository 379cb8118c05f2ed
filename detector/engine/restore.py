"""Loading the weights of whole detectors, and the classes of their channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from detector.data.coco import CocoIndex
from detector.engine import checkpoint
from detector.errors import InputError
from detector.model.pretrained import (
    is_torchvision_detector,
    load_by_name,
    load_checked,
    torchvision_class_names,
    torchvision_detector_state,
)
from detector.model.retinanet import RetinaNet


@dataclass(frozen=True)
class Classes:
    """The K foreground classes in the order of their channels."""

    names: list[str]
    category_ids: list[int]  # of the annotation file

    @classmethod
    def of(cls, index: CocoIndex) -> Classes:
        """The classes of a data set."""
        return cls(list(index.category_names), index.category_ids.tolist())

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        pairs = zip(self.category_ids, self.names, strict=True)
        texts = [f"{category_id} {name}" for category_id, name in pairs]
        return f"{len(self)} classes ({few(texts)})"

    def difference(self, other: Classes) -> str:
        """The first difference from a list of other classes, in words."""
        # the shorter list goes on with None, which differs from every class
        pairs = zip_longest(*(zip(c.category_ids, c.names, strict=True) for c in (self, other)))
        here, there = (
            "no more class" if entry is None else f"{entry[0]} {entry[1]!r}"
            for entry in next(pair for pair in pairs if pair[0] != pair[1])
        )
        return f"{here} here is {there} there"


def check_classes(
    classes: Classes,
    index: CocoIndex,
    remedy: str = "both need the same categories: ids and names",
) -> None:
    """InputError if the classes of a data set are not those of the model."""
    of_index = Classes.of(index)
    if of_index != classes:
        raise InputError(
            f"{index.annotations_file}: it has {of_index}, but training had {classes} "
            f"({of_index.difference(classes)}); {remedy}."
        )


def load_detector(net: RetinaNet, path: Path, classes: Classes) -> None:
    """Load a detector for exactly these classes: torchvision's, or a checkpoint of tools/train.py.

    torchvision's detectors know more classes than a data set has: a class gets the channel of the
    same name. A checkpoint must have the same classes; its moving average is preferred to its
    model. Raises InputError for other classes or another architecture.
    """
    state = checkpoint.load_state(path)
    if is_torchvision_detector(state):
        fresh = _load_by_name(net, state, path, classes)
        if fresh:
            raise InputError(
                f"{path}: of the classes of this data set the detector has no channel for "
                f"{few(fresh)}; expected names that it was trained on (COCO's for torchvision's "
                "published files)."
            )
        return
    trained = classes_of(state, path)
    if trained != classes:
        raise InputError(
            f"{path}: the checkpoint was trained on {trained}; expected {classes} "
            f"({trained.difference(classes)}); use a checkpoint and annotations of the same "
            "categories."
        )
    load_checked(net, averaged(state), source=str(path))


def start_from(net: RetinaNet, path: Path, classes: Classes) -> str:
    """Load a detector of any classes, to be trained further; returns a line for the user.

    A class gets the channel of the same name in the file. Without one it keeps its channel of the
    initialised `net`, with the bias of the prior.
    """
    fresh = _load_by_name(net, checkpoint.load_state(path), path, classes)
    known = len(set(classes.names) - set(fresh))
    untrained = f"; untrained are those of {', '.join(fresh)}" if fresh else ""
    return f"weights of {path}: it has channels for {known} classes by name{untrained}"


def _load_by_name(net: RetinaNet, state: dict[str, Any], path: Path, classes: Classes) -> list[str]:
    """Load channels by class name; returns the names of the channels that were not in the file."""
    if is_torchvision_detector(state):
        names, weights = torchvision_class_names(state), torchvision_detector_state(state)
    else:
        names, weights = classes_of(state, path).names, averaged(state)
    return load_by_name(net, weights, names, classes.names, source=str(path))


def classes_of(state: dict[str, Any], path: Path) -> Classes:
    """The classes that a checkpoint of tools/train.py was trained on; InputError if it is none."""
    if "class_names" not in state:  # tensors alone, or checkpoint.load_state would have refused it
        raise InputError(
            f"{path}: it is neither a checkpoint of detector train nor a state dict of "
            "torchvision's retinanet_resnet50_fpn or _v2."
        )
    return Classes(state["class_names"], state["category_ids"])


def averaged(state: dict[str, Any]) -> dict[str, Any]:
    """The network's weights in a checkpoint: the moving average, if it has one."""
    if state["ema"] is None:
        model: dict[str, Any] = state["model"]
        return model
    prefix = "module."  # of EMA.module
    return {k.removeprefix(prefix): v for k, v in state["ema"].items() if k.startswith(prefix)}


def few(items: Sequence[object]) -> str:
    """The first five of a list, for a sentence."""
    return ", ".join(str(item) for item in items[:5]) + (", …" if len(items) > 5 else "")
