"""A backbone that is not trained in the first epochs: what moves when, and that it resumes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import HOME
from runs_apart import assert_same, last_state
from torch import Tensor, nn

from detector.config import load
from detector.engine.logger import Logger
from detector.engine.train import Trainer
from detector.errors import InputError, WorkerLost
from detector.structures import Validation
from detector.training import Assembly

CPU = torch.device("cpu")
FROZEN = [
    "model.backbone.frozen_epochs=1",
    "model.backbone.norm=batch",
    "optimizer.backbone_rate=0.5",
    "train.ema=0.9",
]


def undefined(model: nn.Module) -> Validation:
    return Validation({"AP": -1.0, "AP50": -1.0, "loss": 1.0}, [])


def trainer(tiny: list[str], run: Path, state: dict[str, Any] | None = None) -> Trainer:
    """Four steps in two epochs of two. `load` lets a backbone rest that has learned nothing."""
    config = load(HOME / "configs/digits.yaml", [*tiny, *FROZEN])
    torch.manual_seed(0)  # nothing draws from it, but its state is saved
    assembly = Assembly(config, run, CPU, state)
    assembly.changes()
    assembly.validate = undefined  # type: ignore[assignment]
    one = assembly._trainer(Logger())
    if state is not None:
        one.restore(state)
    return one


def stopped_at(loop: Trainer, step: int) -> None:
    """Run it until a loader's worker is lost before this step, which saves the state."""
    load_epoch = loop.load_epoch

    def lose(epoch: int, skip: int):  # noqa: ANN202
        for batches in load_epoch(epoch, skip):
            if loop.done == step:
                raise WorkerLost("gone")
            yield batches

    loop.load_epoch = lose
    with pytest.raises(WorkerLost):
        loop.run()


def moved(before: dict[str, Tensor], after: dict[str, Tensor], prefix: str) -> list[str]:
    return [key for key in before
            if key.startswith(prefix) and not torch.equal(before[key], after[key])]  # fmt: skip


def test_nothing_of_the_backbone_moves_in_a_frozen_epoch(tiny: list[str], tmp_path: Path) -> None:
    """Neither weights nor statistics, nor in the average; afterwards all of them do."""
    loop = trainer(tiny, tmp_path)
    first = {key: value.clone() for key, value in loop.step.model.state_dict().items()}
    stopped_at(loop, 2)
    frozen = last_state(tmp_path)
    average = {k.removeprefix("module."): v for k, v in frozen["ema"].items()}
    for state in (frozen["model"], average):
        assert moved(first, state, "backbone.") == []
        assert "class_head.last.weight" in moved(first, state, "")
    again = trainer(tiny, tmp_path, frozen)
    assert again.run() == 0
    thawed = moved(first, last_state(tmp_path)["model"], "backbone.")
    assert {key.rpartition(".")[2] for key in thawed} == {
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked"
    }  # fmt: skip
    rates = {group["rate_factor"]: group["lr"] for group in again.step.optimizer.param_groups}
    assert rates[0.5] == rates[1.0] / 2


@pytest.mark.parametrize("step", [1, 2, 3])
def test_stopped_before_at_and_after_the_thaw(tiny: list[str], tmp_path: Path, step: int) -> None:
    whole = trainer(tiny, tmp_path / "whole")
    assert whole.run() == 0
    stopped_at(trainer(tiny, tmp_path / "parts"), step)
    state = last_state(tmp_path / "parts")
    assert state["step"] == step
    resumed = trainer(tiny, tmp_path / "parts", state)
    assert resumed.run() == 0
    assert_same(last_state(tmp_path / "whole"), last_state(tmp_path / "parts"))


def test_frozen_to_the_end_is_refused(tiny: list[str], tmp_path: Path) -> None:
    settings = [*tiny, *FROZEN, "model.backbone.frozen_epochs=2"]
    config = load(HOME / "configs/digits.yaml", settings)
    with pytest.raises(InputError, match="frozen_epochs is 2, that is 4 steps.*ends at step 4"):
        Assembly(config, tmp_path, CPU)
