"""SIGINT and SIGTERM end a run after the current step, with its state saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

from detector.distributed import FAULTS, Fault, raise_together
from detector.errors import Stopped
from detector.signals import Handlers

T = TypeVar("T")


class Interrupt:
    """A context in which the first two signals are only remembered; a third ends the process.

    Two, because people press Ctrl-C twice, and the second press must not end the saving that the
    first one started.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._ignored = 2  # signals still to be ignored
        self._handlers = Handlers(self._remember)

    def __enter__(self) -> Interrupt:
        self._handlers.install()
        return self

    def __exit__(self, *error: object) -> None:
        self._handlers.restore()

    def until_stopped(self, steps: Iterable[T]) -> Iterator[T]:
        """The items of `steps`, until they end or any rank received a signal or met a fault.

        Raises on all ranks before the same step: `Stopped` after a signal; after a fault of a
        loader, that fault on its own rank and `Stopped` on the others.
        """
        steps = iter(steps)
        while True:
            step: T | None = None
            # 128 + signal is the exit code that shells report for a process ended by a signal
            fault: Fault | None = None if self.received is None else Stopped(128 + self.received)
            try:
                step = next(steps, None)
            except FAULTS as error:
                fault = error
            # at every step, even without a fault: a rank that ends alone leaves the others waiting
            raise_together(fault)
            if step is None:
                return
            yield step

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        self.received = signum
        self._ignored -= 1
        if self._ignored == 0:
            self._handlers.restore()
