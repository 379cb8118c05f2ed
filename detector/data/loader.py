"""Loading batches in worker processes: decoded, augmented, padded, and exactly resumable."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from detector.data.batch import Sample, collate
from detector.data.coco import CocoIndex
from detector.data.images import read_image
from detector.data.sampling import plan_epoch, seeded, split_plan, stable_hash
from detector.data.transforms import Transform
from detector.errors import InputError, WorkerLost
from detector.structures import Batch

SHARED = Path("/dev/shm")  # where workers put batches for the main process, on Linux
NO_ROOM_EXIT = 28  # exit code of a worker that cannot hand a batch over; the value of ENOSPC
PREFETCHED = 2  # batches that each worker prefetches, torch's default


class Address(NamedTuple):
    """The row of an image, and the epoch; with the seed they determine every pixel of a sample."""

    epoch: int
    row: int


@dataclass(frozen=True, eq=False)
class DetectionDataset(Dataset[Sample]):
    """Samples by address. Under fork, workers share the index; elsewhere each gets a copy."""

    index: CocoIndex
    transform: Transform
    seed: int = 0

    def __getitem__(self, address: Address) -> Sample:
        """The augmented sample, whose random numbers depend on (seed, epoch, row) alone.

        Raises InputError for an image that cannot be read, even if the index skips invalid images:
        it skips those that were invalid before training, not files that broke later.
        """
        generator = seeded(self.seed, address.epoch, address.row, purpose="pixels")

        def more() -> Sample:
            row = int(torch.randint(len(self), (), generator=generator))
            return self._untouched(Address(address.epoch, row))

        return self.transform(self._untouched(address), generator, more)

    def _untouched(self, address: Address) -> Sample:
        """The sample as it is in its file."""
        epoch, row = address
        truth = self.index.truth(row)
        return Sample(
            image=read_image(self.index.path(row), self.index.size(row), self.index.decoding),
            boxes=truth.boxes,
            labels=truth.labels,
            crowd=truth.crowd,
            image_id=int(self.index.image_ids[row]),
            original_size=self.index.size(row),
            key=stable_hash(self.seed, epoch, row, purpose="key"),
        )

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, eq=False)
class _Batches(Dataset[Batch | InputError]):
    """Batches by their lists of addresses, collated in the worker.

    An InputError is returned, because torch would replace its message by a whole traceback.
    """

    dataset: DetectionDataset

    def __getitem__(self, addresses: list[Address]) -> Batch | InputError:
        try:
            samples = [self.dataset[address] for address in addresses]
        except InputError as error:
            return error
        return collate(samples)


@dataclass(frozen=True, eq=False)
class BatchLoader:
    """The batches of a list of addresses, in order."""

    dataset: DetectionDataset
    addresses: list[list[Address]]
    workers: int
    pin_memory: bool

    def __len__(self) -> int:
        return len(self.addresses)

    def __iter__(self) -> Iterator[Batch]:
        """Yields the batches.

        Raises InputError, naming the file, in place of a batch with an unreadable image, and
        WorkerLost in place of a batch whose worker process has ended.
        """
        loader: DataLoader = DataLoader(
            _Batches(self.dataset),
            sampler=self.addresses,
            batch_size=None,
            num_workers=self.workers,
            pin_memory=self.pin_memory,
            # its own generator: otherwise each new loader would draw from the global one, and a
            # resumed run, which makes more loaders, would draw other numbers from it later
            generator=torch.Generator(),
            worker_init_fn=_begin_worker,
        )
        others, workers = set(multiprocessing.active_children()), set()
        batches: Iterator[Any] | None = None
        try:
            with _no_alarm():
                batches = iter(loader)
            workers = set(multiprocessing.active_children()) - others
            for batch in batches:
                if isinstance(batch, InputError):
                    raise batch
                yield batch
        except (RuntimeError, OSError) as error:
            workers |= set(multiprocessing.active_children()) - others
            if not self.workers or not _is_loss_of_worker(error):
                raise
            exit_codes = [worker.exitcode for worker in workers]
            for worker in workers:
                worker.kill()  # it ignores other signals, and Python waits for it at exit
            raise WorkerLost(_loss(exit_codes)) from None
        finally:
            # A traceback keeps this frame and torch's iterator alive. The garbage collector would
            # later close the iterator's queues first, and then wait in vain for each worker.
            batches = None


def _is_loss_of_worker(error: Exception) -> bool:
    """Whether torch's loader raised because a worker ended, or open files or memory ran out."""
    if isinstance(error, OSError):
        return error.errno in (errno.EMFILE, errno.ENOSPC)  # shared memory is full
    return str(error).startswith(("DataLoader worker (pid", "Too many open files"))


