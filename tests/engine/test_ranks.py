"""Two gloo ranks equal one process with the whole batch."""

import os
import re
import shutil
import signal
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from conftest import HOME
from runs_apart import (
    TORCHRUN,
    assert_same_run,
    finish,
    last_state,
    records,
    run_here,
    start,
    start_ranks,
    wait_for,
)
from torch import Tensor
from torch.multiprocessing import start_processes  # type: ignore[attr-defined]

from detector import build
from detector.config import load
from detector.engine.meter import Meter
from detector.structures import Batch
from detector.training import Assembly

CPU = torch.device("cpu")
RANKS = 2
RANDOM = "loss.classification.sampling={kind: random, per_image: 64, positive_fraction: 0.5}"
HARD = "loss.classification.sampling={kind: hard_negatives, ratio: 3}"
STEP = ["optimizer.name=sgd", "optimizer.clip_norm=null"]
CASES = {
    "positives": ["loss.classification.normalizer=positives"],
    "positives per image": ["loss.classification.normalizer=positives_per_image"],
    "ema positives": ["loss.classification.normalizer=ema_positives"],
    "sampled at random": ["loss.classification.normalizer=sampled", RANDOM],
    "sampled hard negatives": ["loss.classification.normalizer=sampled", HARD],
    "images": ["loss.classification.normalizer=images"],
    "clipped": ["optimizer.clip_norm=0.01"],
}
Measured = tuple[dict[str, Tensor], dict[str, float]]


def assemble(settings: Sequence[str]) -> Assembly:
    config = build.load_config(HOME / "configs/digits.yaml", settings)
    return Assembly(config, Path("unused"), CPU)


def first_batches(assembly: Assembly) -> list[Batch]:
    """Of this rank."""
    return next(iter(assembly.load(0, 0, workers=0)))


def without_boxes(batch: Batch, bare: Tensor) -> Batch:
    """The images with these ids lose their boxes."""
    values = {f.name: getattr(batch, f.name).clone() for f in fields(batch)}
    for name in ("boxes", "labels", "present"):
        values[name][torch.isin(batch.image_ids, bare)] = 0
    return Batch(**values)


def one_step(settings: Sequence[str], bare: Tensor) -> Measured:
    """Gradients and parameters after a step of plain descent, and what the meter says of it.

    Adam's step depends on the sign of the smallest gradient; this one is as near as they are.
    """
    assembly, meter = assemble(settings), Meter(CPU)
    batches = [without_boxes(batch, bare) for batch in first_batches(assembly)]
    assembly.step(batches, meter, rate=0.1, index=0)
    tensors = {name: p.detach() for name, p in assembly.net.named_parameters()}
    slopes = {f"gradient of {name}": p.grad for name, p in assembly.net.named_parameters()}
    return {**tensors, **slopes}, meter.read()


