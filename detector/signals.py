"""SIGINT and SIGTERM in other hands for a while, and a death that follows the parent's."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Callable
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


class Handlers:
    """One handler for both, until the ones before are put back; of the main thread only."""

    def __init__(self, handler: Callable[[int, FrameType | None], None]) -> None:
        self._handler = handler
        self._before: dict[int, object] = {}

    def install(self) -> None:
        """From here on signals go to the handler."""
        for number in STOPPING:
            self._before[number] = signal.signal(number, self._handler)

    def restore(self) -> None:
        """Put back what was there; again, it does nothing."""
        while self._before:  # a handler that is called in between may do the same
            number, handler = self._before.popitem()
            signal.signal(number, handler)  # type: ignore[arg-type]


def die_with_parent() -> None:
    """From here on this process is killed when its parent ends; on Linux only."""
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
