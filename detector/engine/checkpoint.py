"""Files of state that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from detector.errors import InputError


def save(state: dict[str, Any], path: Path) -> None:
    """Write beside, flush to the disk, then replace: the old file stays until the new is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def load(path: Path) -> dict[str, Any]:
    """The state in `path`, on the CPU; nothing found in the file is executed."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such checkpoint.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: the checkpoint cannot be read: {error.strerror}.") from error
    except Exception as error:  # torch's unpickler answers garbage with almost any exception
        raise InputError(
            f"{path}: torch cannot read it as a checkpoint; expected a whole file written by "
            "tools/train.py, or a state dict of tensors alone."
        ) from error
    if not isinstance(state, dict):
        raise InputError(f"{path}: it holds a {type(state).__name__}, expected a dictionary.")
    return state
