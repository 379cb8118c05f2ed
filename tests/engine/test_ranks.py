"""Two gloo ranks equal one process with the whole batch."""

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from conftest import HOME, run
from torch import Tensor
from torch.multiprocessing import spawn  # type: ignore[attr-defined]

from detector import build
from detector.commands.train import Assembly
from detector.engine.meter import Meter
from detector.structures import Batch

CPU = torch.device("cpu")
RANKS = 2


def half_background(batch: Batch) -> Batch:
    """The second half of the images loses its boxes."""
    values = {f.name: getattr(batch, f.name).clone() for f in fields(batch)}
    for name in ("boxes", "labels", "present"):
        values[name][len(batch) // 2 :] = 0
    return Batch(**values)


def share(batch: Batch, rank: int) -> Batch:
    """The images of one rank."""
    count = len(batch) // RANKS
    return Batch(**{
        f.name: getattr(batch, f.name)[rank * count : (rank + 1) * count] for f in fields(batch)
    })  # fmt: skip


def gradients(settings: list[str], batch: Batch) -> dict[str, Any]:
    config = build.load_config(HOME / "configs/digits.yaml", settings)
    assembly, meter = Assembly(config, Path("unused"), CPU), Meter(CPU)
    assembly.step.gradients([batch], meter)
    meter.end_step(None, None)
    named = assembly.net.named_parameters()
    return {"gradients": {n: p.grad for n, p in named}, "losses": meter.read()}


def one_rank(rank: int, settings: list[str], batch: Batch, folder: str) -> None:
    torch.set_num_threads(1)
    method = f"file://{folder}/meet"
    dist.init_process_group("gloo", init_method=method, rank=rank, world_size=RANKS)
    torch.save(gradients(settings, share(batch, rank)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("normalizer", ["positives", "positives_per_image", "ema_positives"])
def test_losses_and_gradients(tiny: list[str], tmp_path: Path, normalizer: str) -> None:
    settings = [*tiny, f"loss.classification.normalizer={normalizer}"]
    config = build.load_config(HOME / "configs/digits.yaml", settings)
    (batch,) = next(iter(Assembly(config, Path("unused"), CPU).load(0, 0, workers=0)))
    batch = half_background(batch)
    expected = gradients(settings, batch)
    assert expected["losses"]["anchors_foreground"] > 0
    spawn(one_rank, (settings, batch, str(tmp_path)), nprocs=RANKS)
    for rank in range(RANKS):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found["losses"] == pytest.approx(expected["losses"], abs=1e-6)
        for name, gradient in expected["gradients"].items():
            torch.testing.assert_close(
                found["gradients"][name], gradient, atol=1e-6, rtol=1e-5, msg=name
            )


def test_torchrun_gives_the_same_run(tiny: list[str], tmp_path: Path) -> None:
    """Training losses, and a validation that sees each of six images once, three by each rank."""
    settings = [*tiny, "schedule.steps=2", "optimizer.lr=1e-4", "evaluation.batch_size=1"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, launcher in (("one", []), ("two", torchrun)):
        script = ["tools/train.py", "--config", "configs/digits.yaml"]
        output = ["--output", str(tmp_path / name), "--set", *settings]
        done = run([sys.executable, *launcher, *script, *output], timeout=300)
        assert done.returncode == 0, done.stderr
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert len(one) == len(two) == 3
    for alone, together in zip(one, two, strict=True):
        for record in (alone, together):
            record.pop("images_per_second", None)
        assert together == pytest.approx(alone, abs=1e-5)


def test_share_is_a_part(tiny: list[str]) -> None:
    config = build.load_config(HOME / "configs/digits.yaml", tiny)
    (batch,) = next(iter(Assembly(config, Path("unused"), CPU).load(0, 0, workers=0)))
    both: Tensor = torch.cat([share(batch, 0).image_ids, share(batch, 1).image_ids])
    assert both.equal(batch.image_ids)
