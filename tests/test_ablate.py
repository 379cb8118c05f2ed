"""A whole ablation by real processes, killed and undisturbed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import HOME, Command

TEXT = """config: {config}
set: {settings}
seeds: [0, 1]
baseline: focal
variants:
  focal: {{set: [loss.classification.gamma=2]}}
  plain: {{set: [loss.classification.gamma=0]}}
"""
MORE = ["schedule.steps=6", "train.checkpoint_every=1", "train.batch_size=2"]


@pytest.fixture(scope="module")
def ablation(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("ablation") / "tiny.yaml"
    config = HOME / "configs" / "digits.yaml"
    file.write_text(TEXT.format(config=config, settings=json.dumps([*tiny, *MORE])))
    return file


def start(ablation: Path, output: Path, *more: str) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "tools/ablate.py",
        "--config",
        str(ablation),
        "--output",
        str(output),
    ]
    return subprocess.Popen(
        [*command, *more], cwd=HOME, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        start_new_session=True,
    )  # fmt: skip


def results(output: Path) -> dict[str, Any]:
    """results.json but for the times."""
    found: dict[str, Any] = json.loads((output / "results.json").read_text())
    assert all(seconds > 0 for seconds in found.pop("seconds").values())
    return found


def test_killed_and_restarted_equals_undisturbed(ablation: Path, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    said = start(ablation, undisturbed).communicate(timeout=300)[0]
    assert "4/4" in said and "| plain |" in said, said
    sweep = start(ablation, killed)
    saved = killed / "runs" / "plain" / "seed0" / "checkpoints" / "last.pt"
    deadline = time.monotonic() + 120
    while not saved.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.communicate(timeout=60)  # also waits for the training: it holds the pipe no longer
    assert json.loads((killed / "state.json").read_text()).keys() == {"focal, seed 0"}
    again = start(ablation, killed)
    said = again.communicate(timeout=300)[0]
    assert again.returncode == 0, said
    assert "resumed at step" in saved.parents[1].with_suffix(".log").read_text()
    assert results(killed) == results(undisturbed)


def test_pairs_start_from_the_same_weights_and_images(ablation: Path, tool: Command) -> None:
    """Shared parameters, order and pixels of one seed: the first box loss is the same number."""
    output = ablation.parent / "paired"
    done = tool("ablate", "--config", ablation, "--output", output, "--workers", "2")
    assert done.returncode == 0, done.stderr
    first = {
        (v, seed): json.loads((output / f"runs/{v}/seed{seed}/metrics.jsonl").read_text()
                              .splitlines()[0])["loss/box"]
        for v in ("focal", "plain") for seed in (0, 1)
    }  # fmt: skip
    assert first["focal", 0] == first["plain", 0] and first["focal", 1] == first["plain", 1]
    assert first["focal", 0] != first["focal", 1]
    other = tool("ablate", "--config", ablation, "--output", output, "--set", "optimizer.lr=0.5")
    assert other.returncode == 2 and "holds another ablation" in other.stderr


def test_a_failed_run_stops_no_other(ablation: Path, tool: Command, tmp_path: Path) -> None:
    text = ablation.read_text().replace(
        "gamma=0]", "gamma=0, optimizer.lr=1e30, optimizer.name=sgd]"
    )
    file = tmp_path / "bad.yaml"
    file.write_text(text.replace("seeds: [0, 1]", "seeds: [0]"))
    done = tool("ablate", "--config", file, "--output", tmp_path / "out")
    assert done.returncode == 1, done.stderr
    assert "failed: plain, seed 0" in done.stdout
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    focal, plain = found["variants"]
    assert focal["values"]["0"] >= 0 and plain["values"] == {"0": None}
    assert plain["mean"] is None and plain["difference"] is None
