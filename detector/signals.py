"""SIGINT and SIGTERM in other hands for a while."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)


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
