"""Learning rates that a person can redo, and who is decayed."""

import pytest
import torch
from torch import nn

from detector.engine.optim import Schedule, parameter_groups, with_moments


def test_warmup_is_linear() -> None:
    """Half way from 0.1 to 1 is 0.55."""
    schedule = Schedule(rate=2.0, total_steps=100, kind="step", warmup_steps=10, warmup_factor=0.1)
    assert [schedule(0), schedule(5), schedule(10)] == pytest.approx([0.2, 1.1, 2.0])


def test_steps() -> None:
    schedule = Schedule(rate=1.0, total_steps=100, kind="step", milestones=(60, 80))
    assert [schedule(n) for n in (59, 60, 79, 80)] == pytest.approx([1, 0.1, 0.1, 0.01])


def test_cosine_runs_from_the_end_of_warmup_to_zero() -> None:
    """A third of the way cos(pi / 3) = 1/2, so 3/4; half way 1/2."""
    schedule = Schedule(rate=1.0, total_steps=70, kind="cosine", warmup_steps=10)
    assert [schedule(n) for n in (10, 30, 40, 70)] == pytest.approx([1, 0.75, 0.5, 0])


def test_norms_and_biases_are_not_decayed_unless_asked() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.Linear(2, 2))
    model[2].weight.requires_grad_(False)
    kernels, rest = parameter_groups(model, weight_decay=0.1, decay_norms=False)
    assert [p.shape for p in kernels["params"]] == [torch.Size([2, 1, 3, 3])]
    assert len(rest["params"]) == 4
    assert (kernels["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert parameter_groups(model, weight_decay=0.1, decay_norms=True)[1]["weight_decay"] == 0.1


def test_without_a_warmup_the_first_step_has_the_whole_rate() -> None:
    assert Schedule(rate=2.0, total_steps=3, kind="step")(0) == 2


def test_the_cosine_stands_still_during_the_warmup() -> None:
    """Half the rate at first, and no cosine of a negative share."""
    schedule = Schedule(rate=1.0, total_steps=20, kind="cosine", warmup_steps=10, warmup_factor=0.5)
    assert [schedule(0), schedule(5), schedule(30)] == pytest.approx([0.5, 0.75, 0])


def test_a_warmup_begins_at_a_thousandth() -> None:
    assert Schedule(rate=1.0, total_steps=9, kind="step", warmup_steps=5)(0) == 0.001


def test_the_backbones_groups_have_its_factor() -> None:
    """In the order of all kernels, then all else, that older checkpoints number moments by."""
    model = nn.ModuleDict({"backbone": nn.Linear(1, 2), "backbones": nn.Linear(2, 3)})
    groups = parameter_groups(model, weight_decay=0.1, decay_norms=False, backbone_rate=0.25)
    assert [group["rate_factor"] for group in groups] == [0.25, 1, 0.25, 1]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.1, 0, 0]
    order = [parameter for group in groups for parameter in group["params"]]
    first, second = model["backbone"], model["backbones"]
    expected = [first.weight, second.weight, first.bias, second.bias]
    assert [id(parameter) for parameter in order] == [id(parameter) for parameter in expected]


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_moments_of_zero_are_those_of_the_first_step(kind: type[torch.optim.Optimizer]) -> None:
    """Also where a parameter gets its first gradient in the second step, which a fused SGD without
    buffers fails at."""
    plain, eager = nn.Linear(2, 2), nn.Linear(2, 2)
    eager.load_state_dict(plain.state_dict())
    more = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    pairs = [
        (plain, kind(plain.parameters(), lr=0.1, **more)),
        (eager, with_moments(kind(eager.parameters(), lr=0.1, fused=True, **more))),
    ]
    for step in range(3):
        for model, optimizer in pairs:
            model.weight.grad = torch.full_like(model.weight, 1.0 + step)
            model.bias.grad = torch.ones_like(model.bias) if step else None
            optimizer.step()
    torch.testing.assert_close(eager.state_dict(), plain.state_dict())
