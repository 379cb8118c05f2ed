"""What only a GPU can show; runs where there is one."""

import pytest
import torch
from conftest import HOME

from detector import build
from detector.commands.train import Assembly
from detector.engine.meter import Meter

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CASES = {
    "bfloat16": ["train.precision=bfloat16"],
    "softmax, ema": [
        "loss.classification.activation=softmax",
        "loss.classification.background=class",
        "train.ema=0.9",
    ],
    "hard negatives, ciou": [
        "loss.classification.sampling={kind: hard_negatives}",
        "loss.box.kind=ciou",
    ],
}


def assemble(tiny: list[str], *changes: str) -> Assembly:
    config = build.load_config(HOME / "configs/digits.yaml", [*tiny, "train.device=cuda", *changes])
    return Assembly(config, HOME / "unused", build.device(config))


@pytest.mark.parametrize("case", CASES)
def test_the_step_never_waits_for_the_gpu(tiny: list[str], case: str) -> None:
    assembly = assemble(tiny, *CASES[case])
    batches = [b.to(assembly.device) for b in next(iter(assembly.load(0, 0, workers=0)))]
    meter = Meter(assembly.device)
    assembly.step(batches, meter, rate=1e-3, number=0)  # libraries and anchors are set up here
    torch.cuda.set_sync_debug_mode("error")
    try:
        assembly.step(batches, meter, rate=1e-3, number=1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert meter.read()["classification"] > 0


def test_float16_scales_and_descends(tiny: list[str]) -> None:
    assembly = assemble(tiny, "train.precision=float16")
    batches = [b.to(assembly.device) for b in next(iter(assembly.load(0, 0, workers=0)))]
    meter = Meter(assembly.device)
    losses = []
    for number in range(20):
        assembly.step(batches, meter, rate=1e-3, number=number)
        losses.append(meter.read()["classification"])
    assert losses[-1] < losses[0]
    assert all(p.isfinite().all() for p in assembly.net.parameters())
