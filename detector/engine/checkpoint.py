"""Files of state that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import torch

from detector.errors import InputError
from detector.files import whole_file


def save(state: dict[str, Any], path: Path, *others: Path) -> None:
    """Write, flush to the disk, then replace: the old file stays until the new is whole.

    `others`, in the same folder, become more names of that file where the disk has hard links, and
    files of their own elsewhere. OSError that names the file where it cannot be written whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as draft, draft.open("wb") as file:
        _write(state, file)
        file.flush()
        os.fsync(file.fileno())
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
