"""Processes that several threads wait for, and the signals that end them early."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import NamedTuple

import detector
from detector.signals import Handlers, die_with_parent


def import_path() -> dict[str, str]:
    """Environment by which `python -m detector` is this package in a child, in any folder.

    An installed one is found anyway, and its folder must not come before Python's own modules.
    """
    home, path = str(Path(detector.__file__).parents[1]), os.environ.get("PYTHONPATH", "")
    if home != sysconfig.get_path("purelib"):
        path = os.pathsep.join(filter(None, [home, path]))
    # or a folder `detector` in the working directory would be taken for it (from Python 3.11 on)
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


class Ended(NamedTuple):
    """How a process ended."""

    code: int | None  # None: a signal to us came first, so that it never began
    seconds: float


class Processes:
    """A context in which SIGINT and SIGTERM go to all processes in progress, and no other begins.

    Each process has a session of its own. In ours, Ctrl-C in a terminal would reach it twice: from
    the terminal and from here.
    """

    def __init__(self) -> None:
        self.received: int | None = None  # the last signal
        self._in_progress: set[subprocess.Popen[bytes]] = set()
        self._starting = threading.RLock()  # a second signal may meet the first one's handler
        self._handlers = Handlers(self._pass_on)

    def __enter__(self) -> Processes:
        self._handlers.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handlers.restore()

    def call(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Ended:
        """Run `command` to its end, its output added to `log`, `environment` over our own."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            # a signal between Popen and the note of it below would miss the new process
            with self._starting:
                if self.received is not None:
                    return Ended(None, 0.0)
                process = subprocess.Popen(
                    command,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **import_path(), **environment},
                    start_new_session=True,
                    # or a killed sweep leaves a training that a new one meets in its folder
                    preexec_fn=die_with_parent if sys.platform == "linux" else None,
                )
                self._in_progress.add(process)
            began = time.perf_counter()
            code = process.wait()
        self._in_progress.discard(process)
        return Ended(code, time.perf_counter() - began)

    def _pass_on(self, signum: int, frame: FrameType | None) -> None:
        with self._starting:
            self.received = signum
            for process in tuple(self._in_progress):
                process.send_signal(signum)
