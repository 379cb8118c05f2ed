"""Scripts in processes that need not import torch: forked from one that did so once."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["detector.cli.ablate", "detector.cli.diagnose", "detector.training"])


def popen(command: Sequence[str], **options: Any) -> "Forked | subprocess.Popen[str]":
    """subprocess.Popen, where Python comes with the imports of SCRIPT.py or `-m detector` done.

    Such a process has a session of its own, and its two outputs are one.
    """
    if command[0] == sys.executable and command[1].endswith(".py"):
        return Forked(command[1:], **options)
    if command[0] == sys.executable and command[1:3] == ("-m", "detector"):
        return Forked(command[1:], **options)
    return subprocess.Popen(command, **options)


MODULE = SimpleNamespace(Popen=popen, STDOUT=subprocess.STDOUT)  # stands in for subprocess


class Forked:
    """What these tests and detector.lab.sweep use of a subprocess.Popen."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        stdout: IO[bytes] | int,
        env: Mapping[str, str],
        cwd: str | Path = ".",
        **_: Any,
    ) -> None:
        self._pipe = tempfile.NamedTemporaryFile() if isinstance(stdout, int) else None
        log = stdout if self._pipe is None else self._pipe
        arguments = (list(words), os.path.abspath(cwd), dict(env), log.name)
        self._process = SERVER.Process(target=run, args=arguments)
        self._process.start()
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    poll = returncode.fget

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        self.wait(timeout)
        return Path(self._pipe.name).read_text(), None

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)


def run(words: list[str], cwd: str, environment: dict[str, str], log: str) -> None:
    """In the new process: the script, as Python itself would run it."""
    import torch

    multiprocessing.set_start_method("fork", force=True)  # as in a process that was not forked
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", "1")))
    if words[:2] == ["-m", "detector"]:
        sys.argv = words[1:]
        runpy.run_module("detector", run_name="__main__", alter_sys=True)
        return
    sys.argv = words
    sys.path.insert(0, os.path.dirname(os.path.abspath(words[0])))
    runpy.run_path(words[0], run_name="__main__")
