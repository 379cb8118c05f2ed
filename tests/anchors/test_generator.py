"""Anchors against worked examples."""

import pytest
import torch

from detector.anchors import generator as module
from detector.anchors.generator import AnchorGenerator, cell_shapes


def test_a_cell_keeps_the_area_and_has_the_ratio() -> None:
    """Size 32, ratio 4 = height / width: 16 x 64, area 1024 = 32 * 32; scale 2 doubles both."""
    assert cell_shapes([32], [1, 2], [4]) == [[(16, 64), (32, 128)]]


def test_anchors_of_a_two_by_two_map() -> None:
    """Stride 16 on 32 x 32: centres 8 and 24; an 8 x 4 anchor reaches 4 and 2 to each side."""
    anchors = AnchorGenerator([16], [[(8, 4)]])(32, 32)
    assert anchors.tolist() == [
        [4, 6, 12, 10],
        [20, 6, 28, 10],
        [4, 22, 12, 26],
        [20, 22, 28, 26],
    ]


def test_offset_zero_centres_on_the_corner_of_the_cell() -> None:
    assert AnchorGenerator([16], [[(8, 4)]], offset=0)(16, 16).tolist() == [[-4, -2, 4, 2]]


def test_order_is_level_row_column_anchor() -> None:
    generator = AnchorGenerator([8, 16], [[(2, 2), (4, 4)], [(8, 8), (16, 16)]])
    anchors = generator(16, 16)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    widths = anchors[:, 2] - anchors[:, 0]
    assert centres[[0, 1, 2, 4, 8]].tolist() == [[4, 4], [4, 4], [12, 4], [4, 12], [8, 8]]
    assert widths.tolist() == [2, 4] * 4 + [8, 16]
    assert generator.level_lengths(16, 16) == [8, 2]


def test_strides_stay_exact_where_the_map_is_rounded_up() -> None:
    """800 x 1088 at stride 128: 7 x 9 cells; torchvision infers strides 114 and 120 there."""
    anchors = AnchorGenerator([128], [[(1, 1)]])(800, 1088)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert centres.shape[0] == 63
    assert centres[1].tolist() == [192, 64]
    assert centres[-1].tolist() == [8 * 128 + 64, 6 * 128 + 64]


def test_the_same_shape_is_made_once() -> None:
    generator = AnchorGenerator([16], [[(8, 4)]])
    assert generator(32, 48) is generator(32, 48)
    assert generator(32, 48)[-1].tolist() == [36, 22, 44, 26]
    assert generator(48, 32)[-1].tolist() == [20, 38, 28, 42]


def test_only_so_many_shapes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of every size would fill the memory."""
    monkeypatch.setattr(module, "MOST_SHAPES", 2)
    generator = AnchorGenerator([16], [[(8, 4)]])
    first = generator(16, 16)
    assert generator(16, 32) is generator(16, 32) and generator(16, 16) is first
    generator(16, 48)
    assert generator(16, 16) is not first


def test_anchors_made_in_inference_can_be_trained_on() -> None:
    generator = AnchorGenerator([16], [[(8, 4)]])
    with torch.inference_mode():
        made = generator(32, 32)
    assert not made.is_inference() and generator(32, 32) is made


def test_levels_must_agree_with_the_model() -> None:
    with pytest.raises(ValueError, match="1 levels.*model has 2"):
        AnchorGenerator([8, 16], [[(8, 4)]])
    with pytest.raises(ValueError, match="as many in every level"):
        AnchorGenerator([8, 16], [[(8, 4)], [(8, 4), (4, 8)]])


def test_thirds_of_an_octave() -> None:
    """Lin et al. 2017, section 4: scales 1, 2^(1/3), 2^(2/3) and three ratios, 9 anchors a cell."""
    cells = cell_shapes([32, 64], [1, 2 ** (1 / 3), 2 ** (2 / 3)], [0.5, 1, 2])
    assert [len(level) for level in cells] == [9, 9]
    areas = torch.tensor(cells[0]).prod(dim=1).sqrt()
    assert areas[:3].tolist() == pytest.approx([32, 40.3175, 50.7968], abs=1e-3)


@pytest.mark.parametrize("shape", [(1e30, 8), (8, 2e6), (1e-4, 8), (float("inf"), 8)])
def test_anchors_whose_area_no_float_holds_are_refused(shape: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="expected sides of"):
        AnchorGenerator([8], [[(8, 4), shape]])
    AnchorGenerator([8], [[(1e6, 1e-3)]])
