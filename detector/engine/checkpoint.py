"""Checkpoints: their schema, and reading and writing them without ever leaving half a file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
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


class CheckpointPart(BaseModel):
    """A mapping in a checkpoint; further keys are allowed, so that newer versions may add some."""

    # strict: a checkpoint holds the types that were saved, so a text in place of a number is damage
    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)


class DataIdentity(CheckpointPart):
    """What `restore.data_identity` returned: sizes and digests of the data."""

    images: str
    boxes: str
    validation: str


class OptimizerState(CheckpointPart):
    """The state dict of a torch optimizer, with parameters numbered from 0.

    The settings in `param_groups` are saved but never restored: those of the config apply.
    """

    state: dict[int, dict[str, Tensor]]
    param_groups: list[dict[str, Any]]


class MeterState(CheckpointPart):
    """The sums of the meter since the last line of metrics.jsonl."""

    sums: dict[str, float] | list[float] | Tensor  # older versions saved them without names
    steps: Count


class RankState(CheckpointPart):
    """What differs between processes: the meter, and the states of the random generators."""

    meter: MeterState
    cpu: Tensor
    cuda: Tensor | None


class Checkpoint(CheckpointPart):
    """The content of a checkpoint file: all that the next step depends on, and what the run is."""

    config: str  # YAML
    class_names: list[str]  # K, in the order of the channels
    category_ids: list[Id]  # K
    data: DataIdentity | None = None  # older versions did not save it
    step: Count  # optimizer steps done
    validated: Count  # the step of the last validation
    best_value: float  # of the metric evaluation.best; -inf before the first validation
    model: Tensors
    ema: Tensors | None  # keys start with "module."
    optimizer: OptimizerState
    scaler: dict[str, float]  # of the gradient scaler; empty where the precision needs none
    criterion: Tensors
    ranks: Annotated[list[RankState], Field(min_length=1)]
    # bytes of metrics.jsonl; the key has its old name, so that older checkpoints stay readable
    journal: Count

    @model_validator(mode="after")
    def _check(self) -> Checkpoint:
        names, ids = len(self.class_names), len(self.category_ids)
        if names != ids or names == 0:
            raise ValueError(f"{names} class_names and {ids} category_ids")
        if self.validated > self.step:
            raise ValueError(f"validated at step {self.validated}, after step {self.step}")
        return self


def save_state(state: dict[str, Any], path: Path, *others: Path) -> None:
    """Write `state` to `path`: the old file stays until the new one is complete on the disk.

    `others`, in the same folder, become hard links to that file, or copies where the file system
    has no hard links. Raises OSError, naming the file, if it cannot be written completely, and
    InputError if the parent of the file's folder no longer exists.
    """
    try:
        # without parents: a run directory that was deleted must not silently come back
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as draft, draft.open("wb") as file:
            _write(state, file)
            # before the rename: after a power cut the new name could stand for an empty file
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
            save_state(state, other)


def _write(state: dict[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(state, file)
    except RuntimeError as error:  # torch hides the disk's error behind its own
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def load_state(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """The state in the file `path`, with tensors on the CPU; no code in the file is executed.

    mmap: leave a tensor in the file until it is used. The state has the keys of `Checkpoint`, or is
    a state dict of tensors alone; InputError for anything else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError as error:
        raise InputError(f"{path}: the checkpoint cannot be read: {error.strerror}.") from error
    except Exception as error:  # torch's unpickler raises almost any exception for a damaged file
        raise InputError(
            f"{path}: torch cannot read it as a checkpoint; expected a whole file written by "
            "detector train, or a state dict of tensors alone."
        ) from error
    if not isinstance(state, dict):
        raise InputError(f"{path}: it holds a {type(state).__name__}, expected a dictionary.")
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        _check(state, path)
        state["criterion"] = {_renamed(key): v for key, v in state["criterion"].items()}
    return state


def _renamed(key: str) -> str:
    """Older versions called the element-wise loss, and what it wraps, `leaf`."""
    old = re.match(r"classification(\.leaf)+", key)
    return key if old is None else old[0].replace("leaf", "elementwise") + key[old.end() :]


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


def random_state() -> dict[str, Tensor | None]:
    """The states of torch's generators, of the CPU and of this process's GPU."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_random(state: Mapping[str, Any]) -> None:
    """Go on from what `random_state` gave; that of a GPU only where there is one."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
