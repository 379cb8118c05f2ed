"""Files that a command leaves: they appear whole, and new folders overwrite nothing."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detector.errors import InputError


def occupied(directory: Path) -> bool:
    """Whether there is anything but an empty folder."""
    return directory.exists() and (not directory.is_dir() or any(directory.iterdir()))


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """A draft folder that becomes `directory` when the block ends without an error.

    InputError where `directory` holds anything already, or cannot be made.
    """
    if occupied(directory):
        raise InputError(
            f"--output {directory}: it holds something already, and nothing is overwritten; "
            "choose another --output."
        )
    draft = directory.with_name(f".{directory.name}.{os.getpid()}.draft")
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"--output {directory} cannot be made ({error.strerror}).") from error
    try:
        yield draft
        draft.replace(directory)  # an empty folder gives way
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def make_directory(directory: Path) -> None:
    """Make it where it is not there; InputError where that, or writing in it, is impossible."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {directory} cannot be made ({error.strerror}).") from error
    if not os.access(directory, os.W_OK):
        raise InputError(f"--output {directory} cannot be written to; choose another --output.")


def read_json(path: Path) -> Any:
    """The content of a JSON file; InputError where it cannot be read or is none."""
    return parse_json(json_text(path), path)


def json_text(path: Path) -> str:
    """The text of a JSON file in UTF-8, UTF-16 or UTF-32, with or without a byte-order mark."""
    try:
        data = path.read_bytes()
        return data.decode(json.detect_encoding(data))  # as json.loads finds it
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: this is not a JSON file: {error}.") from error


def parse_json(text: str, path: Path) -> Any:
    """The content of a JSON text, which came from `path`; InputError where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: this is not a JSON file: {error}.") from error


def read_object(
    path: Path, *keys: str, remedy: str = "restore it, or take its folder away"
) -> dict[str, Any]:
    """A JSON object with these keys at least; InputError where the file is something else.

    remedy: what the person is told to do then.
    """
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(
            f"{path}: it is not whole JSON ({error}); it was changed by hand or by a fault of the "
            f"disk: {remedy}."
        ) from None
    if not isinstance(found, dict) or not set(keys) <= found.keys():
        raise InputError(
            f"{path}: it should hold a JSON object{' with ' if keys else ''}{' and '.join(keys)}; "
            f"{remedy}."
        )
    return found


def write_json(path: Path, content: object) -> None:
    """Write `content` to `path` by `write_text`. NaN is refused (ValueError)."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, which appears whole or not at all; OSError that names it if not."""
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A draft that becomes `path` when the block ends without an error; it is gone after any.

    OSErrors of the block come out with the name of `path`.
    """
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)  # of a killed process; it may be another name of a checkpoint
    try:
        yield draft
        draft.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        draft.unlink(missing_ok=True)


def finite(value: float) -> float | None:
    """For JSON, which has no NaN and no infinity: null stands for both."""
    return value if math.isfinite(value) else None
