"""Signals go to one handler, and afterwards to the ones before."""

import os
import signal
from types import FrameType

import pytest

from detector.signals import STOPPING, Handlers


def test_the_handlers_before_are_put_back() -> None:
    received: list[int] = []
    before = [signal.getsignal(number) for number in STOPPING]
    handlers = Handlers(lambda number, frame: received.append(number))
    handlers.install()
    for number in STOPPING:
        os.kill(os.getpid(), number)
    handlers.restore()
    handlers.restore()
    assert received == list(STOPPING)
    assert [signal.getsignal(number) for number in STOPPING] == before


def test_a_signal_while_they_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler puts them back, too: as a second Ctrl-C does at the end of a training."""
    before = [signal.getsignal(number) for number in STOPPING]

    def handle(number: int, frame: FrameType | None) -> None:
        handlers.restore()

    handlers = Handlers(handle)
    handlers.install()
    put_back = signal.signal

    def interrupted(number: int, handler: object) -> object:
        monkeypatch.setattr(signal, "signal", put_back)
        handle(number, None)
        return put_back(number, handler)  # type: ignore[arg-type]

    monkeypatch.setattr(signal, "signal", interrupted)
    handlers.restore()
    assert [signal.getsignal(number) for number in STOPPING] == before
