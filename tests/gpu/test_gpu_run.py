"""Whole trainings on a GPU, in this process: data, stopping, resuming, diverging, evaluating."""

import json
import math
import signal
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from conftest import HOME, exit_code
from on_device import no_waiting
from runs_apart import assert_same, last_state, records
from scenes import network

from detector import build
from detector.cli.train import train
from detector.config import Config
from detector.engine.meter import Meter
from detector.engine.step import TrainingStep
from detector.training import Assembly

pytestmark = pytest.mark.gpu
NO_OVERFLOW = "loss={box: {weight: 0.01}, classification: {weight: 0.01}}"  # of float16, scaled
SMALL = ["train.batch_size=4", "optimizer.name=sgd", "optimizer.clip_norm=null"]


def configured(tiny: list[str], device: torch.device, *changes: str) -> Config:
    settings = [*tiny, *SMALL, f"train.device={device.type}", *changes]
    return build.load_config(HOME / "configs/digits.yaml", settings)


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "model", network)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_resnet_descends(tiny: list[str], device: torch.device, precision: str) -> None:
    """The shipped network: batch and group norm, residuals, under each precision."""
    norm = "model.backbone.norm=batch"
    config = configured(tiny, device, norm, f"train.precision={precision}", "train.batch_size=2")
    assembly = Assembly(config, Path("unused"), device)
    (batch,) = next(iter(assembly.load(0, 0, workers=0)))
    batches, meter = [batch.to(device)], Meter(device)
    if precision == "float16":
        assembly.step.scaler = torch.amp.GradScaler(device.type, init_scale=8.0)
    assembly.step(batches, meter, rate=1e-3, index=0)
    before = meter.read()
    with no_waiting(device):
        assembly.step(batches, meter, rate=1e-3, index=1)
    assert meter.read()["classification"] < before["classification"]
    assert assembly.step.first_bad == -1 and before["overflowed"] == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_arrive_as_they_were_made(
    tiny: list[str], device: torch.device, workers: int
) -> None:
    """Through pinned memory, and copied while the host goes on."""
    config = configured(tiny, device)
    assembly = Assembly(config, Path("unused"), device)
    there = [
        (step[0].images.is_pinned(), step[0].to(device))
        for step in assembly.load(1, 0, workers=workers)
    ]
    on_cpu = Assembly(config, Path("unused"), torch.device("cpu"))
    plain = [step[0] for step in on_cpu.load(1, 0, workers=0)]
    assert len(there) == len(plain) == 4
    for (pinned, batch), expected in zip(there, plain, strict=True):
        assert pinned == (device.type == "cuda")
        for name in (f.name for f in fields(batch)):
            found, value = getattr(batch, name), getattr(expected, name)
            assert found.device == device and found.cpu().equal(value), name


class Killed(BaseException):
    """Ends the process at once, as far as the run can tell."""


def kill() -> None:
    raise Killed


def stop() -> None:
    signal.raise_signal(signal.SIGTERM)


def after_step(number: int, act: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """A process in which something happens after that many steps."""
    inner = TrainingStep.__call__

    def call(self, batches, meter, *, rate: float, index: int) -> None:  # noqa: ANN001
        inner(self, batches, meter, rate=rate, index=index)
        if index + 1 == last:
            act()

    last = number
    patch.setattr(TrainingStep, "__call__", call)


RESUMED = [
    "schedule.steps=6",  # of four an epoch
    "optimizer.lr=0.1",
    NO_OVERFLOW,
    "train.checkpoint_every=2",
    "train.log_every=1",
    "train.ema=0.9",
    "train.diagnose_every=2",
    "loss.classification.normalizer=ema_positives",
    "data.val={images: null, annotations: null}",  # AP turns on the last digit of a score
]


@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize("act", [kill, stop])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_resumed_is_undisturbed(
    tiny: list[str],
    device: torch.device,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    act: Callable[[], None],
) -> None:
    """On the CPU to the last bit; a GPU has no fixed order where an operation uses atomics."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    config = configured(tiny, device, *RESUMED, f"train.precision={precision}")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(config, whole, resume=False, command=[]) == 0
    with monkeypatch.context() as patch:
        after_step(3, act, patch)
        if act is kill:
            with pytest.raises(Killed):
                train(config, parts, resume=False, command=[])
        else:
            assert train(config, parts, resume=False, command=[]) == 128 + signal.SIGTERM
    assert last_state(parts)["step"] == (2 if act is kill else 3)
    assert train(config, parts, resume=True, command=[]) == 0
    near = 0.0 if device.type == "cpu" else 1e-4
    assert_same(last_state(parts), last_state(whole), near=near)
    assert_same(records(parts), records(whole), near=near)
    assert bool(last_state(parts)["scaler"]) == (precision == "float16")
    assert all(line["gradient/overflowed_steps"] == 0 for line in records(parts))


@pytest.mark.usefixtures("small_network")
def test_a_run_is_validated_and_its_checkpoint_is_the_cpus(
    tiny: list[str], device: torch.device, tmp_path: Path
) -> None:
    """A state trained on a GPU is read where there is none; losses are of the same forward."""
    config = configured(tiny, device, "train.precision=float32", "schedule.steps=4")
    assert train(config, tmp_path / "run", resume=False, command=[]) == 0
    (validation,) = (line for line in records(tmp_path / "run") if "validation/AP" in line)
    state = last_state(tmp_path / "run")
    assembly = Assembly(configured(tiny, torch.device("cpu")), Path("unused"), torch.device("cpu"))
    assembly.net.load_state_dict(state["model"])
    assert assembly.validate is not None
    found = assembly.validate(assembly.net).metrics
    assert found["loss"] == pytest.approx(validation["validation/loss"], rel=1e-4)
    assert 0 <= found["AP"] <= 1 and len(found) == len(validation) - 2  # step and epoch


@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_nan_stops_the_run_and_is_reported(
    tiny: list[str],
    device: torch.device,
    tmp_path: Path,
    precision: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first step moves the weights to 1e30; the second fails, and step 4 is the next line."""
    settings = [f"train.precision={precision}", "optimizer.lr=1e30", "train.log_every=4"]
    settings += ["optimizer.reference_batch=null", "schedule.steps=4", NO_OVERFLOW]
    config, run = configured(tiny, device, *settings), tmp_path / "run"
    assert exit_code(lambda: train(config, run, resume=False, command=[])) == 1
    said = capsys.readouterr().err
    assert said.startswith("diverged: the ") and "at step 2" in said
    report = json.loads((run / "failure" / "report.json").read_text())
    kept = torch.load(run / "failure" / "batches.rank0.pt", weights_only=True)["batches"]
    ids = [i for batch in kept for i in batch["image_ids"].tolist()]
    assert report["step"] == 2 and [image["id"] for image in report["images"]] == ids
    assert len(ids) == 4 and all(image["file_name"] for image in report["images"])
    state = torch.load(run / "failure" / "weights.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state["model"].values())
    assert max(float(v.abs().max()) for v in state["model"].values()) > 1e20
    assert [line["step"] for line in records(run)] == [1]
    assert not (run / "checkpoints").exists()
    assert all(math.isfinite(value) for value in records(run)[0].values())