@contextmanager
def _no_alarm() -> Iterator[None]:
    """Undo torch's handler of SIGCHLD, which raises wherever the main process happens to be.

    In the middle of a step no state could be saved. Without the handler, the loader still checks
    its workers every five seconds while it waits for a batch.
    """
    before = signal.getsignal(signal.SIGCHLD)
    yield
    if signal.getsignal(signal.SIGCHLD) is not before:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


def _begin_worker(worker: int) -> None:
    """Ignore signals, and exit if a batch cannot be handed over.

    Ctrl-C reaches the whole process group; the main process answers it and ends its workers. After
    an error while handing over, in one of its threads, multiprocessing would only print a traceback
    and drop the batch, for which the main process would wait for ever.
    """
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    Queue._on_queue_feeder_error = _leave  # type: ignore[attr-defined]
    sys.excepthook = _leave  # called in the thread that hands over open files


def _leave(*_: object) -> None:
    os._exit(NO_ROOM_EXIT)  # sys.exit would end only the thread


def _loss(exit_codes: Sequence[int | None]) -> str:
    """A sentence on how a worker ended; if none has ended, open files ran out."""
    # the lowest is a signal, if there is one: negative exit codes are signals
    code = min((code for code in exit_codes if code), default=NO_ROOM_EXIT)
    if code in (NO_ROOM_EXIT, -signal.SIGBUS):
        what = (
            f"had no room to hand a batch over: shared memory ({SHARED}) or open files ran out; "
            "give a container more by --shm-size, raise ulimit -n"
        )
    elif code < 0:
        what = (
            f"was killed by {signal.Signals(-code).name}, as the system does when memory runs out; "
            "use fewer data.workers"
        )
    else:
        what = f"ended by itself with exit code {code}; see what it wrote"
    return f"a process that loads images {what}, or set data.workers=0 to load without them."


@dataclass(frozen=True, eq=False)
class StepLoader:
    """Lists of this rank's micro-batches, one list for each optimizer step."""

    batches: BatchLoader
    accumulate: int

    def __len__(self) -> int:
        """Remaining steps of the epoch."""
        return len(self.batches) // self.accumulate

    def __iter__(self) -> Iterator[list[Batch]]:
        batches = iter(self.batches)
        while step := list(islice(batches, self.accumulate)):
            yield step


def train_loader(
    dataset: DetectionDataset,
    *,
    batch_size: int,
    epoch: int,
    accumulate: int = 1,
    rank: int = 0,
    world_size: int = 1,
    skip_steps: int = 0,
    workers: int = 0,
    pin_memory: bool = False,
    group_by_aspect: bool = True,
) -> StepLoader:
    """One epoch of this rank, from step `skip_steps` on; skipped images are not decoded.

    `batch_size` counts the images of a step over all ranks and micro-batches; which images these
    are does not depend on how they are divided. Raises InputError if that division is impossible or
    the data set is smaller than a batch.
    """
    plan = plan_epoch(
        dataset.index.sizes,
        batch_size=batch_size,
        seed=dataset.seed,
        epoch=epoch,
        group_by_aspect=group_by_aspect,
    )
    own = split_plan(plan, accumulate=accumulate, rank=rank, world_size=world_size)[skip_steps:]
    micro_batches = own.reshape(-1, own.shape[-1]).tolist()
    addresses = [[Address(epoch, row) for row in rows] for rows in micro_batches]
    return StepLoader(BatchLoader(dataset, addresses, workers, pin_memory), accumulate)


def evaluation_loader(
    dataset: DetectionDataset,
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
) -> BatchLoader:
    """Every image exactly once over all ranks: rank r has rows r, r + world_size, ...

    Wide images come last, so that few batches mix shapes and need much padding. The last batch may
    be smaller.
    `batch_size` counts the images of one batch of one rank.
    """
    rows = np.arange(rank, len(dataset), world_size)
    sizes = dataset.index.sizes[rows]
    rows = rows[np.argsort(sizes[:, 1] > sizes[:, 0], kind="stable")].tolist()
    addresses = [
        [Address(0, row) for row in rows[start : start + batch_size]]
        for start in range(0, len(rows), batch_size)
    ]
    return BatchLoader(dataset, addresses, workers, pin_memory)
