"""The exceptions that are not bugs, and what a command does with them."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from detector.command_line import harmless_output

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # disk, quota, limit of one file


class InputError(ValueError):
    """One sentence for the user: file, key or id, what was found and expected, what to do.

    Anything else that is raised is a bug of ours and keeps its traceback.
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
    """A process that loads images is gone: the system killed it, or it had no room to hand over."""

    exit_code = 3


class Stopped(Exception):
    """The run ends on all ranks: by a signal, or by a fault that another rank tells of."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code  # 128 + signal, or that of the fault


class Diverged(ArithmeticError):
    """The loss is no longer a number; the run directory says where and how."""


def run_command(main: Callable[[], int]) -> int:
    """The exit code of `main`.

    1 for a training that diverged, 2 for wrong input or a full disk, 3 for a lost loader worker,
    130 for Ctrl-C, each with one sentence on stderr; silently 141 where whoever read the output has
    gone (`| head`), and another rank's code where that rank says the sentence.
    What it writes is shown harmless, whatever control characters names and files hold.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name need not be text in its encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    with harmless_output():
        return _exit_code(main)


def _exit_code(main: Callable[[], int]) -> int:
    try:
        code = main()
        sys.stdout.flush()
        return code
    except Diverged as error:
        sys.stderr.write(f"diverged: {error}\n")
        return 1
    except (InputError, WorkerLost) as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except Stopped as stopped:
        return stopped.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it at exit
        return 141
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            sys.stderr.write(f"error: {error.filename}: {error.strerror}; shorten it.\n")
            return 2
        if error.errno not in NO_ROOM:
            raise
        sys.stderr.write(
            f"error: {error.filename or 'a file'} cannot be written whole: {error.strerror}. Make "
            "room, then give the command again (a training: with --resume); what was whole stays.\n"
        )
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
