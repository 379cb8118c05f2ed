"""Real processes: a run that was killed and resumed equals one that was not, bit for bit."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import HOME, Command

TIMES = {"images_per_second"}
LONG = [
    "train.batch_size=2",  # eight steps an epoch
    "schedule.steps=12",
    "train.checkpoint_every=3",
    "train.log_every=2",
    "train.ema=0.9",
    "data.workers=2",
    "data.augment={flip: 0.5, scale_jitter: [0.8, 1.2], photometric: 0.5}",
    "loss.classification.normalizer=ema_positives",
    "loss.classification.sampling={kind: random, per_image: 64}",
]


def start(output: Path, settings: list[str], *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "tools/train.py", "--config", "configs/digits.yaml"]
    return subprocess.Popen(
        [*command, "--output", str(output), *more, "--set", *settings],
        cwd=HOME, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip


def wait_for(file: Path, process: "subprocess.Popen[str]") -> None:
    """Until the file is there; it must appear while the process runs."""
    end = time.monotonic() + 120
    while not file.exists() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.005)
    assert file.exists(), process.communicate()[0]


def records(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def assert_same(a: Any, b: Any, path: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for number, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{path}/{number}")
    elif path != "/journal":  # a length in bytes: times are printed with more or fewer digits
        assert a == b, path


def test_killed_in_an_epoch_and_resumed(tiny: list[str], tmp_path: Path) -> None:
    settings = [*tiny, *LONG]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    undisturbed = start(whole, settings)
    assert undisturbed.wait(300) == 0, undisturbed.communicate()[0]

    killed = start(parts, settings)
    wait_for(parts / "checkpoints" / "last.pt", killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait(60)
    step = torch.load(parts / "checkpoints" / "last.pt", weights_only=True)["step"]
    assert step % 8, "the point is to stop in the middle of an epoch"
    resumed = start(parts, settings, "--resume")
    said = resumed.communicate(timeout=300)[0]
    assert resumed.returncode == 0, said
    assert f"Resumed at step {step}" in said

    states = [
        torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (whole, parts)
    ]
    assert states[0]["step"] == 12
    assert_same(*states)
    assert records(whole) == records(parts)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_signal_saves_the_state(tiny: list[str], tmp_path: Path, number: int, code: int) -> None:
    settings = [*tiny, "schedule.steps=1000", "train.batch_size=2", "evaluation.every=1000"]
    process = start(tmp_path / "run", settings)
    wait_for(tmp_path / "run" / "metrics.jsonl", process)
    while not (tmp_path / "run" / "metrics.jsonl").read_text() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == code, said
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    assert 0 < state["step"] < 1000
    assert f"step {state['step']} is saved" in said


def test_resume_refuses_another_config(tool: Command, tiny: list[str], tmp_path: Path) -> None:
    base = ["--config", "configs/digits.yaml", "--output", tmp_path / "run"]
    assert tool("train", *base, "--set", *tiny, "schedule.steps=1").returncode == 0
    again = tool("train", *base, "--resume", "--set", *tiny, "schedule.steps=2")
    assert again.returncode == 2
    assert "schedule.steps 1, now it is 2" in again.stderr
