"""What a command leaves: whole files, and folders that nobody else writes to or overwrites."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detector.errors import InputError

LOCK = ".lock"
HELD = frozenset({errno.EAGAIN, errno.EACCES})  # either is what a system says of another's lock


def occupied(directory: Path) -> bool:
    """Whether there is anything but a folder that is empty, or holds a lock alone."""
    if not directory.is_dir():
        return directory.exists()
    return any(path.name != LOCK for path in directory.iterdir())


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep every other process out of `directory`, which is made where it is not there.

    InputError, with the host and the process that hold it, where it is locked already, and where it
    cannot be made or written to. When the block ends the lock is gone, and the folder if it is new
    and still empty. The kernel takes the lock from a killed process, on whatever host: what stays
    then is a file that locks nothing.
    """
    new = not directory.exists()
    make_directory(directory)
    try:
        descriptor = _lock(directory)
        try:
            yield
        finally:
            (directory / LOCK).unlink(missing_ok=True)
            os.close(descriptor)
    finally:
        if new and directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


def _lock(directory: Path) -> int:
    """The descriptor of the lock file; to close it is to give the lock back.

    lockf, because forked loader workers do not inherit it as they do flock's: they may live on for
    seconds after the process is killed. NFS has it, too.
    """
    file = directory / LOCK
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in HELD:
                holder = os.read(descriptor, 1000).decode(errors="replace")
                os.close(descriptor)
                raise InputError(
                    f"{directory}: {holder or 'another process'} is at work in it; wait for its "
                    "end or stop it, or name another --output."
                ) from None
            sys.stderr.write(
                f"{directory}: its file system has no locks ({error.strerror}), so nothing keeps "
                "a second process out of it.\n"
            )
        if _same(descriptor, file):  # or its last holder took it away meanwhile
            os.truncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return descriptor
        os.close(descriptor)


def _same(descriptor: int, file: Path) -> bool:
    return file.exists() and os.path.samestat(os.fstat(descriptor), file.stat())


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
    _sweep_folders(directory)
    draft = directory.with_name(f".{directory.name}.{os.getpid()}.draft")
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"--output {directory} cannot be made ({error.strerror}).") from error
    try:
        with locked(draft):
            yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    try:
        draft.replace(directory)  # an empty folder gives way
    except OSError as error:
        raise InputError(
            f"--output {directory} cannot be written ({error.strerror}); what should be in it is "
            f"kept in {draft}."
        ) from error


def sweep_files(directory: Path) -> None:
    """Remove the draft files that killed processes left in a folder; it must be locked."""
    for draft in directory.glob(".*.draft"):
        if draft.is_file():
            draft.unlink()


def _sweep_folders(directory: Path) -> None:
    """Remove the drafts of a folder that killed processes left."""
    for draft in directory.parent.glob(".*.draft"):
        if draft.name.startswith(f".{directory.name}.") and _left(draft):
            shutil.rmtree(draft)


def _left(draft: Path) -> bool:
    """Whether nobody holds the lock of a draft folder any more."""
    try:
        with (draft / LOCK).open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held; or there is no lock, so that nothing is known
        return False
    return True


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
