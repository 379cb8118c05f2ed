"""Would a test notice? `make mutants` puts one fault at a time into the code and runs its tests.

A mutant of tests/mutant_table.py is one text of one file and what stands there instead. Its tests
run in a copy of the tree, in a temporary folder and a process of its own; it is killed if one of
them fails, or if they do not end in time. Exit code 1 where less than 90 % are killed.
"""

from __future__ import annotations

import argparse
import compileall
import multiprocessing
import os
import platform
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import NamedTuple

from mutant_table import TABLE

HOME = Path(__file__).parents[1]
COPIED = ("detector", "tests", "tools", "configs", "data/digits.py", "data/coco.py")
LEAST_KILLED = 0.9
# Imported once, in a process from which that of every mutant is forked: it takes longer than most
# tests. Nothing of ours is among them.
IMPORTED = [
    "hotcoco", "hypothesis", "matplotlib.figure", "PIL.Image", "pycocotools.cocoeval", "pydantic",
    "pytest", "scipy.optimize", "scipy.stats", "torch", "torch._dynamo", "torch.utils.data",
    "torch.utils.tensorboard", "torchvision.transforms.v2",
]  # fmt: skip
PROCESSES = multiprocessing.get_context("forkserver")


class Mutant(NamedTuple):
    """One wrong program."""

    file: str
    text: str  # stands in the file exactly once
    instead: str
    reason: str  # why no test can notice; empty where one should
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {_short(self.text)} -> {_short(self.instead)}"


class Verdict(NamedTuple):
    """What the tests said of a mutant."""

    mutant: Mutant
    killer: str  # the test that failed, or another end of the tests; empty where all passed


def mutants(only: str) -> list[Mutant]:
    """Those of the table in whose line `only`, a regular expression, occurs."""
    rows = [
        Mutant(file, row[0], row[1], row[2] if len(row) > 2 else "", tuple(tests.split()))
        for file, tests, changes in TABLE
        for row in changes
    ]
    return [mutant for mutant in rows if re.search(only, str(mutant))]


def check_texts(rows: Iterable[Mutant]) -> None:
    """A text that moved would make its mutant the program itself, or another one."""
    counts = {row: (HOME / row.file).read_text().count(row.text) for row in rows}
    rotten = [f"{row}: occurs {count} times" for row, count in counts.items() if count != 1]
    if rotten:
        sys.exit("\n".join(["error: each text should occur once in its file:", *rotten]))


def copy_tree(target: Path) -> None:
    """What the tests need of the checkout."""
    for name in COPIED:
        source, copy = HOME / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, copy)
    shutil.copy2(HOME / "pyproject.toml", target)


def run_tests(tree: str, tests: Sequence[str], folder: str, log: str) -> None:
    """End this process with pytest's exit code; its output goes to the file `log`."""
    os.setsid()  # so that what the tests start can be ended with them
    output = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    multiprocessing.set_start_method("fork", force=True)  # not that of this process, for loaders
    os.chdir(tree)
    sys.path[0] = os.environ["PYTHONPATH"] = tree
    import pytest

    import detector

    assert Path(detector.__file__).is_relative_to(tree), f"the tests would run {detector.__file__}"
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={folder}/tmp"]
    sys.exit(pytest.main([*options, *tests]))


def outcome(tree: Path, tests: Sequence[str], limit: float) -> str:
    """The first test that failed; empty where all passed."""
    with tempfile.TemporaryDirectory(prefix="tests") as folder:
        log = Path(folder) / "log.txt"
        process = PROCESSES.Process(target=run_tests, args=(str(tree), tests, folder, str(log)))
        process.start()
        process.join(limit)
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
            return f"no end in {limit:g} s"
        said = log.read_text(errors="replace")
    if process.exitcode not in (0, 1, 2):  # 2: a file of tests could not even be imported
        sys.exit(f"error: pytest ended with {process.exitcode}:\n{said}")
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
    return "" if process.exitcode == 0 else failed[1] if failed else "the tests were broken off"


def judge(mutant: Mutant, clean: Path, limit: float) -> Verdict:
    """Run the mutant's tests in a copy of the clean tree."""
    with tempfile.TemporaryDirectory(prefix="mutant") as folder:
        tree = Path(folder).resolve() / "tree"
        shutil.copytree(clean, tree)
        file = tree / mutant.file
        file.write_text(file.read_text().replace(mutant.text, mutant.instead))
        for stale in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
            stale.unlink()
        verdict = Verdict(mutant, outcome(tree, mutant.tests, limit))
    print(f"{'killed ' if verdict.killer else 'ALIVE  '} {mutant}  [{verdict.killer}]", flush=True)
    return verdict


def check_clean(clean: Path, rows: Iterable[Mutant], pool: Executor, limit: float) -> None:
    """A test that fails by itself would kill every mutant."""
    groups = dict.fromkeys(row.tests for row in rows)
    for failed in pool.map(lambda tests: outcome(clean, tests, limit), groups):
        if failed:
            sys.exit(f"error: without any mutant: {failed}")


def report(verdicts: Sequence[Verdict]) -> str:
    """Two tables in Markdown: mutants and killed ones by file, and those that live."""
    alive = [verdict.mutant for verdict in verdicts if not verdict.killer]
    lines = [
        f"{len(verdicts)} mutants, {len(verdicts) - len(alive)} killed "
        f"({1 - len(alive) / len(verdicts):.1%}), on {date.today()}, {platform.machine()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}.",
        "",
        "| file | mutants | killed |",
        "|---|---|---|",
    ]
    for file in dict.fromkeys(verdict.mutant.file for verdict in verdicts):
        mine = [bool(verdict.killer) for verdict in verdicts if verdict.mutant.file == file]
        lines.append(f"| `{file}` | {len(mine)} | {sum(mine)} |")
    lines += ["", "| file | text | instead | why no test fails |", "|---|---|---|---|"]
    for row in alive:
        cells = (f"`{row.file}`", _code(row.text), _code(row.instead), row.reason or "a gap")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _short(text: str) -> str:
    return " ".join(text.split()) or "nothing"


def _code(text: str) -> str:
    return f"`{_short(text)}`".replace("|", "\\|")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default="", help="a regular expression on `file: text -> instead`"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes at a time")
    parser.add_argument("--limit", type=float, default=300, help="seconds for a mutant's tests")
    parser.add_argument("--output", type=Path, help="a Markdown file for the tables")
    options = parser.parse_args()
    rows = mutants(options.only)
    check_texts(rows)
    os.environ["OMP_NUM_THREADS"] = "1"
    PROCESSES.set_forkserver_preload(IMPORTED)
    with (
        tempfile.TemporaryDirectory(prefix="clean") as folder,
        ThreadPoolExecutor(options.workers) as pool,
    ):
        clean = Path(folder).resolve()
        copy_tree(clean)
        compileall.compile_dir(clean, quiet=1)  # or it is done again for every mutant
        check_clean(clean, rows, pool, options.limit)
        verdicts = list(pool.map(lambda row: judge(row, clean, options.limit), rows))
    text = report(verdicts)
    print(f"\n{text}")
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text)
    return int(sum(bool(v.killer) for v in verdicts) < LEAST_KILLED * len(verdicts))


if __name__ == "__main__":
    sys.exit(main())
