"""The loop around the step: what it validates, keeps as best, and saves when something ends it."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from conftest import HOME
from runs_apart import last_state
from torch import nn

from detector import build
from detector.engine.logger import Logger
from detector.engine.train import Trainer
from detector.errors import Diverged, InputError, WorkerLost
from detector.structures import Validation
from detector.training import Assembly

Validate = Callable[[nn.Module], Validation]


class Heard(Logger):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def trainer(tiny: Sequence[str], run: Path, validate: Validate, *changes: str) -> Trainer:
    """Four steps in two epochs of two, with this validation instead of the run's own."""
    config = build.load_config(HOME / "configs/digits.yaml", [*tiny, *changes])
    assembly = Assembly(config, run, torch.device("cpu"))
    assembly.validate = validate  # type: ignore[assignment]
    return assembly._trainer(Heard())


def figures(*values: float) -> Validate:
    """AP, one a validation."""
    left = list(values)

    def validate(model: nn.Module) -> Validation:
        return Validation({"AP": left.pop(0), "AP50": -1.0, "loss": 1.0}, [])

    return validate


def broken(model: nn.Module) -> Validation:
    raise InputError("3.jpg: this is not a whole image")


def best_step(run: Path) -> int:
    step: int = torch.load(run / "checkpoints" / "best.pt", weights_only=True)["step"]
    return step


def test_best_is_the_highest_figure(tiny: list[str], tmp_path: Path) -> None:
    loop = trainer(tiny, tmp_path, figures(0.5, 0.25))
    assert loop.run() == 0
    assert best_step(tmp_path) == 2 and loop.best_value == 0.5
    assert any("AP 0.5000  AP50 -  loss 1.0000" in line for line in loop.logger.lines)


def test_an_undefined_figure_takes_the_last_and_is_said_once(
    tiny: list[str], tmp_path: Path
) -> None:
    loop = trainer(tiny, tmp_path, figures(-1.0, -1.0))
    assert loop.run() == 0
    assert best_step(tmp_path) == 4 and loop.best_value == -math.inf
    assert sum("evaluation.best is AP" in line for line in loop.logger.lines) == 1
    assert any("AP -  AP50 -" in line for line in loop.logger.lines)


@pytest.mark.parametrize("first", [True, False], ids=["of an epoch", "the last"])
def test_a_validation_that_fails_is_made_up_for(
    tiny: list[str], tmp_path: Path, *, first: bool
) -> None:
    """Of the validations after steps 2 and 4 one breaks; resumed, the run begins with it."""
    good = figures(0.5)

    def validate(model: nn.Module) -> Validation:
        return broken(model) if first or loop.done == 4 else good(model)

    loop = trainer(tiny, tmp_path, validate)
    with pytest.raises(InputError, match=r"3\.jpg"):
        loop.run()
    state = last_state(tmp_path)
    assert (state["step"], state["validated"]) == ((2, 0) if first else (4, 2))
    again = trainer(tiny, tmp_path, figures(*([0.4, 0.3] if first else [0.6])))
    again.restore(state)
    assert again.run() == 0
    assert last_state(tmp_path)["validated"] == 4
    assert best_step(tmp_path) == (2 if first else 4)


def test_a_lost_worker_loses_no_step(tiny: list[str], tmp_path: Path) -> None:
    loop = trainer(tiny, tmp_path, figures(0.5))
    load = loop.load_epoch

    def lose(epoch: int, skip: int):  # noqa: ANN202
        yield next(iter(load(epoch, skip)))
        raise WorkerLost("gone")

    loop.load_epoch = lose
    with pytest.raises(WorkerLost):
        loop.run()
    assert last_state(tmp_path)["step"] == 1 and WorkerLost.exit_code == 3


def test_statistics_that_are_not_finite_are_never_saved(tiny: list[str], tmp_path: Path) -> None:
    """In training batch norm looks at its batch alone, so that loss and gradients stay finite."""
    loop = trainer(tiny, tmp_path, figures(0.5, 0.5), "model.backbone.norm=batch")
    loop.step.model.get_buffer("backbone.body.features.0.1.running_var")[3] = torch.nan
    with pytest.raises(Diverged, match=r"features\.0\.1\.running_var is not finite"):
        loop.run()
    assert not (tmp_path / "checkpoints").exists()
