"""Real processes: a run that was stopped and resumed equals one that was not, bit for bit."""

import contextlib
import os
import re
import resource
import signal
import time
from pathlib import Path

import pytest
from conftest import HOME, Command
from runs_apart import assert_same_run, last_state, records, run_here, start, wait_for

from detector import build
from detector.cli.train import train
from detector.errors import InputError

LONG = [
    "train.batch_size=2",  # eight steps an epoch
    "schedule.steps=12",
    "train.checkpoint_every=3",
    "train.log_every=2",
    "train.ema=0.9",
    "data.workers=2",
    "data.augment=[{kind: mosaic}, {kind: mixup}, {kind: iou_crop}, {kind: zoom_out},"
    " {kind: scale_jitter, range: [0.8, 1.2]}, {kind: flip}, {kind: photometric, strength: 0.5}]",
    "loss.classification.normalizer=ema_positives",
    "loss.classification.sampling={kind: random, per_image: 64}",
]


@pytest.fixture(scope="module")
def undisturbed(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "whole"
    run_here(output, [*tiny, *LONG])
    assert last_state(output)["step"] == 12
    return output


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)], ids=["KILL", "INT"]
)
def test_stopped_in_an_epoch_and_resumed(
    tiny: list[str], tmp_path: Path, undisturbed: Path, number: int, code: int
) -> None:
    """A signal comes after the first checkpoint; a killed run loses what it did since then.

    The loader's workers get the signal too, as from a terminal, and an impatient second one.
    """
    parts = tmp_path / "parts"
    stopped = start(parts, [*tiny, *LONG])
    wait_for(parts / "checkpoints" / "last.pt", stopped)
    os.killpg(stopped.pid, number)
    time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(stopped.pid, number)
    said = stopped.communicate(timeout=120)[0]
    assert stopped.returncode == code, said
    step = last_state(parts)["step"]
    assert step % 8 and step < 12, "the point is to stop in the middle of an epoch"
    assert number == signal.SIGKILL or f"step {step} is saved" in said
    resumed = run_here(parts, [*tiny, *LONG], "--resume")
    assert f"resumed at step {step} of 12" in resumed
    assert_same_run(undisturbed, parts)


def test_a_second_process_in_the_folder_is_refused_until_sigterm_ends_the_first(
    tiny: list[str], tmp_path: Path
) -> None:
    """Fresh or to resume, with the first one's pid; what is there stays the first one's."""
    output = tmp_path / "run"
    settings = [*tiny, "schedule.steps=1000", "train.batch_size=2", "evaluation.every=1000"]
    first = start(output, settings)
    wait_for(output / "metrics.jsonl", first)
    config = build.load_config(HOME / "configs/digits.yaml", settings)
    for resume in (False, True):
        with pytest.raises(InputError, match=f"run: process {first.pid} on .* at work in it"):
            train(config, output, resume=resume, command=[])
    first.send_signal(signal.SIGTERM)
    said = first.communicate(timeout=120)[0]
    assert first.returncode == 143, said
    step = last_state(output)["step"]
    assert 0 < step < 1000 and f"step {step} is saved" in said
    assert [line["step"] for line in records(output)] == list(range(1, step + 1))
    assert not (output / ".lock").exists()


def test_a_full_disk_is_one_sentence_and_loses_nothing(
    tiny: list[str], tmp_path: Path, undisturbed: Path
) -> None:
    """A limit on the size of a file, set while a run goes on, stands for the end of the disk."""
    output = tmp_path / "run"
    process = start(output, [*tiny, *LONG])
    wait_for(output / "checkpoints" / "last.pt", process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2**20, 2**20))
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 2 and "Traceback" not in said, said
    assert re.search(r"(last|best)\.pt cannot be written whole: File too large\. Make room", said)
    assert not list((output / "checkpoints").glob(".*"))
    run_here(output, [*tiny, *LONG], "--resume")
    assert_same_run(undisturbed, output)


def test_resume_begins_in_an_empty_folder(tool: Command, tiny: list[str], tmp_path: Path) -> None:
    """It is what a disk leaves that was full before there was a config."""
    base = ["--config", "configs/digits.yaml", "--output", tmp_path, "--resume"]
    begun = tool("train", *base, "--set", *tiny, "schedule.steps=1")
    assert begun.returncode == 0, begun.stderr
    assert (tmp_path / "checkpoints" / "last.pt").exists()


def test_resume_refuses_another_config(tool: Command, tiny: list[str], tmp_path: Path) -> None:
    base = ["--config", "configs/digits.yaml", "--output", tmp_path / "run"]
    assert tool("train", *base, "--set", *tiny, "schedule.steps=1").returncode == 0
    again = tool("train", *base, "--resume", "--set", *tiny, "schedule.steps=1",
                 "loss.classification.alpha=null", "optimizer.lr=7")  # fmt: skip
    assert again.returncode == 2
    changes = (
        "loss.classification.alpha 0.25, now it is null; ",
        "optimizer.lr 0.001, now it is 7.0;",
    )
    assert all(change in again.stderr for change in changes), again.stderr
