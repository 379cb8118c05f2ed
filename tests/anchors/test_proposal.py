"""Anchors proposed for boxes whose best anchors can be named by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detector.anchors import proposal
from detector.anchors.proposal import propose_anchors

STRIDES = (8, 16, 32, 64, 128)


def test_boxes_of_one_shape_get_an_anchor_of_it() -> None:
    """40 x 20: area 28.3^2, ratio 0.5. No box is for the coarser levels, which keep 4 strides."""
    anchors = propose_anchors(torch.tensor([[40.0, 20.0]] * 7), STRIDES)
    assert anchors.sizes == (28.3, 64, 128, 256, 512)
    assert anchors.ratios == (0.25, 0.5, 1)


@given(
    st.lists(
        st.tuples(st.integers(8, 400), st.sampled_from([0.5, 0.98, 1.0, 1.02, 2.0])), min_size=1
    )
)
def test_no_anchor_is_there_twice(boxes: list[tuple[int, float]]) -> None:
    sides = torch.tensor([[width, width * ratio] for width, ratio in boxes])
    ratios = propose_anchors(sides, STRIDES).ratios
    assert list(ratios) == sorted(set(ratios))


def test_thin_lines_get_anchors() -> None:
    """500 x 1: ratios of 0.001, 0.002 and 0.004, which two decimals would make 0."""
    anchors = propose_anchors(torch.tensor([[500.0, 1.0]] * 7), STRIDES)
    assert anchors.ratios == (0.001, 0.002, 0.004)


def test_anchors_of_a_level_are_a_quarter_of_its_stride_away() -> None:
    """40 x 20 and an anchor of 32 x 32, at strides of 8, 64 and 256, so 2, 16 and 64 pixels away.

    Shared are 32 x 20, (36 - 16) x (26 - 16) and nothing: 640 / 1184, 200 / 1624 and 0. With an
    anchor of ratio 4, 16 x 64, at a stride of 8: 16 x 20 of 1504.
    """
    numbers = ([[40, 20]], [32, 32, 32], [1], [1, 4], [8, 64, 256])
    overlaps = proposal._overlaps(*(torch.tensor(one).double() for one in numbers))
    assert overlaps[0, :, 0, 0].tolist() == pytest.approx([640 / 1184, 200 / 1624, 0])
    assert float(overlaps[0, 0, 1, 0]) == pytest.approx(320 / 1504)


def test_a_size_is_that_of_the_boxes_by_their_scale() -> None:
    """Squares of 20 and of 31.748 = 20 * 2 ** (2 / 3), two scales of one size."""
    sides = torch.tensor([[20.0, 20.0], [31.748, 31.748]] * 4)
    assert propose_anchors(sides, STRIDES).sizes[0] == pytest.approx(20, rel=0.01)


def test_of_many_boxes_those_taken_are_spread() -> None:
    """5000 small boxes first, and as many of 200 x 200 behind them."""
    sides = torch.tensor([[20.0, 20.0], [200.0, 200.0]]).repeat_interleave(5000, dim=0)
    sizes = propose_anchors(sides, STRIDES).sizes
    assert any(size * scale == pytest.approx(200, rel=0.01)
               for size in sizes for scale in (1, 2 ** (1 / 3), 2 ** (2 / 3)))  # fmt: skip
