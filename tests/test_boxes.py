"""Geometry against worked examples and torchvision."""

import pytest
import torch
from torchvision.ops import box_iou

from detector.boxes import area, centred_inside, clip, flip, intersection, iou


def test_worked_examples() -> None:
    a, b = torch.tensor([0.0, 0, 4, 2]), torch.tensor([2.0, 1, 6, 5])
    assert area(a) == 8
    assert intersection(a, b) == 2  # [2 1 4 2]
    assert iou(a, b) == 2 / (8 + 16 - 2)


def test_empty_boxes_have_iou_zero() -> None:
    empty = torch.zeros(4)
    assert iou(empty, empty) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_iou_of_other_precisions(dtype: torch.dtype) -> None:
    """300 x 300 = 90,000 pixels are infinite in float16, whose largest number is 65,504."""
    a, b = torch.tensor([[0, 0, 300, 300], [0, 0, 300, 150]], dtype=dtype)
    assert area(a) == 90_000 and intersection(a, b) == 45_000
    assert iou(a, b) == 0.5
    assert iou(torch.zeros(4, dtype=dtype), a) == 0
    assert not centred_inside(torch.tensor([48000.0, 0, 48064, 8]).half(), torch.tensor([[8, 9]]))


def test_no_boxes_have_no_iou() -> None:
    assert iou(torch.zeros(3, 1, 4), torch.zeros(0, 4)).shape == (3, 0)


def test_pairwise_iou_is_torchvisions() -> None:
    corner = torch.randint(0, 50, (30, 2)).float()
    boxes = torch.cat([corner, corner + torch.randint(1, 40, (30, 2))], dim=1)
    torch.testing.assert_close(iou(boxes[:, None], boxes[None]), box_iou(boxes, boxes))


def test_clip_and_flip() -> None:
    boxes = torch.tensor([[[-5.0, 2, 50, 80]]])
    assert clip(boxes, torch.tensor([[60, 40]])).tolist() == [[[0, 2, 40, 60]]]
    assert flip(torch.tensor([1.0, 2, 3, 4]), 10).tolist() == [7, 2, 9, 4]


def test_boxes_below_a_pixel_overlap_like_others() -> None:
    """Half a pixel wide and high against the right half of it: 1/8 of 1/4 square pixels."""
    box = torch.tensor([0.0, 0, 0.5, 0.5])
    assert iou(box, box) == 1
    assert iou(box, torch.tensor([0.25, 0, 0.5, 0.5])) == 0.5


def test_a_centre_on_the_right_or_lower_edge_is_outside() -> None:
    """Centres (30, 10), (29, 10), (10, 50) and (10, 49) in an image 30 wide and 50 high."""
    boxes = torch.tensor([[20.0, 0, 40, 20], [19, 0, 39, 20], [0, 40, 20, 60], [0, 39, 20, 59]])
    inside = centred_inside(boxes, torch.tensor([[50, 30], [30, 50]]))
    assert inside.tolist() == [[False, True, False, True], [True, True, False, False]]
