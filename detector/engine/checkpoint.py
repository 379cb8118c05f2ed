"""Files of state that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from detector.errors import InputError


def save(state: dict[str, Any], path: Path, *others: Path) -> None:
    """Write beside, flush to the disk, then replace: the old file stays until the new is whole.

    `others`, in the same folder, become more names of that file where the disk has hard links, and
    files of their own elsewhere. OSError that names the file where it cannot be written whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path)
    draft.unlink(missing_ok=True)  # of a killed process; it may be another name of a checkpoint
    try:
        with draft.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, RuntimeError) as error:
        draft.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):  # torch hides the disk's error behind its own
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error
    for other in others:
        _same(state, path, other)


def _same(state: dict[str, Any], path: Path, other: Path) -> None:
    draft = _draft(other)
    draft.unlink(missing_ok=True)
    try:
        os.link(path, draft)
    except OSError:  # a file system without hard links
        save(state, other)
    else:
        draft.replace(other)


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.draft")


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
