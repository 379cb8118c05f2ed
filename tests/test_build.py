"""Settings become objects: the numbers that a field's name promises."""

from pathlib import Path

import pytest
import torch
from torch import nn

from detector import build
from detector.config import Config
from detector.data.transforms import FixedSize

HOME = Path(__file__).parents[1]


def config(*settings: str) -> Config:
    return build.load_config(HOME / "configs/retinanet.yaml", settings)


@pytest.mark.parametrize(("reference", "rate"), [("16", 0.005), ("null", 0.01), ("8", 0.01)])
def test_the_rate_goes_with_the_batch(reference: str, rate: float) -> None:
    """0.01 at 16 images is 0.005 at 8."""
    settings = ["optimizer.lr=0.01", "train.batch_size=8", f"optimizer.reference_batch={reference}"]
    assert build.schedule(config(*settings), 100).rate == pytest.approx(rate)


def test_milestones_in_epochs_become_steps() -> None:
    schedule = build.schedule(
        config("schedule.epochs=12", "schedule.milestones=[8, 11]", "schedule.kind=step"), 100
    )
    assert (schedule.total_steps, schedule.milestones) == (1200, (800, 1100))


def test_the_optimizer_has_the_numbers_of_its_section() -> None:
    optimizer = build.optimizer(
        config("optimizer.name=sgd", "optimizer.momentum=0.7", "optimizer.weight_decay=0.03"),
        nn.Linear(2, 2),
    )
    assert isinstance(optimizer, torch.optim.SGD)
    kernels, biases = optimizer.param_groups
    assert kernels["momentum"] == biases["momentum"] == 0.7
    assert (kernels["weight_decay"], biases["weight_decay"]) == (0.03, 0)


def test_a_fixed_size_that_is_oblong() -> None:
    found = build.transform(config("data.resize={width: 96, height: 64}"))
    assert found.resize == FixedSize(width=96, height=64)
    assert found.resize.target(10, 10, draw=0.0) == (64, 96)


def test_postprocessing_has_the_keys_of_its_section() -> None:
    keys = {"score": 0.2, "per_level": 7, "nms": 0.6, "per_image": 5, "agnostic": True}
    settings = [f"postprocess.{key}={str(value).lower()}" for key, value in keys.items()]
    ours = config(*settings)
    made = build.predictor(ours, build.class_code(ours, 2), torch.device("cpu")).postprocess
    assert {key: getattr(made, key) for key in keys} == keys
