"""Initial values depend on the seed and the name alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from detector.model.backbone import Backbone
from detector.model.initialize import initialize
from detector.model.retinanet import FPN, Head, RetinaNet

CELLS = 3


def values(
    seed: int = 0,
    *,
    bias: tuple[float, ...] = (-4.0, -4.0),
    norm: str = "batch",
    frozen: int = 0,
    convs: int = 2,
    head_norm: str = "none",
) -> dict[str, Tensor]:
    """The state of an initialised model, whatever the global generator was at."""
    torch.rand(1)
    backbone = Backbone("resnet18", norm, frozen)
    model = RetinaNet(
        backbone,
        FPN(backbone.channels, 32, "c5"),
        Head(32, 32, convs, head_norm, len(bias), CELLS),
        Head(32, 32, convs, head_norm, 4, CELLS),
    )
    initialize(model, seed=seed, class_bias=torch.tensor(bias))
    return dict(model.state_dict())


BASE = values()


def assert_shared_equal(state: dict[str, Tensor]) -> None:
    shared = [key for key in BASE if key in state and not key.startswith("class_head.last")]
    assert len(shared) > 30
    assert [key for key in shared if not torch.equal(BASE[key], state[key])] == []


def test_the_same_seed_gives_the_same_values_and_another_seed_others() -> None:
    again, other = values(), values(seed=1)
    assert_shared_equal(again)
    weights = [key for key, value in BASE.items() if value.dim() == 4]
    assert not any(torch.equal(BASE[key], other[key]) for key in weights)


@pytest.mark.parametrize(
    "option",
    [
        {"norm": "group"},
        {"norm": "frozen_batch"},
        {"frozen": 2},
        {"convs": 4},
        {"head_norm": "group"},
        {"bias": (0.0, 0.0, 4.6)},
    ],
    ids=str,
)
def test_an_option_moves_nothing_else(option: dict) -> None:
    assert_shared_equal(values(**option))


def test_a_background_channel_leaves_the_classes_as_they_are() -> None:
    wide = values(bias=(0.5, 1.5, 4.6))
    two = BASE["class_head.last.weight"].unflatten(0, (CELLS, 2))
    three = wide["class_head.last.weight"].unflatten(0, (CELLS, 3))
    assert torch.equal(three[:, :2], two)
    assert not torch.equal(three[:, 2], two[:, 1])
    assert wide["class_head.last.bias"].tolist() == pytest.approx([0.5, 1.5, 4.6] * CELLS)


def test_same_shape_is_not_same_values() -> None:
    assert not torch.equal(BASE["class_head.convs.0.0.weight"], BASE["box_head.convs.0.0.weight"])
    assert not torch.equal(BASE["pyramid.outputs.0.weight"], BASE["pyramid.outputs.1.weight"])


def test_distributions() -> None:
    """layer4: fan-out 512*9, sqrt(2/4608) = .0208; FPN: uniform to sqrt(3/(32*9)) = .102."""
    backbone = BASE["backbone.body.layer4.1.conv2.weight"]
    assert backbone.std().item() == pytest.approx(math.sqrt(2 / 4608), rel=0.01)
    fpn = BASE["pyramid.outputs.0.weight"]
    assert fpn.abs().max().item() == pytest.approx(math.sqrt(3 / 288), rel=0.01)
    for head in ("box_head.convs.1.0", "class_head.last"):
        assert BASE[f"{head}.weight"].std().item() == pytest.approx(0.01, rel=0.05)
    assert BASE["box_head.last.bias"].tolist() == [0.0] * 4 * CELLS
    assert BASE["backbone.body.bn1.weight"].tolist() == [1.0] * 64
    assert BASE["backbone.body.bn1.bias"].tolist() == [0.0] * 64
