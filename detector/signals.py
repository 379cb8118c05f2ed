"""Temporary handlers of SIGINT and SIGTERM, and processes that end with their parent."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Callable
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


class Handlers:
    """One handler for both signals until `restore`; Python allows it in the main thread only."""

    def __init__(self, handler: Callable[[int, FrameType | None], None]) -> None:
        self._handler = handler
        self._before: dict[int, object] = {}

    def install(self) -> None:
        """Install the handler."""
        for signum in STOPPING:
            self._before[signum] = signal.signal(signum, self._handler)

    def restore(self) -> None:
        """Put the earlier handlers back; a second call does nothing."""
        while self._before:  # not a for loop: a signal in between may call restore as well
            signum, handler = self._before.popitem()
            signal.signal(signum, handler)  # type: ignore[arg-type]


def die_with_parent() -> None:
    """Have Linux kill this process when its parent ends."""
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
