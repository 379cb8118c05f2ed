"""The loop around the step: which weights are judged, what is kept, when, and at which rate."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from one_weight import anchor_generator, batch, make_step
from torch import Tensor, nn

from detector.data.coco import GroundTruth
from detector.data.transforms import FixedSize
from detector.engine import train as train_module
from detector.engine.logger import Logger
from detector.engine.optim import EMA, Schedule
from detector.engine.preflight import count_reachable_boxes
from detector.engine.restore import averaged
from detector.engine.step import TrainingStep
from detector.engine.train import Pace, Trainer
from detector.loss.normalizer import EmaPositives
from detector.structures import Validation


class Notes(Logger):
    """A logger in memory."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def write(self, record: Any) -> None:
        self.records.append(dict(record))

    def steps(self, key: str) -> list[int]:
        """Steps of the records that have this key."""
        return [record["step"] for record in self.records if key in record]


class Judge:
    """A validation whose AP is read from a list; it remembers the weight that it was given."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)
        self.weights: list[float] = []

    def __call__(self, model: nn.Module) -> Validation:
        self.weights.append(model.weight.item())
        model.eval()
        return Validation({"AP": self.values.pop(0), "AP50": 0.0, "loss": 0.0}, [])


def trainer(
    run: Path,
    *,
    step: TrainingStep | None = None,
    total: int = 4,
    judge: Judge | None = None,
    asked: list[tuple[int, int]] | None = None,
    schedule: Schedule | None = None,
    **pace: Any,
) -> Trainer:
    """Of steps of one image; `asked` gets the epochs and skipped steps that are loaded."""
    settings = {"steps_per_epoch": 2, "log_every": 1, "validate_every": 1, "save_every": None}
    rhythm = Pace(**{**settings, **pace})

    def load(epoch: int, skip: int) -> Sequence[Any]:
        if asked is not None:
            asked.append((epoch, skip))
        return [[batch()]] * (rhythm.steps_per_epoch - skip)

    return Trainer(
        step=step or make_step(),
        schedule=schedule or Schedule(rate=0.1, total_steps=total, kind="step"),
        load_epoch=load,
        validate=judge,
        logger=Notes(),
        run=run,
        pace=rhythm,
        best="AP",
        identity={},
        file_name=str,
    )


def saved_step(run: Path, name: str) -> int:
    state = torch.load(run / "checkpoints" / f"{name}.pt", weights_only=True)
    return state["step"]


def test_the_best_stays_the_best_when_the_metric_falls(tmp_path: Path) -> None:
    """0.5 after epoch 2 of 4: step 4, though 0.4 is more than the 0.3 before it."""
    assert trainer(tmp_path, total=8, judge=Judge(0.2, 0.5, 0.3, 0.4)).run() == 0
    assert (saved_step(tmp_path, "best"), saved_step(tmp_path, "last")) == (4, 8)


def test_the_averaged_weights_are_judged(tmp_path: Path) -> None:
    """Gradients 10 and 20 sigmoid(-1) = 5.3788 at rate 0.1: w = -1, -1.53788. The average goes
    0.9 of the way to -1, then 9/11 from -0.9 to -1.53788."""
    step = make_step(weight=10)
    step.ema = EMA(step.model, decay=0.5)
    judge = Judge(0.1)
    trainer(tmp_path, step=step, total=2, judge=judge).run()
    assert step.model.weight.item() == pytest.approx(-1.53788, abs=1e-5)
    assert judge.weights == pytest.approx([-1.42190], abs=1e-5)


def test_without_an_average_the_weights_are_judged(tmp_path: Path) -> None:
    """One step of gradient 1 at rate 0.1; the model goes on training afterwards."""
    step, judge = make_step(), Judge(0.1, 0.2)
    trainer(tmp_path, step=step, total=2, judge=judge, steps_per_epoch=1).run()
    assert judge.weights[0] == pytest.approx(-0.1)
    assert step.model.modes == [True, True]


def test_each_step_has_its_rate(tmp_path: Path) -> None:
    """Half of it in the first step of a warm-up, a tenth from the third step on."""
    schedule = Schedule(
        rate=1.0, total_steps=4, kind="step", milestones=(2,), warmup_steps=1, warmup_factor=0.5
    )
    step = make_step()
    loop = trainer(tmp_path, step=step, schedule=schedule)
    used: list[float] = []
    loop.logger.progress = lambda *_: used.append(step.optimizer.param_groups[0]["lr"])
    loop.run()
    assert used == pytest.approx([0.5, 1, 0.1, 0.1])
    assert [r["learning_rate"] for r in loop.logger.records] == pytest.approx(used)


def test_when_lines_are_written(tmp_path: Path) -> None:
    """The first step, every third, and the last."""
    loop = trainer(tmp_path, total=7, steps_per_epoch=100, log_every=3)
    loop.run()
    assert loop.logger.steps("loss/total") == [1, 3, 6, 7]


def test_when_it_validates(tmp_path: Path) -> None:
    """Every second epoch of one step, and at the end."""
    loop = trainer(
        tmp_path, total=5, judge=Judge(0.1, 0.2, 0.3), steps_per_epoch=1, validate_every=2
    )
    loop.run()
    assert loop.logger.steps("validation/AP") == [2, 4, 5]


def test_when_it_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr(
        train_module.checkpoint, "save_state", lambda state, *paths: saved.append(state["step"])
    )
    trainer(tmp_path, total=5, steps_per_epoch=100, save_every=2).run()
    assert saved == [2, 4, 5]


def test_images_per_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step takes half a second and one image."""
    step, clock = make_step(), [0.0]
    step.model.register_forward_pre_hook(lambda *_: clock.__setitem__(0, clock[0] + 0.5))
    monkeypatch.setattr(train_module, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    loop = trainer(tmp_path, step=step, total=2)
    loop.run()
    assert [r["images_per_second"] for r in loop.logger.records] == [2, 2]


def full_step() -> TrainingStep:
    """With all that has a state: momentum, a moving average, a running mean of positives."""
    step = make_step(momentum=0.9, normalizer=EmaPositives())
    step.ema = EMA(step.model, decay=0.5)
    return step


def test_a_state_is_all_that_the_next_step_depends_on(tmp_path: Path) -> None:
    """Three steps of the first epoch of four; the meter, read after the second, holds the third."""
    asked: list[tuple[int, int]] = []
    pace = {"steps_per_epoch": 4, "log_every": 2, "asked": asked, "total": 8}
    one = trainer(tmp_path, step=full_step(), judge=Judge(0.5, 0.4), **pace)
    other = trainer(tmp_path, step=full_step(), judge=Judge(0.4, 0.3), **pace)
    one.validated, one.best_value = 2, 0.5
    for index in range(3):
        one.step([batch()], one.meter, rate=0.1, index=index)
        one.done += 1
    torch.manual_seed(7)
    state = one.state()
    expected = torch.rand(3)
    other.restore(state)
    assert torch.equal(torch.rand(3), expected)
    assert (other.done, other.validated, other.best_value) == (3, 2, 0.5)
    weight = one.step.model.weight
    assert other.step.model.weight.item() == weight.item() != 0
    assert one.step.ema is not None and other.step.ema is not None
    assert other.step.ema.module.weight.item() == one.step.ema.module.weight.item() != 0
    (momentum,) = (s["momentum_buffer"] for s in other.step.optimizer.state.values())
    assert momentum.item() == one.step.optimizer.state[weight]["momentum_buffer"].item() != 0
    # three steps without positives, counted as 1: 1 + 99 * 0.9^3
    assert other.step.criterion.normalizer.average.item() == pytest.approx(73.171)
    assert other.meter.steps == 3 and torch.equal(other.meter.sums, one.meter.sums)
    other.run()
    assert asked[0] == (0, 3)


def test_the_average_of_a_checkpoint_is_its_network() -> None:
    state = {"model": {"weight": 1}, "ema": {"module.weight": 2, "other": 3}}
    assert averaged(state) == {"weight": 2}
    assert averaged({**state, "ema": None}) == {"weight": 1}


class OneImage:
    """An index of one image, 64 x 64, whose height a resize to 64 x 32 halves."""

    boxes = torch.tensor(
        [[8.0, 16, 24, 48], [40, 16, 56, 32], [0, 0, 4, 4], [8, 16, 24, 48]]
    )  # resized [8 8 24 24]: an anchor's; [40 8 56 16]: half of one; too small; a crowd

    def __len__(self) -> int:
        return 1

    def size(self, row: int) -> tuple[int, int]:
        return 64, 64

    def truth(self, row: int) -> GroundTruth:
        crowd: Tensor = torch.tensor([False, False, False, True])
        return GroundTruth(self.boxes, torch.ones(4, 1, dtype=torch.bool), crowd)


def test_which_boxes_an_anchor_can_reach() -> None:
    """Anchors [8 8 24 24] and [40 8 56 24]; IoU 1, 1/2 and less; the crowd does not count."""
    index: Any = OneImage()
    resize = FixedSize(width=64, height=32)
    assert count_reachable_boxes(index, resize, anchor_generator(), foreground=0.5) == (2, 3)
