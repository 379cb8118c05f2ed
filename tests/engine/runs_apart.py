"""Training runs that a test stops or torchrun starts, in processes of their own."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import HOME, call_script
from forked import popen

TIMES = {"images_per_second"}
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def start(
    output: Path,
    settings: list[str],
    *more: str,
    launcher: Sequence[str] = (),
    environment: Mapping[str, str] = {},
) -> "subprocess.Popen[str]":
    """tools/train.py on configs/digits.yaml, with one thread and in a session of its own."""
    command = [sys.executable, *launcher, "tools/train.py", "--config", "configs/digits.yaml"]
    return popen(
        [*command, "--output", str(output), *more, "--set", *settings],
        cwd=HOME, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
             **environment},
        start_new_session=True,
    )  # fmt: skip


def start_ranks(output: Path, settings: list[str], *more: str) -> "list[subprocess.Popen[str]]":
    """The same as two ranks, of which torchrun would make processes that import everything anew."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
              "MASTER_PORT": port}  # fmt: skip
    ranks = ({"RANK": str(rank), "LOCAL_RANK": str(rank), **shared} for rank in range(2))
    return [start(output, settings, *more, environment=one) for one in ranks]


def run_here(output: Path, settings: list[str], *more: str) -> str:
    """What the same training says that runs in this process to a good end."""
    words = ("--config", "configs/digits.yaml", "--output", output, *more, "--set", *settings)
    done = call_script(HOME / "tools" / "train.py", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def finish(process: "subprocess.Popen[str]") -> str:
    """What a run said that ends well."""
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    return said


def wait_for(file: Path, process: "subprocess.Popen[str]") -> None:
    """Until there is something in the file; it must appear while the process runs."""
    end = time.monotonic() + 120
    while not _filled(file) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.005)
    assert _filled(file), process.communicate()[0]


def _filled(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def last_state(run: Path) -> dict[str, Any]:
    """checkpoints/last.pt"""
    state: dict[str, Any] = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    return state


def records(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl but for how long things took."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    """Equal states, bit for bit, and equal metrics."""
    assert_same(last_state(one), last_state(other))
    assert records(one) == records(other)


def assert_same(a: Any, b: Any, path: str = "", *, near: float = 0.0) -> None:
    """Equal tensors and values through dicts and lists; `path` says where.

    near: by how much, and by which part of them, numbers may differ.
    """
    if isinstance(a, torch.Tensor):
        torch.testing.assert_close(a, b, rtol=near, atol=near, msg=path)
    elif isinstance(a, float) and near:
        assert a == pytest.approx(b, rel=near, abs=near), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}/{key}", near=near)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for number, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{path}/{number}", near=near)
    elif path != "/journal":  # a length in bytes: times are printed with more or fewer digits
        assert a == b, path
