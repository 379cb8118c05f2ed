"""What is CUDA's alone, and what stands in for it on the CPU."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from benchmarking.timing import as_graph, extra_peak
from torch import nn
from waits import Waits


@contextmanager
def no_waiting(device: torch.device) -> Iterator[None]:
    """In here nothing may wait for the device: CUDA raises; the CPU's operations are looked at."""
    if device.type == "cpu":
        with Waits() as waits:
            yield
        assert waits.found == []
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def peak(work: Callable[[], object], device: torch.device) -> int:
    """The most bytes that `work` holds at once beyond what was there before."""
    gc.collect()  # or what is freed meanwhile would hide some of them
    return extra_peak(work, device)


def moved(item: Any, device: torch.device) -> Any:
    """A tensor, a module or a dataclass of tensors on the device; whatever has none as it is."""
    if isinstance(item, torch.Tensor | nn.Module):
        return item.to(device)
    if not is_dataclass(item):
        return item
    inner = {f.name: moved(getattr(item, f.name), device) for f in fields(item) if f.init}
    return replace(item, **inner)


def as_one_graph(work: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """What replays `work`: a CUDA graph of it; on the CPU it is run again."""
    return work if device.type == "cpu" else as_graph(work, device)
