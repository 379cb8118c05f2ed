"""Where the runs of a sweep go: the GPUs, threads and loader processes that each of them has."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import torch

from detector.errors import InputError
from detector.lab.plan import Plan
from detector.lab.sweep import Run


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Workers, each with one run at a time, are dealt to the GPUs (or groups of them) in turn.

    gpus: names for CUDA_VISIBLE_DEVICES; without any, the runs share the cores by their threads.
    data_workers: the largest `data.workers` of the runs.
    own_threads: what a person wants for every process; None: a share of the cores.
    """

    workers: int
    gpus: tuple[str, ...]
    gpus_per_run: int
    cores: int
    data_workers: int
    own_threads: int | None = None

    @classmethod
    def of(cls, plan: Plan, gpus: Sequence[str], *, workers: int) -> Placement:
        """On this process's cores; InputError where the GPUs do not suffice for `gpus_per_run`."""
        if plan.gpus_per_run > 1:
            _check_groups(plan, len(gpus), workers)
        threads = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # others: of nested parts
        return cls(
            workers=workers,
            gpus=tuple(gpus),
            gpus_per_run=plan.gpus_per_run,
            cores=usable_cores(),
            data_workers=max(c.data.workers for v in plan.variants for c in v.configs),
            own_threads=(int(threads) if threads.isdigit() else 0) or None,
        )

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """The GPUs of a run; none without GPUs, and what makes no whole group is left out."""
        k = self.gpus_per_run
        return [self.gpus[n : n + k] for n in range(0, len(self.gpus) - k + 1, k)]

    @property
    def sharing(self) -> int:
        """The most runs that are on one GPU at a time; 1 without GPUs."""
        return math.ceil(self.workers / len(self.groups)) if self.gpus else 1

    @property
    def loaders(self) -> int:
        """The most loader processes that a process of a run gets.

        On a GPU its main process decodes nothing but needs a core, to keep the GPU busy.
        """
        return min(self.data_workers, self._share - 1) if self.gpus else self.data_workers

    @property
    def threads(self) -> int:
        """Of each process of a run: on a GPU what the loader processes leave of its cores."""
        if self.own_threads is not None:
            return self.own_threads
        return self._share - self.loaders if self.gpus else self._share

    def environments(self) -> list[dict[str, str]]:
        """Of each worker's processes."""
        common = {"OMP_NUM_THREADS": str(self.threads)}
        if self.gpus_per_run > 1:
            # seconds from a signal to torchrun's SIGKILL; a validation may outlast its 30
            common["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = "3600"
        if not self.gpus:
            return [common] * self.workers
        in_turn = islice(cycle(self.groups), self.workers)
        return [{"CUDA_VISIBLE_DEVICES": ",".join(group), **common} for group in in_turn]

    def describe(self) -> str:
        """For a person, before anything runs."""
        on = Counter(environment.get("CUDA_VISIBLE_DEVICES") for environment in self.environments())
        where = [f"{n} on GPU {names.replace(',', '+')}" for names, n in on.items() if names]
        asked = f" ({self.data_workers} asked for)" if self.loaders < self.data_workers else ""
        text = (
            f"{self.workers} at a time: {', '.join(where) or 'on the CPU'}; each process with "
            f"OMP_NUM_THREADS={self.threads} and data.workers of at most {self.loaders}{asked}; "
            f"cores: {self.cores}"
        )
        processes = self.workers * self.gpus_per_run
        if processes > self.cores:
            text += f"\ncareful: {processes} processes at a time are more than the cores"
        return text

    @property
    def _share(self) -> int:
        """Cores of one process, its loader included."""
        return max(1, self.cores // (self.workers * self.gpus_per_run))


@dataclass(frozen=True)
class Shard:
    """Every n-th run, beginning with the k-th: the shards 1/n to n/n are all runs."""

    k: int
    n: int

    def __str__(self) -> str:
        return f"{self.k}/{self.n}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "k/n"; InputError where k is not one of 1 to n."""
        found = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
        k, n = map(int, found.groups()) if found else (0, 0)
        if not 1 <= k <= n:
            raise InputError(f"--shard is {text}; it should be K/N, with K from 1 to N, as 2/8.")
        return cls(k, n)

    def of(self, runs: Sequence[Run]) -> list[Run]:
        """Its part of all runs."""
        return [*runs[self.k - 1 :: self.n]]


ALL = Shard(1, 1)


def visible_gpus() -> list[str]:
    """As CUDA_VISIBLE_DEVICES names them."""
    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else [str(index) for index in range(count)]
    return names[:count]


def usable_cores() -> int:
    """Of this process: a container or a scheduler may leave it fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_groups(plan: Plan, count: int, workers: int) -> None:
    k = plan.gpus_per_run
    if k > count:
        raise InputError(
            f"{plan.file}: gpus_per_run: found {k}, it should be at most the number of GPUs that "
            f"torch finds here, {count}; lower it (1: also without a GPU), for another --output."
        )
    if workers > count // k:
        # two process groups on one GPU would wait for each other's kernels in every all-reduce
        raise InputError(
            f"--workers is {workers}, it should be at most {count // k} for gpus_per_run {k} of "
            f"{plan.file} on {count} GPUs: only runs of a single GPU can share it; lower --workers."
        )