def differences(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """The largest of each tensor, of gradients beyond what rounding does to their largest value."""
    assert actual.keys() == expected.keys()
    rounding = {name: 1e-5 if name.startswith("gradient") else 0 for name in expected}
    return {
        name: ((actual[name] - value).abs().max() - rounding[name] * value.abs().max()).item()
        for name, value in expected.items()
    }


def thawing(settings: Sequence[str]) -> dict[str, Tensor]:
    """Parameters after an epoch of one step with a frozen backbone, and two steps without."""
    config = load(HOME / "configs/digits.yaml", [*settings, "model.backbone.frozen_epochs=1"])
    assembly = Assembly(config, Path("unused"), CPU)
    batches = first_batches(assembly)
    for index, epoch in enumerate((0, 1, 1)):
        assembly._begin_epoch(epoch)
        assembly.step(batches, Meter(CPU), rate=0.01, index=index)
        if epoch == 0:
            assert all(p.grad is None for p in assembly.net.backbone.parameters())
    return {name: p.detach() for name, p in assembly.net.named_parameters()}


def one_rank(number: int, tiny: list[str], bare: Tensor, folder: str) -> None:
    """Each case by this process alone; then with the other rank, two micro-batches each."""
    torch.set_num_threads(1)
    for case, changes in CASES.items():
        settings, meet = [*tiny, *STEP, *changes], f"file://{folder}/{case}"
        expected, means = one_step(settings, bare)
        dist.init_process_group("gloo", init_method=meet, rank=number, world_size=RANKS)
        actual, shared = one_step([*settings, "optimizer.accumulate=2"], bare)
        dist.destroy_process_group()
        result = {"differ": differences(actual, expected), "alone": means, "together": shared}
        torch.save(result, f"{folder}/{case} {number}.pt")
    thawed = thawing([*tiny, *STEP])
    dist.init_process_group("gloo", init_method=f"file://{folder}/t", rank=number, world_size=RANKS)
    together = thawing([*tiny, *STEP, "optimizer.accumulate=2"])
    dist.destroy_process_group()
    torch.save(differences(together, thawed), f"{folder}/thawing {number}.pt")


@pytest.fixture(scope="module")
def results(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what the ranks found; half of the images have no boxes."""
    folder = tmp_path_factory.mktemp("ranks")
    (batch,) = first_batches(assemble(tiny))
    arguments = (tiny, batch.image_ids[len(batch) // 2 :], str(folder))
    start_processes(one_rank, arguments, nprocs=RANKS, start_method="forkserver")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_times_two_times_two_is_eight(results: Path, case: str) -> None:
    """Two ranks with two micro-batches of two images, and one process with all eight."""
    for number in range(RANKS):
        actual = torch.load(results / f"{case} {number}.pt")
        assert actual["alone"]["images"] == 8 and actual["alone"]["anchors_foreground"] > 0
        assert actual["alone"]["clipped"] == (case == "clipped")
        assert actual["together"] == pytest.approx(actual["alone"], rel=1e-6, abs=1e-6)
        assert len(actual["differ"]) > 120
        assert {name: d for name, d in actual["differ"].items() if not d < 1e-6} == {}


def test_two_ranks_thaw_a_backbone_as_one_does(results: Path) -> None:
    """DDP would wait for gradients of frozen parameters, or forget those that are thawed.

    Three steps of the tiny network make 2e-5 of rounding.
    """
    for number in range(RANKS):
        differ = torch.load(results / f"thawing {number}.pt")
        assert len(differ) > 120
        assert {name: d for name, d in differ.items() if not d < 1e-4} == {}


SETTINGS = [
    "train.batch_size=2",  # eight steps an epoch
    "schedule.steps=12",
    "optimizer.lr=1e-4",
    "model.backbone.name=resnet18",  # the tiny one multiplies what rounding does to a step
    "evaluation.batch_size=1",
]


@pytest.fixture(scope="module")
def undisturbed(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks."""
    output = tmp_path_factory.mktemp("runs") / "two"
    assert "step 12/12" in "".join(map(finish, start_ranks(output, [*tiny, *SETTINGS])))
    assert last_state(output)["step"] == 12
    return output


def test_torchrun_gives_the_same_run(tiny: list[str], tmp_path: Path, undisturbed: Path) -> None:
    """Training losses, and validations that see each of six images once, three by each rank."""
    run_here(tmp_path / "one", [*tiny, *SETTINGS])
    one, two = records(tmp_path / "one"), records(undisturbed)
    assert len(one) == len(two) == 14
    for alone, together in zip(one, two, strict=True):
        # Steps add to what rounding does to a gradient: 5e-5 of its norm were seen at the third.
        norms = [line.pop("gradient/norm", 0.0) for line in (alone, together)]
        assert norms[1] == pytest.approx(norms[0], rel=1e-3)
        assert together == pytest.approx(alone, abs=1e-5)


def test_two_ranks_stopped_and_resumed(tiny: list[str], tmp_path: Path, undisturbed: Path) -> None:
    """torchrun hands SIGTERM on to both, and both save at the same step."""
    run = tmp_path / "run"
    stopped = start(run, [*tiny, *SETTINGS], launcher=TORCHRUN)
    wait_for(run / "metrics.jsonl", stopped)
    os.kill(stopped.pid, signal.SIGTERM)
    said = stopped.communicate(timeout=120)[0]
    saved = re.search(r"Stopped by a signal; step (\d+) is saved", said)
    assert saved and last_state(run)["step"] == int(saved[1]) < 12, said
    resumed = "".join(map(finish, start_ranks(run, [*tiny, *SETTINGS], "--resume")))
    assert f"resumed at step {saved[1]} of 12" in resumed
    assert_same_run(undisturbed, run)


@pytest.mark.parametrize("part", ["train", "val"])
def test_an_image_of_one_rank_that_breaks_ends_both(
    tiny: list[str], digits: Path, tmp_path: Path, part: str
) -> None:
    """Once the run is on its way; the other rank says nothing, and both save at one step."""
    images, run = tmp_path / "images", tmp_path / "run"
    shutil.copytree(digits / part, images)
    settings = [*tiny, *SETTINGS, f"data.{part}.images={images}", "schedule.steps=1000"]
    ranks = start_ranks(run, settings)
    wait_for(run / "metrics.jsonl", ranks[0])
    file = sorted(images.iterdir())[0]
    file.write_bytes(file.read_bytes()[:200])
    said = "".join(process.communicate(timeout=120)[0] for process in ranks)
    assert said.count("error: ") == 1 and f"{file}: this is not a whole" in said, said
    assert "Connection closed" not in said, said
    assert 2 in {process.returncode for process in ranks}
    state = last_state(run)
    assert 0 < state["step"] < 1000 and (part == "train" or state["validated"] < state["step"])
    assert len(state["ranks"]) == RANKS
