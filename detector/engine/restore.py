"""Weights of whole detectors, with the classes that their channels stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
        return f"{len(self)} classes ({few([f'{number} {name}' for number, name in pairs])})"

    def difference(self, other: Classes) -> str:
        """The first place in which two lists of classes differ, as words."""
        mine, theirs = ([*zip(c.category_ids, c.names, strict=True), None] for c in (self, other))
        for ours, its in zip(mine, theirs, strict=False):
            if ours != its:
                return f"{_one(ours)} here is {_one(its)} there"
        return "none"


def _one(entry: tuple[int, str] | None) -> str:
    return "no more class" if entry is None else f"{entry[0]} {entry[1]!r}"


def check_same(classes: Classes, index: CocoIndex) -> None:
    """InputError where the classes of a data set are not those of the model."""
    found = Classes.of(index)
    if found != classes:
        raise InputError(
            f"{index.annotations_file}: it has {found}, but training has {classes} "
            f"({found.difference(classes)}); both need the same categories: ids and names."
        )


def load_detector(net: RetinaNet, path: Path, classes: Classes) -> None:
    """The weights of a detector of these classes: torchvision's, or a checkpoint of ours.

    Of ours the moving average is taken first. torchvision's detectors know more classes than a data
    set has, and name them; ours must be the same. InputError for other classes or another
    architecture.
    """
    state = checkpoint.load(path)
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
    """Load a detector, of whatever classes, to be trained further; what is to be said of that.

    A class gets the channel of its namesake in the file. One without keeps the channel of the
    initialised `net`, with the bias of the prior.
    """
    fresh = _load_by_name(net, checkpoint.load(path), path, classes)
    known = len(set(classes.names) - set(fresh))
    untrained = f"; untrained are those of {', '.join(fresh)}" if fresh else ""
    return f"weights of {path}: it has channels for {known} classes by name{untrained}"


def _load_by_name(net: RetinaNet, state: dict[str, Any], path: Path, classes: Classes) -> list[str]:
    """The names of the channels that stay as they were."""
    if is_torchvision_detector(state):
        theirs, weights = torchvision_class_names(state), torchvision_detector_state(state)
    else:
        theirs, weights = classes_of(state, path).names, averaged(state)
    return load_by_name(net, weights, theirs, classes.names, source=str(path))


def classes_of(state: dict[str, Any], path: Path) -> Classes:
    """What a checkpoint of ours was trained on."""
    if "class_names" not in state:  # tensors alone, or checkpoint.load would have refused it
        raise InputError(
            f"{path}: it is neither a checkpoint of detector train nor a state dict of "
            "torchvision's retinanet_resnet50_fpn or _v2."
        )
    return Classes(state["class_names"], state["category_ids"])


def averaged(state: dict[str, Any]) -> dict[str, Any]:
    """The network's weights in a checkpoint: the moving average, if it has one."""
    if state["ema"] is None:
        found: dict[str, Any] = state["model"]
        return found
    prefix = "module."
    return {k.removeprefix(prefix): v for k, v in state["ema"].items() if k.startswith(prefix)}


def few(items: Sequence[object]) -> str:
    """The first five of a list, for a sentence."""
    return ", ".join(str(item) for item in items[:5]) + (", …" if len(items) > 5 else "")
