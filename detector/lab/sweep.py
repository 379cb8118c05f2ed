"""Runs in processes of their own, several at a time, that survive a kill."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from detector.files import read_object, write_json
from detector.lab.processes import Processes
from detector.lab.results import RunnerTime


@dataclass(frozen=True)
class Stage:
    """A command, and what it leaves when it is done, whole or not at all."""

    command: tuple[str, ...]
    product: Path | None = None  # None, of a first stage only: state.json says that it is done
    source: Path | None = None  # a product that is older than this file is out of date


@dataclass(frozen=True)
class Run:
    """One training, and what is done with it afterwards."""

    variant: str
    seed: int
    directory: Path
    stages: tuple[Stage, ...]

    @property
    def name(self) -> str:
        """What a person calls it; unique in an ablation."""
        return f"{self.variant}, seed {self.seed}"

    @property
    def log(self) -> Path:
        """Beside its directory."""
        return self.directory.with_name(f"{self.directory.name}.log")


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    code: int | None  # of the last process, 0 if all is done; None: a signal to the sweep ended it
    seconds: float | None  # of all its processes but those killed with a sweep; None: not known
    trained: bool = False  # its first stage is done, whatever became of the others


class _Worker:
    """A slot for one run at a time."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.busy = 0.0  # seconds of processes
        self.free_since = 0.0  # when the last one ended, by time.perf_counter


class Sweep:
    """What is finished is not run again, unless its folder was deleted; the half-done goes on.

    folder: gets state.json, seconds by name of all runs whose first stage is done.
    environments: of each worker's processes, over our own; as many runs go on at a time.
    """

    def __init__(
        self,
        folder: Path,
        *,
        environments: Sequence[Mapping[str, str]],
        say: Callable[[str], None],
    ) -> None:
        self.state_file = folder / "state.json"
        self.say = say
        self._processes = Processes()
        self._workers = [_Worker(environment) for environment in environments]
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)
        self._saving = threading.Lock()
        self._finished = read_finished(self.state_file)
        self._wall = self._idle = 0.0

    def __call__(self, runs: Sequence[Run]) -> dict[Run, Outcome]:
        """Do all runs; one that fails does not stop the others, SIGINT or SIGTERM stops them all.

        After such a signal `received` is its number.
        """
        began, outcomes = time.perf_counter(), self._finished_before(runs)
        for worker in self._workers:
            worker.free_since = began
        with self._processes, ThreadPoolExecutor(len(self._workers)) as pool:
            futures = {pool.submit(self._perform, run): run for run in runs if run not in outcomes}
            for future in as_completed(futures):
                run, outcome = futures[future], future.result()
                outcomes[run] = outcome
                if outcome.code is not None:
                    self._report(run, outcomes, len(runs))
        ended = time.perf_counter()
        self._wall += ended - began
        self._idle += sum(ended - worker.free_since for worker in self._workers)
        return {run: outcomes[run] for run in runs}  # in the order of runs, not of their ends

    @property
    def received(self) -> int | None:
        """The signal that stopped the sweep."""
        return self._processes.received

    def runner_time(self) -> RunnerTime:
        """Where the time of all calls so far went."""
        busy = sum(worker.busy for worker in self._workers)
        return RunnerTime.of(len(self._workers), wall=self._wall, busy=busy, idle=self._idle)

    def seconds(self, run: Run) -> float | None:
        """How long a run took whose training is finished; None for another."""
        return self._finished.get(run.name)

    def _finished_before(self, runs: Sequence[Run]) -> dict[Run, Outcome]:
        for run in runs:
            if not run.directory.is_dir():  # deleted, or moved away
                self._finished.pop(run.name, None)
        outcomes = {
            run: Outcome(0, self.seconds(run), trained=True)
            for run in runs
            if all(self._done(run, stage) for stage in run.stages)
        }
        if outcomes:
            self.say(f"{len(outcomes)}/{len(runs)}  finished before")
        return outcomes

    def _perform(self, run: Run) -> Outcome:
        """All stages that are not done; the first failure is the run's."""
        worker, seconds = self._free.get(), self.seconds(run) or 0.0
        try:
            for stage in [stage for stage in run.stages if not self._done(run, stage)]:
                _set_aside(stage.product)
                ended = self._processes.call(stage.command, run.log, worker.environment)
                worker.busy += ended.seconds
                worker.free_since = time.perf_counter()
                seconds += ended.seconds
                if ended.code != 0:
                    # it ended by the signal that we passed on, which is no failure of the run
                    code = None if self.received else ended.code
                    return Outcome(code, seconds, trained=run.name in self._finished)
                self._finish(run, seconds)
        finally:
            self._free.put(worker)
        return Outcome(0, seconds, trained=True)

    def _done(self, run: Run, stage: Stage) -> bool:
        if stage.product is None:
            return run.name in self._finished
        return stage.product.exists() and not _stale(stage.product, stage.source)

    def _finish(self, run: Run, seconds: float) -> None:
        with self._saving:
            self._finished[run.name] = seconds
            write_json(self.state_file, self._finished)  # after each: a kill may come at any time

    def _report(self, run: Run, outcomes: Mapping[Run, Outcome], total: int) -> None:
        outcome, done = outcomes[run], len(outcomes)
        words = "finished" if outcome.code == 0 else f"failed with exit code {outcome.code}"
        mean = sum(ended.seconds or 0.0 for ended in outcomes.values()) / done
        left = clock(mean * (total - done) / len(self._workers))
        self.say(
            f"{done}/{total}  {run.name}: {words} after {outcome.seconds or 0:.0f} s  "
            f"about {left} left"
        )


def read_finished(file: Path) -> dict[str, float]:
    """Seconds by name of the runs whose training is finished; empty where there is no file."""
    again = "delete it, and what is finished is only looked at again"
    return read_object(file, remedy=again) if file.exists() else {}


def _stale(product: Path, source: Path | None) -> bool:
    """Whether the source was written after the product."""
    if source is None or not source.exists():
        return False
    return product.stat().st_mtime_ns < source.stat().st_mtime_ns


def _set_aside(product: Path | None) -> None:
    """Rename what is out of date to NAME.old-1, -2 …: a person may have looked at it."""
    if product is not None and product.exists():
        count = 1
        while (aside := product.with_name(f"{product.name}.old-{count}")).exists():
            count += 1
        product.rename(aside)


def clock(seconds: float) -> str:
    """H:MM:SS"""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
