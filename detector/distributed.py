"""Communication between ranks, and how all end together; everything also works in one process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from detector.errors import InputError, Stopped, WorkerLost
from detector.signals import Handlers, die_with_parent

T = TypeVar("T")
Fault = InputError | WorkerLost | Stopped
FAULTS = (InputError, WorkerLost, Stopped)  # what may happen on one rank alone
CODES = 256  # how many exit codes there are


def rank() -> int:
    """The rank of this process, 0 with one process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes the files and prints."""
    return rank() == 0


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The elementwise sum over all ranks; `tensor` itself with one process."""
    return begin_sum(tensor)()


def begin_sum(tensor: Tensor) -> Callable[[], Tensor]:
    """Begin a sum over all ranks; the returned function gives it. On a GPU the host never waits."""
    if world_size() == 1:
        return lambda: tensor
    total = tensor.clone()  # all_reduce overwrites its argument
    work = dist.all_reduce(total, async_op=True)

    def finish() -> Tensor:
        work.wait()
        return total

    return finish


def gather_objects(item: object) -> list[object]:
    """The picklable items of all ranks, in order of rank, on every rank."""
    if world_size() == 1:
        return [item]
    items: list[object] = [None] * world_size()
    dist.all_gather_object(items, item)
    return items


def broadcast(tensors: Sequence[Tensor]) -> None:
    """Overwrite the tensors with those of rank 0."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def barrier() -> None:
    """Wait until every rank is here."""
    if world_size() > 1:
        dist.barrier()


def raise_together(fault: Fault | None) -> None:
    """If any rank has a fault, raise it on the first that has one, and `Stopped` on all others.

    All ranks must call it at the same point. They communicate on the CPU, so no GPU is waited for.
    """
    code = 0 if fault is None else fault.exit_code
    # rank and exit code in one number, of which the minimum is the lowest rank with a fault
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
    """A fault of one rank in the block is raised on all ranks at its end.

    Ranks must not wait for each other inside the block.
    """
    fault = None
    try:
        yield
    except FAULTS as error:
        fault = error
    raise_together(fault)


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
            # at every step, even without a fault: a rank that ends alone leaves the others waiting
            with together():
                if self.received is not None:
                    # 128 + signal is the exit code that shells report for a process so ended
                    raise Stopped(128 + self.received)
                step = next(steps, None)
            if step is None:
                return
            yield step

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        self.received = signum
        self._ignored -= 1
        if self._ignored == 0:
            self._handlers.restore()


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes if torchrun started this one: gloo for the CPU, nccl for GPUs.

    Raises InputError if torchrun's environment variables are incomplete or wrong.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield
        return
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        value = os.environ.get(name)
        if value is None or (name != "MASTER_ADDR" and not value.isdecimal()):
            state = "not there" if value is None else f"{value!r}, not a whole number"
            raise InputError(
                f"the environment has RANK and WORLD_SIZE, as of a process of torchrun, but {name} "
                f"is {state}: start with torchrun, or unset the two to train in one process."
            )
    if sys.platform == "linux" and "TORCHELASTIC_RUN_ID" in os.environ:
        # torchrun starts each rank in a session of its own. After SIGKILL of torchrun the ranks
        # would go on training in a folder that another process may resume.
        die_with_parent()
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    # 30 minutes: rank 0 alone computes the COCO metrics while the others wait
    dist.init_process_group(backend, timeout=timedelta(minutes=30))
    try:
        yield
    finally:
        dist.destroy_process_group()
