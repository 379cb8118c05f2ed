"""Drawn detections: what is painted where."""

import itertools
import math

import pytest
import torch

from detector.evaluation.draw import GRAY, LABELLED, draw_boxes, draw_detections
from detector.evaluation.palette import COLORS, color

NAMES = ["cat", "dog"]


def picture(height=400, width=500):
    return torch.full((3, height, width), 128, dtype=torch.uint8)


def drawn(image, boxes, labels=(0,), scores=(0.9,), *, threshold=0.5, truth=None):
    return draw_detections(
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


def test_boxes_without_scores_are_drawn_with_their_names_alone():
    """The boxes are the same, the label is shorter by a score."""
    image = draw_boxes(picture(), torch.tensor([[100.0, 150, 300, 350]]), [0], NAMES[:1])
    scored = drawn(picture(), [[100, 150, 300, 350]])
    row = slice(135, 145)
    lengths = [int((one[:, row] != 128).any(0).any(0).sum()) for one in (image, scored)]
    assert 10 < lengths[0] < lengths[1] - 20
    assert torch.equal(image[:, 155:], scored[:, 155:])


def test_small_images_are_enlarged_with_their_boxes():
    """128 pixels become 3 * 128 = 384; the box's left side moves from 40 to 120."""
    image = drawn(picture(128, 160), [[40, 50, 100, 100]])
    assert image.shape == (3, 384, 480)
    assert tuple(image[:, 225, 120].tolist()) == color(0)
    assert image[:, 225, 40].tolist() == [128] * 3


def test_detections_below_the_threshold_are_left_out():
    image = drawn(picture(), [[100, 150, 300, 350], [9, 9, 99, 99]], (0, 1), (0.49, 0.1))
    assert torch.equal(image, picture())


def gray_values(pixels):
    return set(pixels.flatten().tolist())


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_ground_truth_is_white_dashes_with_a_dark_edge(ground):
    """One row of white, one of black on both sides of it; between the dashes the image shows."""
    image = torch.full((3, 400, 500), ground, dtype=torch.uint8)
    shown = drawn(image, [], labels=(), scores=(), truth=torch.tensor([[100.0, 150, 300, 350]]))
    assert gray_values(shown[0, 150, 110:290]) == {0, 255, ground}
    for edge in (149, 151):
        assert gray_values(shown[0, edge, 110:290]) == {0, ground}
    assert gray_values(shown[0, 160:340, 100]) == {0, 255, ground}
    assert (shown[:, 160:340, 110:290] == ground).all()


def test_ground_truth_lies_over_detections_and_lets_them_be_seen():
    box = [100.0, 150, 300, 350]
    shown = drawn(picture(), [box], truth=torch.tensor([box]))
    side = {tuple(pixel) for pixel in shown[:, 350, 110:290].T.tolist()}
    assert side == {color(0), (255, 255, 255), (0, 0, 0)}


def test_a_caption_under_the_image_explains_the_dashes():
    """unit = 400 / 384: the strip has round(20 unit) = 21 rows, and its dashes are at its left."""
    none = drawn(picture(), [], labels=(), scores=(), truth=torch.zeros(0, 4))
    some = drawn(picture(), [], labels=(), scores=(), truth=torch.tensor([[9.0, 9, 90, 90]]))
    assert none.shape == some.shape == (3, 421, 500)
    assert torch.equal(none[:, :400], picture()) and (none[:, 400:] == GRAY).any()
    assert {0, 255} <= gray_values(some[0, 410, :50])
    assert (none[:, 400:] != some[:, 400:]).any() and (some[:, 400:, 300:] == GRAY).all()


def test_two_labels_at_one_place_do_not_hide_each_other():
    box = [100, 150, 300, 350]
    image = drawn(picture(), [box, box], (0, 1), (0.9, 0.8))
    above = image[:, 135:148, 100:150].flatten(1).T
    below = image[:, 352:365, 100:150].flatten(1).T
    assert (above == torch.tensor(color(0))).all(dim=1).any()
    assert (below == torch.tensor(color(1))).all(dim=1).any()


def test_a_label_without_a_free_place_is_left_out_and_its_box_is_thin():
    """Five classes at one place of the image: four labels fit, the fifth is not written."""
    box = [0.0, 100, 60, 150]  # a label is wider than the box: both ends collide
    shown = draw_detections(
        picture(), torch.tensor([box] * 4 + [[0.0, 100, 62, 150]]), torch.arange(5),
        torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]), names=["a long name"] * 5, threshold=0.5,
    )  # fmt: skip
    filled = [areas(shown, label) for label in range(5)]
    assert min(filled[:4]) > 600 and filled[4] < 60
    assert (shown[:, 125, 61:63] == torch.tensor(color(4))[:, None]).all(dim=0).tolist() == [
        False,
        True,
    ]


