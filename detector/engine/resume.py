"""What a run that goes on asks of its checkpoint: its own structure, and the data of before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.data.coco import CocoIndex
from detector.engine.restore import Classes, classes_of
from detector.engine.step import TrainingStep, plain
from detector.errors import InputError


def data_identity(train: CocoIndex, validation: CocoIndex | None) -> dict[str, str]:
    """What a run learns from and is measured on, each part as its size and a digest.

    Pixels are not read: an image is its id, name and size, in the order of the file, which decides
    when it is drawn.
    """
    measured = "none" if validation is None else f"{_images(validation)}, {_boxes(validation)}"
    return {"images": _images(train), "boxes": _boxes(train), "validation": measured}


def _images(index: CocoIndex) -> str:
    names = "\0".join(index.file_names.tolist()).encode("utf-8", "surrogatepass")
    return f"{len(index)} images, digest {_digest(index.image_ids, index.sizes, names)}"


def _boxes(index: CocoIndex) -> str:
    labels = index.label_offsets, index.label_values
    digest = _digest(index.box_offsets, index.boxes, index.crowd, *labels)
    return f"{len(index.boxes)} boxes, digest {digest}"


def _digest(*parts: NDArray[Any] | bytes) -> str:
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part if isinstance(part, bytes) else part.tobytes())
    return hasher.hexdigest()[:16]


def check_resumed(
    state: dict[str, Any], path: Path, train: CocoIndex, validation: CocoIndex | None
) -> list[str]:
    """What a run that goes on from `state`, of the file `path`, says of its data.

    InputError where the classes or the training images are others than when it began: channels
    would change their meaning, and the rest of an epoch would not be the rest.
    """
    classes, now = classes_of(state, path), Classes.of(train)
    if now != classes:
        raise InputError(
            f"{train.annotations_file}: it has {now}, but {path} was trained on {classes} "
            f"({now.difference(classes)}): restore the categories, ids and names, or begin another "
            "run with another --output."
        )
    if state.get("data") is None:
        return [
            f"{path} is of an older version, without a digest of the data: whether they changed is "
            "not known."
        ]
    before, today = state["data"], data_identity(train, validation)
    if before["images"] != today["images"]:
        raise InputError(
            f"{train.annotations_file}: the run began with {before['images']} of ids, names and "
            f"sizes in their order; now there are {today['images']}: restore the file, or begin "
            "another run with another --output."
        )
    parts = {"boxes": f"the boxes of {train.annotations_file}", "validation": "the validation set"}
    return [
        f"Careful: {name} changed since the run began, from {before[part]} to "
        f"{today[part]}; figures before and after do not compare."
        for part, name in parts.items()
        if before[part] != today[part]
    ]


def check_fits(state: dict[str, Any], path: Path, step: TrainingStep, *, total_steps: int) -> None:
    """InputError where a checkpoint is not of this step's network, optimizer and loss.

    Names, kinds and shapes are compared, not values; nothing is changed.
    """
    difference = next(_differences(*_forms(state, step), "its state"), None)
    if state["step"] > total_steps:
        difference = f"it stands at step {state['step']} of {total_steps}"
    if difference is not None:
        raise InputError(
            f"{path}: the checkpoint does not fit this run: {difference}. It was changed by hand, "
            "or written by another version: put back the run's own file, or begin another run with "
            "another --output."
        )


def _forms(state: dict[str, Any], step: TrainingStep) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is compared: of the checkpoint, and of the step."""
    scaler = step.scaler.state_dict()
    scaled = scaler and state["scaler"]  # not both, where the run moved to another device
    cuda = [one["cuda"] for one in state["ranks"] if one["cuda"] is not None]
    there = {
        **{part: state[part] for part in ("model", "ema", "criterion")},
        "optimizer": state["optimizer"]["state"],
        "scaler": state["scaler"] if scaled else {},
        "cpu": [one["cpu"] for one in state["ranks"]],
        "cuda": cuda if torch.cuda.is_available() else [],
    }
    here = {
        "model": plain(step.model).state_dict(),
        "ema": None if step.ema is None else step.ema.state_dict(),
        "criterion": step.criterion.state_dict(),
        "optimizer": _moments(step.optimizer) if there["optimizer"] else {},
        "scaler": scaler if scaled else {},
        "cpu": [torch.get_rng_state() for _ in state["ranks"]],
        "cuda": [torch.cuda.get_rng_state() for _ in there["cuda"]],
    }
    return there, here


def _moments(optimizer: torch.optim.Optimizer) -> dict[int, Any]:
    """What an optimizer keeps of each parameter once it took a step."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if isinstance(optimizer, torch.optim.AdamW):
        count = torch.zeros(())
        return {n: {"step": count, "exp_avg": p, "exp_avg_sq": p} for n, p in enumerate(parameters)}
    if optimizer.defaults["momentum"]:
        return {n: {"momentum_buffer": p} for n, p in enumerate(parameters)}
    return {}


def _differences(there: Any, here: Any, name: str) -> Iterator[str]:
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        yield from (f"{name} lacks {key}" for key in here if key not in there)
        yield from (f"{name} has {key}, which is not known" for key in there if key not in here)
        keys = [key for key in here if key in there]
    elif isinstance(there, list | tuple) and isinstance(here, list | tuple):
        if len(there) != len(here):
            yield f"{name} has {len(there)} entries, expected {len(here)}"
        keys = list(range(min(len(there), len(here))))
    else:
        if _kind(there) != _kind(here):
            yield f"{name} is {_kind(there)}, expected {_kind(here)}"
        return
    for key in keys:
        yield from _differences(there[key], here[key], f"{name}: {key}")


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a {value.dtype} of shape {list(value.shape)}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "a number" if number else f"a {type(value).__name__}"
