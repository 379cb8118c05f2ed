"""Geometry against worked examples and torchvision."""

import torch
from torchvision.ops import box_iou

from detector.boxes import area, clip, flip, intersection, iou


def test_worked_examples() -> None:
    a, b = torch.tensor([0.0, 0, 4, 2]), torch.tensor([2.0, 1, 6, 5])
    assert area(a) == 8
    assert intersection(a, b) == 2  # [2 1 4 2]
    assert iou(a, b) == 2 / (8 + 16 - 2)


def test_empty_boxes_have_iou_zero() -> None:
    empty = torch.zeros(4)
    assert iou(empty, empty) == 0


def test_pairwise_iou_is_torchvisions() -> None:
    corner = torch.randint(0, 50, (30, 2)).float()
    boxes = torch.cat([corner, corner + torch.randint(1, 40, (30, 2))], dim=1)
    torch.testing.assert_close(iou(boxes[:, None], boxes[None]), box_iou(boxes, boxes))


def test_clip_and_flip() -> None:
    boxes = torch.tensor([[[-5.0, 2, 50, 80]]])
    assert clip(boxes, torch.tensor([[60, 40]])).tolist() == [[[0, 2, 40, 60]]]
    assert flip(torch.tensor([1.0, 2, 3, 4]), 10).tolist() == [7, 2, 9, 4]
