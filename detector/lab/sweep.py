"""Runs that train in processes of their own, several at a time, and survive a kill."""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from detector.files import write_json

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


@dataclass(frozen=True)
class Run:
    """One training."""

    variant: str
    seed: int
    directory: Path
    command: tuple[str, ...]

    @property
    def name(self) -> str:
        """What a person calls it; unique in an ablation."""
        return f"{self.variant}, seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    code: int  # of the process; 0 is a finished training
    seconds: float  # of all its processes together


class Sweep:
    """Finished runs are not run again; half-done ones go on.

    folder: gets state.json, which says which runs are finished, and the runs' logs.
    devices: the GPUs to share out, one run on each; without any, the cores are shared.
    """

    def __init__(
        self, folder: Path, *, workers: int, devices: Sequence[int], say: Callable[[str], None]
    ) -> None:
        self.state_file = folder / "state.json"
        self.workers = workers
        self.say = say
        self._slots: queue.SimpleQueue[Mapping[str, str]] = queue.SimpleQueue()
        for number in range(workers):
            self._slots.put(_environment(number, workers, devices))
        self._saving = threading.Lock()
        self._finished: dict[str, float] = {}
        if self.state_file.exists():
            self._finished = json.loads(self.state_file.read_text(encoding="utf-8"))

    def __call__(self, runs: Sequence[Run]) -> dict[Run, Outcome]:
        """Train all runs; a run that fails does not stop the others."""
        began, outcomes = time.perf_counter(), {}
        with ThreadPoolExecutor(self.workers) as pool:
            futures = {pool.submit(self._train, run): run for run in runs}
            try:
                for future in as_completed(futures):
                    run, outcome = futures[future], future.result()
                    outcomes[run] = outcome
                    spent = time.perf_counter() - began
                    self._report(run, outcome, len(outcomes), len(runs), spent)
            except KeyboardInterrupt:  # the runs in progress got it too, and save their states
                pool.shutdown(cancel_futures=True)
                raise
        return outcomes

    def seconds(self, run: Run) -> float | None:
        """How long a finished run took; None for another."""
        return self._finished.get(run.name)

    def _train(self, run: Run) -> Outcome:
        before = self.seconds(run)
        if before is not None:
            return Outcome(0, before)
        slot = self._slots.get()
        try:
            began = time.perf_counter()
            code = _call(run, slot)
            seconds = time.perf_counter() - began
        finally:
            self._slots.put(slot)
        if code == 0:
            self._finish(run, seconds)
        return Outcome(code, seconds)

    def _finish(self, run: Run, seconds: float) -> None:
        with self._saving:
            self._finished[run.name] = seconds
            write_json(self.state_file, self._finished)

    def _report(self, run: Run, outcome: Outcome, done: int, total: int, spent: float) -> None:
        words = "finished" if outcome.code == 0 else f"failed with exit code {outcome.code}"
        left = int(spent / done * (total - done))
        self.say(
            f"{done}/{total}  {run.name}: {words} after {outcome.seconds:.0f} s"
            f"  about {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
        )


def _environment(number: int, workers: int, devices: Sequence[int]) -> dict[str, str]:
    """Of the processes of one worker: its GPU, or its share of the cores."""
    if devices:
        return {"CUDA_VISIBLE_DEVICES": str(devices[number % len(devices)])}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers))}


def _call(run: Run, more: Mapping[str, str]) -> int:
    """The exit code of a run's process, whose output goes to a log beside its directory."""
    log = run.directory.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.run(
            run.command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **more},
            check=False,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        ).returncode


def _die_with_parent() -> None:
    """A killed sweep must leave no training behind that a new sweep would meet in its folder."""
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
