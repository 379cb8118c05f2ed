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
    load_checked,
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
    """The weights of a whole detector: torchvision's, or a checkpoint of ours (its average first).

    InputError for other classes or another architecture.
    """
    state = checkpoint.load(path)
    if is_torchvision_detector(state):
        ours = torchvision_detector_state(state, classes.category_ids)
        load_checked(net, ours, source=str(path))
        return
    found = classes_of(state, path)
    if found != classes:
        raise InputError(
            f"{path}: the checkpoint was trained on {found}; expected {classes} "
            f"({found.difference(classes)}); use a checkpoint and annotations of the same "
            "categories."
        )
    load_checked(net, averaged(state), source=str(path))


def classes_of(state: dict[str, Any], path: Path) -> Classes:
    """What a checkpoint of ours was trained on."""
    if not {"model", "category_ids", "class_names"} <= set(state):
        raise InputError(
            f"{path}: it is neither a checkpoint of tools/train.py nor a state dict of "
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
