"""One step of a detector of one weight: what moves, and what the meter says, by hand."""

import math

import pytest
import torch
from one_weight import ANCHORS, OneWeight, batch, make_step

from detector.engine import step as step_module
from detector.engine.meter import Meter, training_record
from detector.engine.optim import EMA
from detector.engine.step import TrainingStep
from detector.loss.normalizer import Divisors, PositivesPerImage
from detector.structures import BACKGROUND, IGNORED, Losses, Targets

CPU = torch.device("cpu")
LN2 = math.log(2)


def scaler(scale: float) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=scale)


def weight_of(step: TrainingStep) -> float:
    return step.model.weight.item()


def test_the_step_descends_at_the_rate_that_it_is_given() -> None:
    """Two background anchors pull by 1/2 each, ten times: gradient 10, times 0.03."""
    step, meter = make_step(weight=10), Meter(CPU)
    step([batch()], meter, rate=0.03, index=0)
    assert weight_of(step) == pytest.approx(-0.3)
    means = meter.read()
    assert means["gradient_norm"] == pytest.approx(10) and means["clipped"] == 0


@pytest.mark.parametrize("scale", [None, 8.0])
def test_a_gradient_of_10_is_clipped_to_1(scale: float | None) -> None:
    """With and without a loss scale, which must be out of the gradient before it is measured."""
    changes = {} if scale is None else {"scaler": scaler(scale)}
    step, meter = make_step(weight=10, clip_norm=1.0, **changes), Meter(CPU)
    step([batch()], meter, rate=0.5, index=0)
    assert weight_of(step) == pytest.approx(-0.5, rel=1e-5)
    means = meter.read()
    assert means["gradient_norm"] == pytest.approx(10) and means["clipped"] == 1


def test_the_gradient_of_a_step_is_its_own() -> None:
    step, meter = make_step(weight=10), Meter(CPU)
    for index in range(2):
        step([batch()], meter, rate=0.0, index=index)
    assert meter.read()["gradient_norm"] == pytest.approx(10)


def test_the_average_follows_the_weights() -> None:
    """Decay 1/10 at step 0: 0.9 of the way to -1. Then w = -1 - 0.1 * 20 sigmoid(-1) = -1.53788,
    and at step 1000, decay 1/2: half way from -0.9 to it."""
    model = OneWeight()
    average = EMA(model, decay=0.5)
    step = make_step(model=model, weight=10, ema=average)
    step([batch()], Meter(CPU), rate=0.1, index=0)
    assert average.module.weight.item() == pytest.approx(-0.9)
    step([batch()], Meter(CPU), rate=0.1, index=1000)
    assert average.module.weight.item() == pytest.approx(-1.21894, abs=1e-5)


def test_micro_batches_have_divisors_of_their_own() -> None:
    """Z = N max(1, P): 2 for the image without boxes, 4 for the one with two foreground anchors.

    The loss is 2 ln 2 / 2 + 2 ln 2 / 4, the gradient 1 / 2 - 1 / 4.
    """
    step, meter = make_step(normalizer=PositivesPerImage()), Meter(CPU)
    actual = step([batch(), batch(*ANCHORS)], meter, rate=0, index=0)
    assert actual.item() == pytest.approx(1.5 * LN2)
    assert step.model.weight.grad.item() == pytest.approx(0.25)


def test_torchs_profiler_sees_the_parts_of_a_step() -> None:
    """Two micro-batches: one assignment for both."""
    step = make_step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as run:
        step([batch(), batch()], Meter(CPU), rate=0.0, index=0)
    counts = {row.key: row.count for row in run.key_averages()}
    parts = ("assign", "forward", "loss", "backward")
    assert [counts[part] for part in parts] == [1, 2, 2, 2]


def test_more_ranks_multiply_the_gradient_that_ddp_divides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(step_module, "world_size", lambda: 2)
    step = make_step()
    step([batch()], Meter(CPU), rate=0, index=0)
    assert step.model.weight.grad.item() == 2


