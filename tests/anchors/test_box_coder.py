"""Deltas against worked examples, and back."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detector.anchors.box_coder import BoxCoder


def test_encode_a_shifted_and_doubled_box() -> None:
    """Anchor 10 x 20 at centre (5, 10); box 20 x 20 at (10, 15): 5/10, 5/20, ln 2, ln 1."""
    deltas = BoxCoder().encode(torch.tensor([0.0, 5, 20, 25]), torch.tensor([0.0, 0, 10, 20]))
    assert deltas.tolist() == pytest.approx([0.5, 0.25, math.log(2), 0.0], abs=1e-6)


def test_zero_deltas_are_the_anchor() -> None:
    anchor = torch.tensor([[3.0, 4, 13, 44]])
    assert BoxCoder().decode(torch.zeros(1, 4), anchor).tolist() == anchor.tolist()


def test_growth_is_bounded() -> None:
    """dw = 100 would be e^100; the limit lets a 16-pixel anchor grow to 1000 pixels."""
    box = BoxCoder().decode(torch.tensor([0.0, 0, 100, 100]), torch.tensor([0.0, 0, 16, 16]))
    assert (box[2] - box[0]).item() == pytest.approx(1000, rel=1e-5)


corner = st.floats(-100, 900, width=32)
side = st.floats(8, 400, width=32)
rectangle = st.tuples(corner, corner, side, side).map(
    lambda r: [r[0], r[1], r[0] + r[2], r[1] + r[3]]
)


@given(rectangle, rectangle)
def test_decode_undoes_encode(box: list[float], anchor: list[float]) -> None:
    """At most 400 / 8 = 50 times larger, so within the limit of 62.5."""
    box_coder, anchors = BoxCoder(), torch.tensor(anchor)
    decoded = box_coder.decode(box_coder.encode(torch.tensor(box), anchors), anchors)
    assert decoded.tolist() == pytest.approx(box, abs=0.01)


def test_float16_deltas_are_decoded_in_float32() -> None:
    """100 e = 271.828; float16 has no number between 271.5 and 272 there, and e^1 is 2.71875."""
    deltas = torch.tensor([0.0, 0, 1, 0], dtype=torch.float16)
    actual = BoxCoder().decode(deltas, torch.tensor([0.0, 0, 100, 50]))
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, torch.tensor([-85.9141, 0, 185.9141, 50]))