def areas(image, label):
    """How many pixels have the colour of the class."""
    return (image == torch.tensor(color(label))[:, None, None]).all(dim=0).sum().item()


def test_labels_cover_a_limited_share_of_the_image():
    """Two hundred boxes apart from each other; unlimited, their labels would cover a third."""
    left, top = torch.meshgrid(torch.arange(10) * 90.0, torch.arange(20) * 40.0, indexing="ij")
    corner = torch.stack([left.flatten(), top.flatten() + 20], dim=1)
    boxes = torch.cat([corner, corner + torch.tensor([3.0, 3.0])], dim=1)
    shown = draw_detections(
        picture(800, 900), boxes, torch.zeros(200).long(), torch.linspace(0.9, 0.5, 200),
        names=["cat"], threshold=0.1,
    )  # fmt: skip
    covered = (shown != 128).any(dim=0).float().mean().item()
    assert 0.8 * LABELLED < covered < LABELLED + 0.01


def test_the_better_detection_lies_on_top():
    box = [100, 150, 300, 350]
    for scores, winner in (((0.9, 0.8), 0), ((0.8, 0.9), 1)):
        image = drawn(picture(), [box, box], (0, 1), scores)
        assert tuple(image[:, 250, 300].tolist()) == color(winner)


@pytest.mark.parametrize(
    "box", [[-50, -50, 9999, 9999], [30, 30, 30, 30], [499, 399, 600, 600], [-1e9, 0, 1e9, 1e9]]
)
def test_boxes_that_leave_the_image_or_are_empty_are_drawn(box):
    image = drawn(picture(), [box], truth=torch.tensor([box], dtype=torch.float32))
    assert image.shape == (3, 421, 500) and (image[:, :400] != 128).any()


def test_the_given_image_is_left_as_it_was():
    image = picture()
    drawn(image, [[100, 150, 300, 350]])
    assert torch.equal(image, picture())


@pytest.mark.parametrize("size", [(1, 2000), (1, 1), (3000, 20)])
def test_extreme_shapes_stay_of_bounded_size(size):
    image = drawn(picture(*size), [[0, 0, 1, 1]])
    assert max(image.shape) <= 4096
    assert image.shape[1] * size[1] == image.shape[2] * size[0]


def test_eighty_classes_have_different_colours():
    assert len({color(label) for label in range(80)}) == 80


def test_the_first_classes_are_told_apart():
    """The least distance in OKLab is that of red and brown, 0.157; tab10 has 0.113."""
    points = [oklab(color(label)) for label in range(len(COLORS))]
    assert len(points) >= 10
    pairs = [math.dist(a, b) for a, b in itertools.combinations(points, 2)]
    assert min(pairs) == pytest.approx(0.157, abs=0.001)


def oklab(color):
    """Ottosson 2020, from sRGB 0..255."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
               for c in (value / 255 for value in color))  # fmt: skip
    long, middle, short = (
        (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3),
        (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3),
        (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3),
    )
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


@pytest.mark.parametrize("letter", "éÅłßЖяΩπ")
def test_letters_of_other_languages_are_not_boxes(letter):
    """U+E123 is nobody's letter, and every font has one sign for such."""
    box = torch.tensor([[100.0, 150, 300, 350]])
    one, none = (
        draw_detections(
            picture(), box, torch.tensor([0]), torch.tensor([0.9]),
            names=[f"{sign}{sign}"], threshold=0.5,
        )
        for sign in (letter, "\ue123")
    )  # fmt: skip
    assert not torch.equal(one, none)
