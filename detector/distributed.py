"""Rank, world size and sums over ranks; right with one process, where nothing is set up."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from detector.errors import InputError, Stopped, WorkerLost
from detector.signals import die_with_parent

Fault = InputError | WorkerLost | Stopped
FAULTS = (InputError, WorkerLost, Stopped)  # what a rank may meet alone
CODES = 256  # exit codes there are


def rank() -> int:
    """This process's number, 0 with one process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes the files and prints."""
    return rank() == 0


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The elementwise sum over all ranks; `tensor` itself with one process."""
    if world_size() == 1:
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total


def begin_sum(tensor: Tensor) -> Callable[[], Tensor]:
    """Begin a sum over all ranks; what is returned gives it, and on a GPU no host waits for it."""
    if world_size() == 1:
        return lambda: tensor
    total = tensor.clone()
    work = dist.all_reduce(total, async_op=True)

    def finish() -> Tensor:
        work.wait()
        return total

    return finish


def gather_objects(item: object) -> list[object]:
    """One (picklable) item of every rank, in the order of ranks, on every rank."""
    if world_size() == 1:
        return [item]
    items: list[object] = [None] * world_size()
    dist.all_gather_object(items, item)
    return items


def broadcast(tensors: Sequence[Tensor]) -> None:
    """Overwrite the tensors with those of the first rank."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def barrier() -> None:
    """Wait until every rank is here."""
    if world_size() > 1:
        dist.barrier()


def raise_together(fault: Fault | None) -> None:
    """Raise on every rank if any has a fault: its own on the first that has, `Stopped` elsewhere.

    All ranks call it at the same point. They tell each other on the CPU, so no GPU is waited for.
    """
    code = 0 if fault is None else fault.exit_code
    first = torch.tensor(rank() * CODES + code if code else world_size() * CODES)
    if world_size() > 1:
        dist.all_reduce(first, dist.ReduceOp.MIN)
    culprit, code = divmod(int(first), CODES)
    if fault is not None and culprit == rank():
        raise fault
    if code:
        raise Stopped(code)


@contextmanager
def together() -> Iterator[None]:
    """A fault of one rank within ends all ranks at the end; no rank may wait for others within."""
    fault = None
    try:
        yield
    except FAULTS as error:
        fault = error
    raise_together(fault)


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes if `torchrun` started this one: gloo for the CPU, nccl for GPUs."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield
        return
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        value = os.environ.get(name)
        if value is None or (name != "MASTER_ADDR" and not value.isdecimal()):
            found = "not there" if value is None else f"{value!r}, not a whole number"
            raise InputError(
                f"the environment has RANK and WORLD_SIZE, as of a process of torchrun, but {name} "
                f"is {found}: start with torchrun, or unset the two to train in one process."
            )
    if sys.platform == "linux" and "TORCHELASTIC_RUN_ID" in os.environ:
        # torchrun gives every rank a session of its own, so that they would outlive its SIGKILL
        # and go on training in a folder that another call resumes
        die_with_parent()
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(minutes=30))
    try:
        yield
    finally:
        dist.destroy_process_group()
