"""Times and memory for the benchmark: sides that run in turn, extra peaks, parts of a step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from detector.engine.meter import Meter
from detector.engine.step import TrainingStep
from detector.loss.normalizer import Divisors
from detector.structures import Losses, Targets

PARTS = ("assign", "forward", "loss", "backward", "optimizer")
Work = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """A ratio made within each round, over the rounds."""

    median: float
    lowest: float
    highest: float

    @staticmethod
    def of(values: Sequence[float]) -> Ratio:
        """Of at least one round."""
        return Ratio(statistics.median(values), min(values), max(values))


def in_turn(works: Mapping[str, Work], *, rounds: int, on: torch.device) -> list[dict[str, float]]:
    """Seconds of each work in each round: A B A B ... They have run before; nothing is set up."""
    found = []
    for _ in range(rounds):
        marks = [now(on)]
        for work in works.values():
            work()
            marks.append(now(on))
        spent = (end - start for start, end in pairwise(marks))
        found.append(dict(zip(works, spent, strict=True)))
    return found


def extra_peak(work: Work, on: torch.device) -> int:
    """The most bytes that `work` holds at once beyond what was there before."""
    if on.type == "cuda":
        before = torch.cuda.memory_allocated(on)
        torch.cuda.reset_peak_memory_stats(on)
        work()
        return torch.cuda.max_memory_allocated(on) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        work()
    assert run.profiler is not None and run.profiler.kineto_results is not None
    moves = [e for e in run.profiler.kineto_results.events() if e.name() == "[memory]"]
    in_order = sorted(moves, key=lambda e: e.start_ns())
    return max(accumulate((e.nbytes() for e in in_order), initial=0))


def now(on: torch.device) -> float:
    """Seconds of a clock, read when the device has done all that it was given."""
    if on.type == "cuda":
        torch.cuda.synchronize(on)
    return time.perf_counter()


class Laps:
    """Seconds of the parts of one step, read where the step calls somebody between two of them.

    The step that runs is the real one; only its autocast, scaler and meter also look at the clock.
    """

    def __init__(self, on: torch.device) -> None:
        self.on = on
        self.meter = _WatchedMeter(self)
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.last = 0.0

    def watch(self, step: TrainingStep) -> None:
        """From now on the step ends its parts here; run it with `self.meter`."""
        inner = step.autocast

        @contextmanager
        def autocast() -> Iterator[None]:
            self.end("assign")
            with inner():
                yield
            self.end("forward")

        step.autocast = autocast
        step.scaler = _WatchedScaler(self, enabled=step.scaler.is_enabled())

    def end(self, part: str) -> None:
        """What passed since the last end belongs to `part`."""
        before, self.last = self.last, now(self.on)
        self.seconds[part] += self.last - before

    def shares(self, step: Work) -> dict[str, float]:
        """The share of each part in one run of a watched step; they add up to 1."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.last = now(self.on)
        step()
        self.end("optimizer")
        total = sum(self.seconds.values())
        return {part: seconds / total for part, seconds in self.seconds.items()}


class _WatchedScaler(torch.amp.GradScaler):
    """A step scales its loss right before it differentiates it."""

    def __init__(self, laps: Laps, *, enabled: bool) -> None:
        super().__init__(laps.on.type, enabled=enabled)
        self.laps = laps

    def scale(self, outputs: Any) -> Any:
        self.laps.end("loss")
        return super().scale(outputs)


class _WatchedMeter(Meter):
    """A step counts a micro-batch right after it has differentiated its loss."""

    def __init__(self, laps: Laps) -> None:
        super().__init__(laps.on)
        self.laps = laps

    def add(self, losses: Losses, targets: Targets, divisors: Divisors) -> None:
        self.laps.end("backward")
        super().add(losses, targets, divisors)
