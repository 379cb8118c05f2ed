"""Writing whole files, and locking and creating output folders; reading JSON."""

from __future__ import annotations

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


def occupied(directory: Path) -> bool:
    """Whether `directory` is a file, or a folder that holds more than a lock file."""
    if not directory.is_dir():
        return directory.exists()
    return any(path.name != LOCK for path in directory.iterdir())


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock `directory` against other processes during the block; create it if necessary.

    Raises InputError if it is locked, naming the host and process that hold it, and if it cannot be
    created or written to. At the end the lock file is removed, and the folder, too, if it is new
    and still empty. If the process is killed, on any host, the kernel releases the lock; the lock
    file that stays locks nothing.
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
    """The descriptor of the locked lock file; closing it releases the lock.

    lockf rather than flock: forked loader workers inherit a lock of flock, and may outlive a killed
    process by seconds. lockf also works on NFS.
    """
    file = directory / LOCK
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows either where another holds it
            holder = os.read(descriptor, 1000).decode(errors="replace")
            os.close(descriptor)
            raise InputError(
                f"{directory}: {holder or 'another process'} is at work in it; wait for its end or "
                "stop it, or name another --output."
            ) from None
        except OSError as error:
            sys.stderr.write(
                f"{directory}: its file system has no locks ({error.strerror}), so nothing keeps "
                "a second process out of it.\n"
            )
        # the last holder may have removed the file between opening and locking it
        if file.exists() and os.path.samestat(os.fstat(descriptor), file.stat()):
            os.truncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return descriptor
        os.close(descriptor)


@contextmanager
def new_directory(directory: Path, *, option: str = "--output") -> Iterator[Path]:
    """A draft folder, which is renamed to `directory` if the block ends without an error.

    Raises InputError if `directory` holds anything already, or cannot be created.

    option: of the command, which names the folder.
    """
    if occupied(directory):
        raise InputError(
            f"{option} {directory}: it holds something already, and nothing is overwritten; "
            f"choose another {option}."
        )
    for left in directory.parent.glob(".*.draft"):
        if left.name.startswith(f".{directory.name}.") and _abandoned(left):
            shutil.rmtree(left)
    draft = directory.with_name(f".{directory.name}.{os.getpid()}.draft")
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{option} {directory} cannot be made ({error.strerror}).") from error
    try:
        with locked(draft):
            yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    try:
        draft.replace(directory)  # replaces an empty folder
    except OSError as error:
        raise InputError(
            f"{option} {directory} cannot be written ({error.strerror}); what should be in it is "
            f"kept in {draft}."
        ) from error


def sweep_files(directory: Path) -> None:
    """Remove the draft files that killed processes left in a folder, which must be locked."""
    for draft in directory.glob(".*.draft"):
        if draft.is_file():
            draft.unlink()


def _abandoned(draft: Path) -> bool:
    """Whether the process that held the lock of a draft folder was killed."""
    try:
        with (draft / LOCK).open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or no lock file: the draft may be a moment old
        return False
    return True


def make_directory(directory: Path) -> None:
    """Create a folder if it does not exist; InputError if it cannot be created or written to."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {directory} cannot be made ({error.strerror}).") from error
    if not os.access(directory, os.W_OK):
        raise InputError(f"--output {directory} cannot be written to; choose another --output.")


def read_json(path: Path) -> Any:
    """The content of a JSON file; InputError if it cannot be read or is not JSON."""
    return parse_json(json_text(path), path)


def json_text(path: Path) -> str:
    """The text of a JSON file in UTF-8, UTF-16 or UTF-32, with or without a byte-order mark."""
    try:
        data = path.read_bytes()
        return data.decode(json.detect_encoding(data))  # as json.loads detects it
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: this is not a JSON file: {error}.") from error


def parse_json(text: str, path: Path) -> Any:
    """The content of a JSON text from the file `path`; InputError if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: this is not a JSON file: {error}.") from error


def read_object(
    path: Path, *keys: str, remedy: str = "restore it, or take its folder away"
) -> dict[str, Any]:
    """A JSON object that has at least `keys`; InputError if there is none in the file, or no file.

    remedy: what the error tells the user to do.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}.") from error
    except ValueError as error:
        raise InputError(
            f"{path}: it is not whole JSON ({error}); it was changed by hand or by a fault of the "
            f"disk: {remedy}."
        ) from None
    if not isinstance(content, dict) or not set(keys) <= content.keys():
        raise InputError(
            f"{path}: it should hold a JSON object{' with ' if keys else ''}{' and '.join(keys)}; "
            f"{remedy}."
        )
    return content


def write_json(path: Path, content: object) -> None:
    """Write `content` to `path` as JSON, by `write_text`; ValueError for NaN, which JSON lacks."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, which appears whole or not at all; OSError names it."""
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A draft file, which is renamed to `path` if the block ends without an error, else removed.

    An OSError of the block is raised again with `path` as its file name.
    """
    draft = path.with_name(f".{path.name}.draft")
    # left by a killed process; writing into it could change a hard-linked checkpoint
    draft.unlink(missing_ok=True)
    try:
        yield draft
        draft.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        draft.unlink(missing_ok=True)


def finite(value: float) -> float | None:
    """`value`, or None if it is NaN or infinite, which JSON cannot express."""
    return value if math.isfinite(value) else None