def test_anchors_of_an_image_that_is_higher_than_wide() -> None:
    actual = make_step().assign(batch(ANCHORS[1]))
    assert actual.anchors.tolist() == ANCHORS and actual.matches.tolist() == [[BACKGROUND, 0]]


@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_every_second_step_is_looked_at(scale: float) -> None:
    """Two easy negatives (p is 1/2, not above it) cost ln 2 and pull by 1/2, whatever the scale."""
    step, meter = make_step(diagnose_every=2, scaler=scaler(scale)), Meter(CPU)
    step([batch()], meter, rate=0.0, index=4)
    means = meter.read()
    assert means["loss_of_easy_negatives"] == pytest.approx(2 * LN2)
    assert means["gradient_of_easy_negatives"] == pytest.approx(1)
    step([batch()], meter, rate=0.0, index=5)
    assert meter.read()["loss_of_easy_negatives"] == 0


def test_the_first_bad_step_is_remembered() -> None:
    step = make_step()
    step([batch()], Meter(CPU), rate=0.0, index=3)
    assert step.first_bad == -1
    with torch.no_grad():
        step.model.weight.fill_(torch.nan)
    for index in (4, 5):
        step([batch()], Meter(CPU), rate=0.0, index=index)
    assert step.first_bad == 4


def test_a_bad_micro_batch_before_a_good_one_is_bad() -> None:
    """Under a loss scale the gradient alone says nothing: it may have overflowed."""
    step = make_step(scaler=scaler(2.0))
    anchors = torch.full((1, 1, 4), torch.nan)
    bad, good = batch(ANCHORS[0]), batch()
    inner = step.assign
    step.assign = lambda b: (
        Targets(inner(b).anchors, inner(b).matches, anchors, b.labels[:, :1], b.keys)
        if b is bad
        else inner(b)
    )
    step([bad, good], Meter(CPU), rate=0.0, index=7)
    assert step.first_bad == 7


def test_a_gradient_that_is_not_finite_is_bad_though_the_loss_is() -> None:
    step = make_step()
    step.model.weight.register_hook(lambda gradient: gradient * torch.inf)
    step([batch()], Meter(CPU), rate=0.1, index=2)
    assert step.first_bad == 2 and weight_of(step) == 0


def test_what_the_meter_says_of_two_steps() -> None:
    """Each: six anchors of two images, losses 3 + 1 and 1 + 1; a norm of 1 is not above 1."""
    meter = Meter(CPU)
    losses = Losses(torch.tensor(6.0), torch.tensor(2.0), torch.tensor([[3.0, 1, 0], [1, 1, 0]]))
    matches = torch.tensor([[0, BACKGROUND, IGNORED], [BACKGROUND, BACKGROUND, IGNORED]])
    boxes, labels = torch.zeros(2, 1, 4), torch.ones(2, 1, 1, dtype=torch.bool)
    targets = Targets(torch.zeros(3, 4), matches, boxes, labels, torch.zeros(2, dtype=torch.int64))
    for norm in (1.0, torch.inf):
        meter.add(losses, targets, Divisors(torch.tensor([5.0, 7.0]), torch.tensor(1.0)))
        meter.end_step(torch.tensor(norm), 1.0)
    record = training_record(meter.read())
    assert record == {
        "loss/total": 8,
        "loss/classification": 6,
        "loss/box": 2,
        "loss_share/foreground": 0.5,
        "loss_share/background": 0.5,
        "divisor/classification": 6,
        "anchors/foreground": 1,
        "anchors/background": 3,
        "anchors/ignored": 2,
        "gradient/norm": 0.5,
        "gradient/clipped_steps": 0,
        "gradient/overflowed_steps": 0.5,
    }
    assert set(meter.read().values()) == {0}


def test_a_group_has_its_share_of_the_rate() -> None:
    """Gradient 10, as above, times 0.03, a quarter of it."""
    step = make_step(weight=10)
    step.optimizer.param_groups[0]["rate_factor"] = 0.25
    step([batch()], Meter(CPU), rate=0.03, index=0)
    assert weight_of(step) == pytest.approx(-0.075)
