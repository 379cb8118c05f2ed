"""The whole model: sizes, order of the outputs, and the ways it is run."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detector.model.backbone import Backbone
from detector.model.initialize import initialize
from detector.model.retinanet import FPN, Head, RetinaNet

CELLS, CHANNELS = 2, 3


def small(name: str = "resnet18", norm: str = "group") -> RetinaNet:
    backbone = Backbone(name, norm, 0)
    model = RetinaNet(
        backbone,
        FPN(backbone.channels, 16, "p5"),
        Head(16, 24, 1, "group", CHANNELS, CELLS),
        Head(16, 24, 1, "none", 4, CELLS),
    )
    initialize(model, seed=0, class_bias=torch.tensor([-1.0, 0.0, 1.0]))
    return model


MODEL = small()
IMAGES = torch.randint(0, 256, (2, 3, 100, 75), dtype=torch.uint8)


with torch.device("meta"):
    SHAPES_ONLY = small(norm="frozen_batch")


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300))
def test_levels_are_rounded_up(height: int, width: int) -> None:
    outputs = SHAPES_ONLY(torch.empty(1, 3, height, width, dtype=torch.uint8, device="meta"))
    positions = sum(math.ceil(height / s) * math.ceil(width / s) for s in SHAPES_ONLY.strides)
    assert outputs.class_logits.shape == (1, positions * CELLS, CHANNELS)
    assert outputs.box_deltas.shape == (1, positions * CELLS, 4)


def test_odd_size_with_real_numbers() -> None:
    """100 x 75: 13*10 + 7*5 + 4*3 + 2*2 + 1*1 = 182 positions"""
    outputs = MODEL(IMAGES)
    assert outputs.class_logits.shape == (2, 182 * CELLS, CHANNELS)
    assert outputs.class_logits.isfinite().all()


def test_head_puts_out_row_column_cell() -> None:
    """A 1x1 patch at row 1, column 2 of 3x4 lights positions 5, 6, 7 and their rows only."""
    head = Head(1, 1, 0, "none", out_channels=3, anchors_per_cell=2)
    torch.nn.init.zeros_(head.last.weight)
    with torch.no_grad():
        head.last.weight[:, 0, 1, 1] = torch.arange(1.0, 7.0)  # (cell, channel): 1 2 3, 4 5 6
        head.last.bias.zero_()
    level = torch.zeros(1, 1, 3, 4)
    level[0, 0, 1, 2] = 1
    values = head(level)[0].unflatten(0, (3, 4, 2))
    assert values[1, 2].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert values.sum() == 21


@pytest.mark.parametrize("p6_from", ["p5", "c5"])
def test_pyramid_equals_torchvision(p6_from: str) -> None:
    """C5 has as many channels as the pyramid: from that torchvision infers p5, we are told."""
    widths = (6, 10, 8 if p6_from == "p5" else 12)
    ours = FPN(widths, 8, p6_from)
    theirs = FeaturePyramidNetwork(list(widths), 8, LastLevelP6P7(8 if p6_from == "p5" else 12, 8))
    for own, other in (
        *zip(ours.laterals, theirs.inner_blocks, strict=True),
        *zip(ours.outputs, theirs.layer_blocks, strict=True),
    ):
        own.load_state_dict(other[0].state_dict())
    ours.p6.load_state_dict(theirs.extra_blocks.p6.state_dict())
    ours.p7.load_state_dict(theirs.extra_blocks.p7.state_dict())
    maps = [torch.randn(2, c, 13 >> i, 9 >> i) for i, c in enumerate(widths)]
    expected = theirs(dict(zip("345", maps, strict=True))).values()
    for own, other in zip(ours(tuple(maps)), expected, strict=True):
        assert torch.equal(own, other)


def test_images_are_normalised_as_imagenet() -> None:
    """A backbone that hands on what it gets: (124/255 - .485) / .229 = .00557 in red."""
    model = copy.copy(MODEL)
    seen: list[torch.Tensor] = []
    hook = model.backbone.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    grey = torch.full((1, 3, 32, 32), 124, dtype=torch.uint8)
    model(grey)
    model(grey.float())
    hook.remove()
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx([0.00557, 0.13515, 0.35686], abs=1e-4)
    assert torch.equal(seen[0], seen[1])


def test_training_and_evaluation_are_the_same_call() -> None:
    training = MODEL.train()(IMAGES)
    evaluation = MODEL.eval()(IMAGES)
    assert torch.equal(training.class_logits, evaluation.class_logits)
    assert torch.equal(training.box_deltas, evaluation.box_deltas)


def test_channels_last_gives_the_same_numbers() -> None:
    model = copy.deepcopy(MODEL).to(memory_format=torch.channels_last)
    ours = model(IMAGES.to(memory_format=torch.channels_last))
    assert torch.allclose(ours.class_logits, MODEL(IMAGES).class_logits, atol=1e-4)


def test_autocast_runs_in_bfloat16() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = MODEL(IMAGES)
    assert outputs.class_logits.dtype == torch.bfloat16
    assert torch.allclose(outputs.class_logits.float(), MODEL(IMAGES).class_logits, atol=0.05)


def test_compiles_as_one_graph() -> None:
    model = small("mobilenet_v2", "frozen_batch")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(IMAGES).box_deltas, model(IMAGES).box_deltas)


def test_every_parameter_has_a_gradient() -> None:
    """One without would stall DistributedDataParallel."""
    model = small("mobilenet_v2", norm="batch").train()
    outputs = model(IMAGES)
    (outputs.class_logits.sum() + outputs.box_deltas.sum()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_normalisation_is_not_in_the_checkpoint() -> None:
    assert {key.split(".")[0] for key in MODEL.state_dict()} == {
        "backbone",
        "pyramid",
        "class_head",
        "box_head",
    }
