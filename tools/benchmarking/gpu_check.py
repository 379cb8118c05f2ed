"""The check on a GPU: sections of commands, each in processes of its own with a time limit.

What their commands leave becomes `gpu.json` and the tables of `gpu.md`, both written anew after
every task, and one log a section.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from benchmarking.tables import table, tables
from benchmarking.timing import Figures
from detector.engine.run import run_environment
from detector.files import write_json, write_text

HOME = Path(__file__).parents[2]
GRACE = 10.0  # seconds from SIGINT to SIGKILL
UNREADABLE = (OSError, LookupError, ValueError, ElementTree.ParseError)
LEAST_AGREEMENT = 0.99  # of the detections of one set of weights
CPU_TOLERANCE = 0.005  # of AP between a GPU and a CPU with the same weights


@dataclass(frozen=True)
class Task:
    """One command, and how its figures are read from what it leaves."""

    name: str
    command: Sequence[str]
    read: Callable[[], Figures] = dict


@dataclass(frozen=True)
class GpuSection:
    """Tasks that check one thing, one after the other, within one time limit."""

    name: str
    share: float  # of the minutes, beside the shares of the sections after it
    tasks: Sequence[Task]
    least_ap: float = 0.0  # that its trainings must reach


def check(
    sections: Sequence[GpuSection],
    output: Path,
    *,
    minutes: float,
    command: Sequence[str],
    say: Callable[[str], None],
) -> bool:
    """Run the sections into the folder `output`; whether all of them passed."""
    head = {"environment": run_environment(command), "driver": driver()}
    results: dict[str, Figures] = {}
    deadline = time.monotonic() + 60 * minutes
    for index, section in enumerate(sections):
        left = max(0.0, deadline - time.monotonic())
        limit = left * section.share / sum(other.share for other in sections[index:])
        # a machine that is lost in a later task keeps what the earlier ones measured
        for result in _run(section, output / f"{section.name}.log", limit):
            result["passed"] = not result["failures"]
            results[section.name] = result
            write_json(output / "gpu.json", {**head, "sections": results})
            write_text(output / "gpu.md", _document(head, results))
        say(f"{section.name}: {_verdict(result)} after {result['seconds']:.0f} of {limit:.0f} s")
        for sentence in result["failures"]:
            say(f"  {sentence}")
    return all(result["passed"] for result in results.values())


def _run(section: GpuSection, log: Path, limit: float) -> Iterator[Figures]:
    """The result of the section as it is after each task, and in the end."""
    began = time.monotonic()
    result: Figures = {
        "passed": True,
        "seconds": 0.0,
        "limit": limit,
        "failures": [],
        "figures": {},
    }
    for task in section.tasks:
        left = limit - (time.monotonic() - began)
        result["failures"] += _perform(task, log, left, result["figures"])
        result["seconds"] = time.monotonic() - began
        yield result
    result["failures"] += failures(result["figures"], least_ap=section.least_ap)
    yield result


def _perform(task: Task, log: Path, left: float, figures: dict[str, Figures]) -> list[str]:
    """Add the task's figures; a sentence where there are none."""
    if left <= 0:
        return [f"{task.name} was not started: no time was left; see --minutes"]
    code = run_within(task.command, log, left)
    if code != 0:
        ended = "ran out of time" if code is None else f"ended with exit code {code}"
        return [f"{task.name} {ended}; see {log.name}"]
    try:
        figures[task.name] = task.read()
    except UNREADABLE as error:
        what = f"{type(error).__name__}: {error}"
        return [f"{task.name} left no figures ({what}); see {log.name}"]
    return []


def run_within(command: Sequence[str], log: Path, limit: float) -> int | None:
    """The exit code of `command`, its output added to `log`; None where `limit` seconds ended it.

    All processes that it started end with it, and if we are interrupted meanwhile.
    """
    paths = [str(HOME), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    with log.open("a", encoding="utf-8") as output:
        output.write(f"$ {shlex.join(command)}\n")
        output.flush()
        process = subprocess.Popen(
            command, cwd=HOME, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env={**os.environ, **environment}, start_new_session=True,
        )  # fmt: skip
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            # SIGINT first: pytest then prints the results so far
            with suppress(subprocess.TimeoutExpired):
                os.killpg(process.pid, signal.SIGINT)
                process.wait(GRACE)
            return None
        finally:
            # the whole group: workers may outlive the command, and would hold the GPU
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def failures(figures: Mapping[str, Figures], *, least_ap: float) -> list[str]:
    """What is wrong with the figures of a section, by task, in sentences."""
    sentences = []
    for name, own in figures.items():
        if "skipped" in own and own["tests"] <= own["skipped"]:
            sentences.append(f"all {own['tests']} tests were skipped, so nothing was tested")
        if name.startswith("training") and own["AP"] < least_ap:
            sentences.append(f"{name}: AP is {own['AP']:.3f}; at least {least_ap} is expected")
        if "predict" in own and own["predict"]["agreement"] < LEAST_AGREEMENT:
            sentences.append(
                f"{name}: only {own['predict']['agreement']:.4f} of torchvision's detections are "
                f"ours too; at least {LEAST_AGREEMENT} is expected"
            )
    here, there = figures.get("training in float32"), figures.get("evaluation on the CPU")
    if here and there and abs(here["AP"] - there["AP"]) > CPU_TOLERANCE:
        sentences.append(
            f"the checkpoint has AP {here['AP']:.4f} where it was trained and {there['AP']:.4f} on "
            f"the CPU; at most {CPU_TOLERANCE} apart is expected"
        )
    return sentences


def driver() -> str | None:
    """Names and driver of the GPUs, as nvidia-smi tells them; None where it is not there."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _document(head: Figures, results: Mapping[str, Figures]) -> str:
    """The text of gpu.md."""
    about = head["environment"]
    figures = {name: own for result in results.values() for name, own in result["figures"].items()}
    return "\n\n".join([
        f"{head['driver'] or 'no NVIDIA driver'}; torch {about['torch']}, "
        f"torchvision {about['torchvision']}; {about['started']}; commit {about['git']}",
        table([
            {"section": name, "result": _verdict(own),
             "seconds": f"{own['seconds']:.0f} of {own['limit']:.0f}"}
            for name, own in results.items()
        ]),
        *(f"{name}: {sentence}" for name, own in results.items() for sentence in own["failures"]),
        *(tables(name, own) for name, own in figures.items() if own),
    ]) + "\n"  # fmt: skip


def _verdict(result: Figures) -> str:
    return "passed" if result["passed"] else "failed"
