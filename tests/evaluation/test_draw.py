"""Drawn detections: what is painted where."""

import pytest
import torch

from detector.evaluation.draw import GAP, GRAY, color, contact_sheet, draw

NAMES = ["cat", "dog"]


def picture(height=400, width=500):
    return torch.full((3, height, width), 128, dtype=torch.uint8)


def drawn(image, boxes, labels=(0,), scores=(0.9,), *, threshold=0.5, truth=None):
    return draw(
        image, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(labels),
        torch.tensor(scores), names=NAMES, threshold=threshold, truth=truth,
    )  # fmt: skip


def test_box_has_the_colour_of_its_class():
    image = drawn(picture(), [[100, 150, 300, 350]], labels=(1,))
    assert image.shape == (3, 400, 500) and image.dtype == torch.uint8
    for y, x in ((150, 200), (350, 200), (250, 100), (250, 300)):  # the middle of each side
        assert tuple(image[:, y, x].tolist()) == color(1)
    assert image[:, 250, 200].tolist() == [128] * 3


def test_label_lies_on_top_of_the_box():
    changed = (drawn(picture(), [[100, 150, 300, 350]]) != 128).any(dim=0)
    rows, columns = changed.nonzero().unbind(1)
    assert 125 <= rows.min() < 140 and columns.min() == 100
    assert changed[140:150, 100:130].float().mean() > 0.5


def test_small_images_are_enlarged_with_their_boxes():
    """128 pixels become 3 * 128 = 384; the box's left side moves from 40 to 120."""
    image = drawn(picture(128, 160), [[40, 50, 100, 100]])
    assert image.shape == (3, 384, 480)
    assert tuple(image[:, 225, 120].tolist()) == color(0)
    assert image[:, 225, 40].tolist() == [128] * 3


def test_detections_below_the_threshold_are_left_out():
    image = drawn(picture(), [[100, 150, 300, 350], [9, 9, 99, 99]], (0, 1), (0.49, 0.1))
    assert torch.equal(image, picture())


def test_ground_truth_is_dashed_black_and_white():
    truth = torch.tensor([[100.0, 150.0, 300.0, 350.0]])
    image = drawn(picture(), [], labels=(), scores=(), truth=truth)
    side = image[0, 250, 95:105]
    assert {0, 255} & set(side.tolist())
    assert {0, 255} <= set(image[0, 150:350, 100].tolist())
    assert (image[:, 160:340, 110:290] == 128).all()


def test_two_labels_at_one_place_do_not_hide_each_other():
    box = [100, 150, 300, 350]
    image = drawn(picture(), [box, box], (0, 1), (0.9, 0.8))
    above = image[:, 135:148, 100:150].flatten(1).T
    below = image[:, 352:365, 100:150].flatten(1).T
    assert (above == torch.tensor(color(0))).all(dim=1).any()
    assert (below == torch.tensor(color(1))).all(dim=1).any()


@pytest.mark.parametrize(
    "box", [[-50, -50, 9999, 9999], [30, 30, 30, 30], [499, 399, 600, 600], [-1e9, 0, 1e9, 1e9]]
)
def test_boxes_that_leave_the_image_or_are_empty_are_drawn(box):
    image = drawn(picture(), [box], truth=torch.tensor([box], dtype=torch.float32))
    assert image.shape == (3, 400, 500) and (image != 128).any()


def test_the_given_image_is_left_as_it_was():
    image = picture()
    drawn(image, [[100, 150, 300, 350]])
    assert torch.equal(image, picture())


@pytest.mark.parametrize("size", [(1, 2000), (1, 1), (3000, 20)])
def test_extreme_shapes_stay_of_bounded_size(size):
    image = drawn(picture(*size), [[0, 0, 1, 1]])
    assert max(image.shape) <= 4096
    assert image.shape[1] * size[1] == image.shape[2] * size[0]


def test_contact_sheet_places_images_row_by_row():
    images = [torch.full((3, 10, 20), k, dtype=torch.uint8) for k in (100, 150, 200)]
    sheet = contact_sheet(images, columns=2)
    assert sheet.shape == (3, 2 * (10 + GAP) + GAP, 2 * (20 + GAP) + GAP)
    centres = [
        sheet[0, y, x].item() for y in (GAP + 5, 2 * GAP + 15) for x in (GAP + 10, 2 * GAP + 30)
    ]
    assert centres == [100, 150, 200, GRAY]


def test_contact_sheet_centres_smaller_images():
    sheet = contact_sheet([torch.zeros(3, 10, 30).byte(), torch.ones(3, 4, 6).byte()], columns=5)
    assert sheet.shape == (3, 10 + 2 * GAP, 60 + 3 * GAP)
    assert (sheet == 1).sum() == 3 * 4 * 6
    assert (sheet[:, GAP + 3 : GAP + 7, 2 * GAP + 42 : 2 * GAP + 48] == 1).all()


def test_neighbouring_classes_have_different_colours():
    assert len({color(label) for label in range(80)}) == 80
