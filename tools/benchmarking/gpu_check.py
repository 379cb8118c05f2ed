"""The check on a GPU: sections of commands, each in processes of its own with a time limit.

What a section runs are this project's own tools; what they leave in JSON becomes `gpu.json` and the
tables of `gpu.md`, both written anew after every section, and one log a section.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from benchmarking.setup import Figures
from benchmarking.tables import markdown
from detector.engine.run import run_environment
from detector.files import write_json, write_text

HOME = Path(__file__).parents[2]
GRACE = 10.0  # seconds from SIGINT to SIGKILL
UNREADABLE = (OSError, LookupError, ValueError, ElementTree.ParseError)
OUT_OF_TIME = None  # instead of an exit code
Headline = Callable[[Mapping[str, Figures]], list[tuple[str, str]]]


@dataclass(frozen=True)
class Task:
    """One command, and how its figures are read from what it leaves."""

    name: str
    command: tuple[str, ...]
    read: Callable[[], Figures] = dict
    table: Callable[[Figures], str] | None = None


@dataclass(frozen=True)
class GpuSection:
    """Tasks that check one thing, one after the other, within one time limit."""

    name: str
    share: float  # of the minutes, beside the shares of the sections after it
    tasks: tuple[Task, ...]
    # figures by task -> what is wrong with them, in sentences
    judge: Callable[[Mapping[str, Figures]], list[str]] = field(default=lambda figures: [])


@dataclass
class Report:
    """The result of one section."""

    seconds: float
    limit: float  # seconds
    failures: list[str]
    figures: dict[str, Figures]  # of each task that succeeded


def check(
    sections: Sequence[GpuSection],
    output: Path,
    *,
    minutes: float,
    command: Sequence[str],
    headline: Headline,
    say: Callable[[str], None],
) -> bool:
    """Run the sections into the folder `output`; whether all of them passed.

    headline: the rows of the first table of gpu.md, from the figures by task.
    """
    head = {"environment": run_environment(command), "driver": driver()}
    deadline = time.monotonic() + 60 * minutes
    reports: dict[str, Report] = {}
    for index, section in enumerate(sections):
        left = max(0.0, deadline - time.monotonic())
        limit = left * section.share / sum(other.share for other in sections[index:])

        def keep(report: Report, name: str = section.name) -> None:
            reports[name] = report
            _write(output, head, sections, reports, headline)

        report = _run(section, output / f"{section.name}.log", limit, keep)
        say(f"{section.name}: {_verdict(report)} after {report.seconds:.0f} of {limit:.0f} s")
        for sentence in report.failures:
            say(f"  {sentence}")
    return not any(report.failures for report in reports.values())


def _run(section: GpuSection, log: Path, limit: float, keep: Callable[[Report], object]) -> Report:
    began = time.monotonic()
    report = Report(0.0, limit, [], {})
    for task in section.tasks:
        left = limit - (time.monotonic() - began)
        if left > 0:
            code = run_within(task.command, log, left)
            report.failures += _result(task, code, report.figures, log)
        else:
            report.failures.append(f"{task.name} was not started: no time was left; see --minutes")
        report.seconds = time.monotonic() - began
        keep(report)  # a machine that is lost in a later task keeps what this one measured
    report.failures += section.judge(report.figures)
    keep(report)
    return report


def _result(task: Task, code: int | None, figures: dict[str, Figures], log: Path) -> Iterator[str]:
    """Add the task's figures; sentences where there are none."""
    if code != 0:
        ended = "ran out of time" if code is OUT_OF_TIME else f"ended with exit code {code}"
        yield f"{task.name} {ended}; see {log.name}"
        return
    try:
        figures[task.name] = task.read()
    except UNREADABLE as error:
        yield f"{task.name} left no figures ({type(error).__name__}: {error}); see {log.name}"


def run_within(command: Sequence[str], log: Path, limit: float) -> int | None:
    """The exit code of `command`, its output added to `log`; None where `limit` seconds ended it.

    All processes that it started end with it, and if we are interrupted meanwhile.
    """
    paths = [str(HOME), *filter(None, [os.environ.get("PYTHONPATH")])]
    with log.open("a", encoding="utf-8") as output:
        output.write(f"$ {' '.join(command)}\n")
        output.flush()
        process = subprocess.Popen(
            command,
            cwd=HOME,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            # SIGINT first: pytest then prints the results so far
            with suppress(subprocess.TimeoutExpired):
                os.killpg(process.pid, signal.SIGINT)
                process.wait(GRACE)
            return OUT_OF_TIME
        finally:
            # the whole group: workers may outlive the command, and would hold the GPU
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def python(script: str, *words: object) -> tuple[str, ...]:
    """A command of this interpreter on a script of the project."""
    return (sys.executable, script, *map(str, words))


def driver() -> str | None:
    """Names and driver of the GPUs, as nvidia-smi tells them; None where it is not there."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _write(
    output: Path,
    head: Figures,
    sections: Sequence[GpuSection],
    reports: Mapping[str, Report],
    headline: Headline,
) -> None:
    content = {name: {"passed": not r.failures, **asdict(r)} for name, r in reports.items()}
    write_json(output / "gpu.json", {**head, "sections": content})
    write_text(output / "gpu.md", _document(head, sections, reports, headline))


def _document(
    head: Figures,
    sections: Sequence[GpuSection],
    reports: Mapping[str, Report],
    headline: Headline,
) -> str:
    about = head["environment"]
    figures = {name: own for report in reports.values() for name, own in report.figures.items()}
    times = [(n, _verdict(r), f"{r.seconds:.0f} of {r.limit:.0f}") for n, r in reports.items()]
    lines = [
        f"{head['driver'] or 'no NVIDIA driver'}; torch {about['torch']}, "
        f"torchvision {about['torchvision']}; {about['started']}; commit {about['git']}",
        markdown(("section", "result", "seconds"), times),
        *(f"{name}: {sentence}" for name, r in reports.items() for sentence in r.failures),
        markdown(("figure", "value"), headline(figures)),
    ]
    for task in (task for section in sections for task in section.tasks):
        if task.table is not None and task.name in figures:
            lines.append(f"**{task.name}**\n\n{task.table(figures[task.name])}")
    return "\n\n".join(lines) + "\n"


def _verdict(report: Report) -> str:
    return "failed" if report.failures else "passed"
