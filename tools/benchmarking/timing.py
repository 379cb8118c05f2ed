"""Time, memory and kernel launches of work on one device; sides are timed in turn, A B A B ..."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeVar

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from detector.engine.meter import Meter
from detector.engine.step import TrainingStep
from detector.loss.normalizer import Divisors
from detector.structures import Losses, Targets

PARTS = ("assign", "forward", "loss", "backward", "optimizer")
LAUNCHES = ("LaunchKernel", "GraphLaunch")  # in the names of CUDA's calls, of every version
WARM_UP = 3  # runs before a CUDA graph is captured: libraries and allocations are settled then
Work = Callable[[], object]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Timing:
    """One run of some work, in seconds."""

    device: float  # until the device has done it
    host: float  # until the host has handed it over; on a CPU the same


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

    @staticmethod
    def of_times(above: Sequence[Timing], below: Sequence[Timing]) -> Ratio:
        """Device time of one side / that of another, round by round."""
        return Ratio.of([a.device / b.device for a, b in zip(above, below, strict=True)])


def in_turn(works: Mapping[str, Work], *, rounds: int, on: torch.device) -> dict[str, list[Timing]]:
    """The times of each work, round by round. All have run before; nothing is set up here."""
    times: dict[str, list[Timing]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(_timing(work, on))
    return times


def _timing(work: Work, on: torch.device) -> Timing:
    if on.type != "cuda":
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
        return Timing(seconds, seconds)
    # events: the host returns from a launch long before the GPU has done the work
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(on)
    began = time.perf_counter()
    start.record()
    work()
    end.record()
    host = time.perf_counter() - began
    end.synchronize()
    return Timing(start.elapsed_time(end) / 1000, host)


def extra_peak(work: Work, on: torch.device) -> int:
    """The most bytes that `work` holds at once beyond what was there before."""
    return with_extra_peak(work, on)[1]


def with_extra_peak(work: Callable[[], Result], on: torch.device) -> tuple[Result, int]:
    """What `work` returns, and its `extra_peak`."""
    if on.type == "cuda":
        before = torch.cuda.memory_allocated(on)
        torch.cuda.reset_peak_memory_stats(on)
        result = work()
        return result, torch.cuda.max_memory_allocated(on) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        result = work()
    assert run.profiler is not None and run.profiler.kineto_results is not None
    # a CPU has no counter of its peak: it is the maximum of the running sum of allocations
    moves = [e for e in run.profiler.kineto_results.events() if e.name() == "[memory]"]
    in_order = sorted(moves, key=lambda e: e.start_ns())
    return result, max(accumulate((e.nbytes() for e in in_order), initial=0))


@dataclass(frozen=True)
class Kernels:
    """What a CUDA device was given by one run of some work."""

    launches: int  # calls of the host: a kernel each, or a whole CUDA graph
    seconds: float  # the kernels, copies and fills by themselves, without gaps between them


def kernels(work: Work, on: torch.device) -> Kernels | None:
    """As torch's profiler counts them; None on a CPU, which launches nothing."""
    if on.type != "cuda":
        return None
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as run:
        work()
        torch.cuda.synchronize(on)
    rows = run.key_averages()
    launches = sum(row.count for row in rows if any(name in row.key for name in LAUNCHES))
    on_device = (row for row in rows if row.device_type == DeviceType.CUDA)
    busy = sum(row.self_device_time_total for row in on_device if not row.is_user_annotation)
    return Kernels(launches, busy / 1e6)


def as_graph(work: Work, on: torch.device) -> Work:
    """`work` captured as one CUDA graph: a single launch, always on the same memory."""
    # CUDA graphs are captured on a stream of their own, after runs on it: a first run allocates
    side, main = torch.cuda.Stream(on), torch.cuda.current_stream(on)
    side.wait_stream(main)
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            work()
    main.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


class StepParts:
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
        before, self.last = self.last, _now(self.on)
        self.seconds[part] += self.last - before

    def shares(self, step: Work) -> dict[str, float]:
        """The share of each part in one run of a watched step; they add up to 1."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.last = _now(self.on)
        step()
        self.end("optimizer")
        total = sum(self.seconds.values())
        return {part: seconds / total for part, seconds in self.seconds.items()}


class _WatchedScaler(torch.amp.GradScaler):
    """A step scales its loss right before it differentiates it."""

    def __init__(self, parts: StepParts, *, enabled: bool) -> None:
        super().__init__(parts.on.type, enabled=enabled)
        self.parts = parts

    def scale(self, outputs: Any) -> Any:
        self.parts.end("loss")
        return super().scale(outputs)


class _WatchedMeter(Meter):
    """A step counts a micro-batch right after it has differentiated its loss."""

    def __init__(self, parts: StepParts) -> None:
        super().__init__(parts.on)
        self.parts = parts

    def add(self, losses: Losses, targets: Targets, divisors: Divisors) -> None:
        self.parts.end("backward")
        super().add(losses, targets, divisors)


def _now(on: torch.device) -> float:
    """Seconds of a clock, read when the device has done all that it was given."""
    if on.type == "cuda":
        torch.cuda.synchronize(on)
    return time.perf_counter()
