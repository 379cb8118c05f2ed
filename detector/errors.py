"""Exceptions that are not bugs, and the exit codes of commands."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from detector.command_line import harmless_output

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # disk, quota, limit of one file


class InputError(ValueError):
    """Wrong input, in one sentence: file, key or id, what is wrong, what was expected, what to do.

    Exceptions that `exit_codes` does not know are bugs of this project and keep their traceback.
    """

    exit_code = 2


@contextmanager
def about(key: str) -> Iterator[None]:
    """What an object says of its arguments, told as an InputError about `key` of the config."""
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{key}: {error}") from None


class WorkerLost(RuntimeError):
    """A loader worker ended: the system killed it, or shared memory or open files ran out."""

    exit_code = 3


class Stopped(Exception):
    """The run ends on all ranks, because of a signal or of a fault on another rank."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code  # 128 + signal, or the exit code of the fault


class Diverged(ArithmeticError):
    """Loss, gradient or weights are not finite; the run directory has a report."""


@contextmanager
def exit_codes() -> Iterator[None]:
    """Around a command: an exception that ends it becomes one sentence on stderr and an exit code.

    1 for a training that diverged, 2 for wrong input or a full disk, 3 for a lost loader worker,
    130 for Ctrl-C. Silently: 141 if the reader of the output is gone (`| head`), and the code of
    another rank, which prints the sentence. Control characters in the output are escaped.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may be undecodable bytes
        sys.stdout.reconfigure(errors="backslashreplace")
    # a context, so that no frame of it stands in the way of a debugger or a traceback
    with harmless_output():
        try:
            try:
                yield
            except SystemExit:
                sys.stdout.flush()
                raise
        except (InputError, WorkerLost, Stopped, Diverged, OSError) as error:
            raise SystemExit(_told(error)) from None
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            raise SystemExit(130) from None


def _told(error: Exception) -> int:
    """The exit code for an exception that is no bug, once it is said; raises any other."""
    match error:
        case Diverged():
            sys.stderr.write(f"diverged: {error}\n")
            return 1
        case InputError() | WorkerLost():
            sys.stderr.write(f"error: {error}\n")
            return error.exit_code
        case Stopped():
            return error.exit_code
        case BrokenPipeError():
            # Python flushes it at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        case OSError(errno=errno.ENAMETOOLONG):
            sys.stderr.write(f"error: {error.filename}: {error.strerror}; shorten it.\n")
            return 2
        case OSError(errno=number) if number in NO_ROOM:
            sys.stderr.write(
                f"error: {error.filename or 'a file'} cannot be written whole: {error.strerror}. "
                "Make room, then give the command again (a training: with --resume); what was "
                "whole stays.\n"
            )
            return 2
    raise error
