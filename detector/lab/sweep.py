"""Runs in processes of their own, several at a time, that survive a kill."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import detector
from detector.files import read_object, write_json
from detector.lab.results import RunnerTime
from detector.signals import Handlers, die_with_parent

STATE = "state.json"


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

    @property
    def diverged(self) -> bool:
        """Whether the training left failure/: started again it would only diverge again."""
        return (self.directory / "failure").is_dir()


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    code: int | None  # of the last process, 0 if all is done; None: a signal to the sweep ended it
    seconds: float | None  # of all its processes but those killed with a sweep; None: not known
    trained: bool = False  # its first stage is done, whatever became of the others


class Sweep:
    """What is finished or diverged is not run again, unless its folder was deleted.

    The half-done goes on.

    SIGINT and SIGTERM go to all processes in progress, and no other begins. Each has a session of
    its own: in ours, Ctrl-C in a terminal would reach it twice, from the terminal and from here.

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
        self.received: int | None = None  # the last signal
        self.state_file = folder / STATE
        self.environments = environments
        self.say = say
        self._finished = read_finished(self.state_file)
        self._recording = threading.Lock()
        self._in_progress: set[subprocess.Popen[bytes]] = set()
        self._starting = threading.RLock()  # a second signal may meet the first one's handler
        self._wall = self._busy = self._idle = 0.0

    def __call__(self, runs: Sequence[Run]) -> dict[Run, Outcome]:
        """Do all runs; one that fails does not stop the others, SIGINT or SIGTERM stops them all.

        After such a signal `received` is its number.
        """
        began, outcomes = time.perf_counter(), self._ended_before(runs)
        todo = iter([run for run in runs if run not in outcomes])

        def work(environment: Mapping[str, str]) -> float:
            """A worker's runs, of which all workers take the next; when it found no more."""
            for run in todo:
                outcome = self._perform(run, environment)
                with self._recording:
                    outcomes[run] = outcome
                    if outcome.code is not None:
                        self._report(run, outcomes, len(runs))
            return time.perf_counter()

        handlers = Handlers(self._pass_on)
        handlers.install()
        try:
            with ThreadPoolExecutor(len(self.environments)) as pool:
                ends = list(pool.map(work, self.environments))
        finally:
            handlers.restore()
        ended = time.perf_counter()
        self._wall += ended - began
        self._idle += sum(ended - end for end in ends)
        return {run: outcomes[run] for run in runs}  # in the order of runs, not of their ends

    def runner_time(self) -> RunnerTime:
        """Where the time of all calls so far went."""
        workers = len(self.environments)
        return RunnerTime.of(workers, wall=self._wall, busy=self._busy, idle=self._idle)

    def _ended_before(self, runs: Sequence[Run]) -> dict[Run, Outcome]:
        for run in runs:
            if not run.directory.is_dir():  # deleted, or moved away
                self._finished.pop(run.name, None)
        outcomes = {
            run: Outcome(0, self._finished.get(run.name), trained=True)
            for run in runs
            if all(self._done(run, stage) for stage in run.stages)
        }
        if outcomes:
            self.say(f"{len(outcomes)}/{len(runs)}  finished before")
        # one that is tried again until it succeeds would be no fair sample of its variant
        lost = [run for run in runs if run.diverged and run.name not in self._finished]
        return outcomes | {run: Outcome(1, None) for run in lost}

    def _perform(self, run: Run, environment: Mapping[str, str]) -> Outcome:
        """All stages that are not done; the first failure is the run's."""
        seconds = self._finished.get(run.name, 0.0)
        for stage in [stage for stage in run.stages if not self._done(run, stage)]:
            _set_aside(stage.product)
            code, took = self._call(stage.command, run.log, environment)
            seconds += took
            with self._recording:
                self._busy += took
                if code == 0:  # written after each: a kill may come at any time
                    self._finished[run.name] = seconds
                    write_json(self.state_file, self._finished)
            if code != 0:
                # it ended by the signal that we passed on, which is no failure of the run
                code = None if self.received else code
                return Outcome(code, seconds, trained=run.name in self._finished)
        return Outcome(0, seconds, trained=True)

    def _done(self, run: Run, stage: Stage) -> bool:
        product, source = stage.product, stage.source
        if product is None:
            return run.name in self._finished
        if not product.exists() or source is None or not source.exists():
            return product.exists()
        return product.stat().st_mtime_ns >= source.stat().st_mtime_ns

    def _call(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> tuple[int | None, float]:
        """Run `command` to its end, its output added to `log`: its exit code and its seconds.

        None and 0 seconds where a signal to us came first, so that it never began.
        """
        # a signal between Popen and the note of it below would miss the new process
        with self._starting:
            if self.received is not None:
                return None, 0.0
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as output:
                process = subprocess.Popen(
                    command,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **import_path(), **environment},
                    start_new_session=True,
                    # or a killed sweep leaves a training that a new one meets in its folder
                    preexec_fn=die_with_parent if sys.platform == "linux" else None,
                )
            self._in_progress.add(process)
        began = time.perf_counter()
        code = process.wait()
        self._in_progress.discard(process)
        return code, time.perf_counter() - began

    def _pass_on(self, signum: int, frame: FrameType | None) -> None:
        with self._starting:
            self.received = signum
            for process in tuple(self._in_progress):
                process.send_signal(signum)

    def _report(self, run: Run, outcomes: Mapping[Run, Outcome], total: int) -> None:
        outcome, done = outcomes[run], len(outcomes)
        words = "diverged" if run.diverged else f"failed with exit code {outcome.code}"
        words = "finished" if outcome.code == 0 else words
        known = [ended.seconds for ended in outcomes.values() if ended.seconds is not None]
        mean = sum(known) / max(1, len(known))
        left = clock(mean * (total - done) / len(self.environments))
        self.say(
            f"{done}/{total}  {run.name}: {words} after {outcome.seconds or 0:.0f} s  "
            f"about {left} left"
        )


def read_finished(file: Path) -> dict[str, float]:
    """Seconds by name of the runs whose training is finished; empty where there is no file."""
    again = "delete it, and what is finished is only looked at again"
    return read_object(file, remedy=again) if file.exists() else {}


def import_path() -> dict[str, str]:
    """Environment by which `python -m detector` is this package in a child, in any folder.

    An installed one is found anyway, and its folder must not come before Python's own modules.
    """
    home, path = str(Path(detector.__file__).parents[1]), os.environ.get("PYTHONPATH", "")
    if home != sysconfig.get_path("purelib"):
        path = os.pathsep.join(filter(None, [home, path]))
    # or a folder `detector` in the working directory would be taken for it (from Python 3.11 on)
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


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
