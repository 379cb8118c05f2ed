"""SIGINT and SIGTERM end a run after the step in progress, with its state saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import TypeVar

from detector.distributed import FAULTS, Fault, leave_together
from detector.errors import Stopped
from detector.signals import Handlers

T = TypeVar("T")


class Interrupt:
    """A context in which two signals are remembered; a third one acts as it always does.

    People press Ctrl-C twice, and a state half written would be a state lost.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._patience = 2
        self._handlers = Handlers(self._remember)

    def __enter__(self) -> Interrupt:
        self._handlers.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handlers.restore()

    def heed(self, steps: Iterable[T]) -> Iterator[T]:
        """The steps, for as long as every rank has its next one and none was told to stop.

        On all ranks at the same step it raises `Stopped` for a signal, and for what a loader raises
        that same fault where it happened and `Stopped` elsewhere.
        """
        steps = iter(steps)
        while True:
            step: T | None = None
            fault: Fault | None = None if self.received is None else Stopped(128 + self.received)
            try:
                step = next(steps, None)
            except FAULTS as error:
                fault = error
            leave_together(fault)
            if step is None:
                return
            yield step

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._patience -= 1
        if self._patience == 0:
            self._handlers.restore()
