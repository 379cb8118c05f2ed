"""Time, memory and kernel launches of work on one device; sides are timed in turn, A B A B ..."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from detector.engine.step import TrainingStep

PARTS = ("assign", "forward", "loss", "backward", "optimizer")
LAUNCHES = ("LaunchKernel", "GraphLaunch")  # in the names of CUDA's calls, of every version
WARM_UP = 3  # runs before a CUDA graph is captured: libraries and allocations are settled then
Work = Callable[[], object]
Figures = dict[str, Any]  # as they are written to JSON


class Timing(NamedTuple):
    """One run of some work, in seconds."""

    device: float  # until the device has done it
    host: float  # until the host has handed it over; on a CPU the same


def spread(values: Sequence[float]) -> Figures:
    """The median and the range of a figure that each round has."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def ratio(above: Sequence[Timing], below: Sequence[Timing]) -> Figures:
    """Device time of one side / that of another, made within each round."""
    return spread([a.device / b.device for a, b in zip(above, below, strict=True)])


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
    if on.type == "cuda":
        before = torch.cuda.memory_allocated(on)
        torch.cuda.reset_peak_memory_stats(on)
        work()
        return torch.cuda.max_memory_allocated(on) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        work()
    assert run.profiler is not None and run.profiler.kineto_results is not None
    # a CPU has no counter of its peak: it is the maximum of the running sum of allocations
    moves = [e for e in run.profiler.kineto_results.events() if e.name() == "[memory]"]
    in_order = sorted(moves, key=lambda e: e.start_ns())
    return max(accumulate((e.nbytes() for e in in_order), initial=0))


def kernels(work: Work, on: torch.device) -> Figures:
    """What torch's profiler sees a CUDA device do in one run; None on a CPU.

    launches: calls of the host, a kernel each or a whole CUDA graph. kernel_milliseconds: kernels,
    copies and fills by themselves, without gaps between them.
    """
    if on.type != "cuda":
        return {"kernel_milliseconds": None, "launches": None}
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as run:
        work()
        torch.cuda.synchronize(on)
    rows = run.key_averages()
    launches = sum(row.count for row in rows if any(name in row.key for name in LAUNCHES))
    on_device = (row for row in rows if row.device_type == DeviceType.CUDA)
    busy = sum(row.self_device_time_total for row in on_device if not row.is_user_annotation)
    return {"kernel_milliseconds": busy / 1000, "launches": launches}


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


def part_shares(step: TrainingStep, work: Work, on: torch.device) -> dict[str, float]:
    """The share of each of PARTS in the time of `work`, one run of `step`; they add up to 1.

    The device is waited for around each part. torch.profiler could read the ranges without, but
    kernels of a backward pass, launched by another thread, belong to none of its ranges.
    """
    seconds = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def clock(part: str) -> Iterator[None]:
        began = _now(on)
        yield
        seconds[part] += _now(on) - began

    step.part, usual = clock, step.part
    began = _now(on)
    work()
    total = _now(on) - began
    step.part = usual
    seconds["optimizer"] = total - sum(seconds.values())
    return {part: own / total for part, own in seconds.items()}


def _now(on: torch.device) -> float:
    """Seconds of a clock, read when the device has done all that it was given."""
    if on.type == "cuda":
        torch.cuda.synchronize(on)
    return time.perf_counter()
