"""The exceptions that are not bugs, and what a command does with them."""

from __future__ import annotations

import sys
from collections.abc import Callable


class InputError(ValueError):
    """One sentence for the user: file, key or id, what was found and expected, what to do.

    Anything else that is raised is a bug of ours and keeps its traceback.
    """


class Diverged(ArithmeticError):
    """The loss is no longer a number; the run directory says where and how."""


def run_command(main: Callable[[], int]) -> int:
    """The exit code of `main`.

    1 for a training that diverged, 2 for wrong input, 130 for Ctrl-C, each with one sentence on
    stderr.
    """
    try:
        return main()
    except Diverged as error:
        sys.stderr.write(f"diverged: {error}\n")
        return 1
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
