"""The fixed size of an exported program's images, and where an image lies in it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detector.data.transforms import FixedSize, ShorterSide
from detector.errors import InputError
from detector.export.canvas import Canvas


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_without_size_every_image_is_resized_as_in_evaluation(height: int, width: int) -> None:
    resize = ShorterSide(shorter=(640, 800), longer=1333)
    canvas = Canvas.of(resize, None)
    assert (canvas.height, canvas.width) == (1344, 1344)  # 42 * 32
    assert canvas.target(height, width) == resize.for_evaluation().target(height, width, draw=0)


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_no_image_leaves_a_canvas_of_any_size(height: int, width: int) -> None:
    rows, columns = Canvas.of(ShorterSide((800,), 1333), (320, 96)).target(height, width)
    assert 1 <= rows <= 320 and 1 <= columns <= 96


def test_sizes_by_hand() -> None:
    """800 / 1000 > 1333 / 2000 = .6665 = 1333 x 666.5; into 320 x 640 it goes at .32."""
    resize = ShorterSide(shorter=(800,), longer=1333)
    assert Canvas.of(resize, (800, 1344)).target(1000, 2000) == (667, 1333)
    assert Canvas.of(resize, (320, 640)).target(1000, 2000) == (320, 640)
    assert Canvas.of(resize, (640, 320)).target(1000, 2000) == (160, 320)
    fixed = Canvas.of(FixedSize(width=300, height=200), None)
    assert (fixed.height, fixed.width, fixed.target(50, 50)) == (224, 320, (200, 300))


def test_an_image_lies_in_the_upper_left_corner() -> None:
    batch = Canvas.of(ShorterSide((40,), 60), (64, 64)).batch(torch.zeros(3, 20, 30).byte())
    assert batch.sizes.tolist() == batch.original_sizes.tolist() == [[40, 60]]
    assert batch.images.shape == (1, 3, 64, 64) and not batch.images[..., :40, :60].any()
    assert batch.images[0, :, 40, 0].tolist() == batch.images[0, :, 0, 60].tolist()
    assert batch.images[0, :, 63, 63].tolist() == [124, 116, 104]


@pytest.mark.parametrize("size", [(0, 64), (100, 128), (128, 100), (-32, 64)])
def test_a_size_that_is_no_multiple_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"--size {size[0]} {size[1]}: .*multiples of 32"):
        Canvas.of(ShorterSide((40,), 60), size)


def test_a_fixed_size_leaves_no_choice() -> None:
    assert Canvas.of(FixedSize(width=128, height=96), (96, 128)).height == 96
    with pytest.raises(InputError, match="96 x 128 .*data.resize"):
        Canvas.of(FixedSize(width=128, height=96), (128, 96))


def test_the_rule_that_other_programs_resize_by() -> None:
    assert Canvas.of(FixedSize(width=300, height=200), None).rule == {"height": 200, "width": 300}
    rule = Canvas.of(ShorterSide(shorter=(640, 800), longer=1333), None).rule
    assert rule == {"shorter": 800, "longer": 1333}
