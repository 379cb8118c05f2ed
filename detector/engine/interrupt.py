"""SIGINT and SIGTERM end a run after the step in progress, with its state saved."""

from __future__ import annotations

from types import FrameType, TracebackType

import torch

from detector.distributed import sum_over_ranks, world_size
from detector.signals import Handlers


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

    def agreed(self, device: torch.device) -> int | None:
        """128 + signal once any rank was told to stop, else None; all ranks ask together."""
        mine = 0 if self.received is None else 128 + self.received
        if world_size() == 1:
            return mine or None
        told = torch.zeros(256, device=device)
        told[mine] = 1
        codes = sum_over_ranks(told)[1:].nonzero().flatten().tolist()
        return codes[-1] + 1 if codes else None

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._patience -= 1
        if self._patience == 0:
            self._handlers.restore()
