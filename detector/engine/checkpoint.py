"""Files of state that appear whole or not at all, and what is in those of a run."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from detector.errors import InputError
from detector.files import whole_file

Count = Annotated[int, Field(ge=0, lt=2**63)]
Id = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Tensors = dict[str, Tensor]


class Part(BaseModel):
    """A mapping in a checkpoint; more keys than these are no fault."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)


class Data(Part):
    """As resume.data_identity says it: sizes and digests."""

    images: str
    boxes: str
    validation: str


class Optimizer(Part):
    """As torch's optimizers write it, parameters by their number.

    The settings in the groups are not read: the config has them.
    """

    state: dict[int, dict[str, Tensor]]
    param_groups: list[dict[str, Any]]


class Meter(Part):
    """What was counted since the last line of metrics.jsonl."""

    sums: dict[str, float] | list[float] | Tensor  # without names: of older versions
    steps: Count


class Rank(Part):
    """What each process has of its own: counts, and states of the random generators."""

    meter: Meter
    cpu: Tensor
    cuda: Tensor | None


class Checkpoint(Part):
    """The file of a run: all that its next step depends on, and what the run is."""

    config: str  # YAML
    class_names: list[str]  # K, in the order of the channels
    category_ids: list[Id]  # K
    data: Data | None = None  # older versions had none
    step: Count  # optimizer steps that are done
    validated: Count  # the step of the last validation
    best_value: float  # of the figure evaluation.best; -inf before a validation
    model: Tensors
    ema: Tensors | None  # under module.…
    optimizer: Optimizer
    scaler: dict[str, float]  # of the loss; empty where the precision needs none
    criterion: Tensors
    ranks: Annotated[list[Rank], Field(min_length=1)]
    journal: Count  # bytes of metrics.jsonl

    @model_validator(mode="after")
    def _check(self) -> Checkpoint:
        names, ids = len(self.class_names), len(self.category_ids)
        if names != ids or names == 0:
            raise ValueError(f"{names} class_names and {ids} category_ids")
        if self.validated > self.step:
            raise ValueError(f"validated at step {self.validated}, after step {self.step}")
        return self


def save(state: dict[str, Any], path: Path, *others: Path) -> None:
    """Write, flush to the disk, then replace: the old file stays until the new is whole.

    `others`, in the same folder, become more names of that file where the disk has hard links, and
    files of their own elsewhere. OSError that names the file where it cannot be written whole;
    InputError where even the folder above its own is gone.
    """
    try:
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as draft, draft.open("wb") as file:
            _write(state, file)
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError as error:
        raise InputError(
            f"{path.parent.parent}: the folder was deleted or moved away meanwhile, so {path.name} "
            "cannot be saved; give the command again, with another --output if it should stay away."
        ) from error
    for other in others:
        try:
            with whole_file(other) as draft:
                os.link(path, draft)
        except OSError:  # a file system without hard links
            save(state, other)


def _write(state: dict[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(state, file)
    except RuntimeError as error:  # torch hides the disk's error behind its own
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def load(path: Path) -> dict[str, Any]:
    """The state in `path`, on the CPU; nothing found in the file is executed.

    It is a `Checkpoint`, or a state dict of tensors alone; InputError for anything else.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such checkpoint.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: the checkpoint cannot be read: {error.strerror}.") from error
    except Exception as error:  # torch's unpickler answers garbage with almost any exception
        raise InputError(
            f"{path}: torch cannot read it as a checkpoint; expected a whole file written by "
            "detector train, or a state dict of tensors alone."
        ) from error
    if not isinstance(state, dict):
        raise InputError(f"{path}: it holds a {type(state).__name__}, expected a dictionary.")
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        _check(state, path)
        # what older versions called the element-wise loss
        own = {re.sub(r"\bleaf\b", "elementwise", k): v for k, v in state["criterion"].items()}
        state["criterion"] = own
    return state


def _check(state: dict[Any, Any], path: Path) -> None:
    try:
        Checkpoint.model_validate(state)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"])) or "its state"
        raise InputError(
            f"{path}: it is neither a whole checkpoint of detector train nor a state dict of "
            f"tensors alone: {key}: {first['msg']}. Name another file, or restore this one."
        ) from None
