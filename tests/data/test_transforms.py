"""Boxes against worked numbers, pixels against what is under the boxes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.anchors.generator import AnchorGenerator
from detector.anchors.matching import Matcher
from detector.data import augmentations
from detector.data.augmentations import Flip, Photometric, ScaleJitter, VerticalFlip
from detector.data.batch import MEAN_COLOUR, Sample, collate
from detector.data.geometry import Area, crop_and_resize, jitter_scale, mirror, turn_over
from detector.data.transforms import FixedSize, ShorterSide, Transform
from detector.structures import BACKGROUND, IGNORED


def sample(
    height: int = 60, width: int = 100, boxes: list[list[float]] | None = None, crowd: str = ""
) -> Sample:
    """A black image that is white where its boxes (whole pixels) are; `crowd` has 1 for each."""
    boxes = [[10, 20, 30, 50]] if boxes is None else boxes
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    for left, top, right, bottom in boxes:
        image[:, int(top) : int(bottom), int(left) : int(right)] = 255
    return Sample(
        image=image,
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.ones(len(boxes), 2, dtype=torch.bool),
        crowd=torch.tensor(
            [mark == "1" for mark in crowd.ljust(len(boxes), "0")], dtype=torch.bool
        ),
        image_id=1,
        original_size=(height, width),
        key=0,
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(480, 640, (800, 1067)), (640, 480, (1067, 800)), (400, 1000, (533, 1333)),
     (1, 1333, (1, 1333))],
)  # fmt: skip
def test_shorter_side(height: int, width: int, expected: tuple[int, int]) -> None:
    """800 / 480 * 640 = 1066.7; 1333 / 1000 * 400 = 533.2, the longer side decides"""
    assert ShorterSide((800,), 1333).target(height, width, draw=0.5) == expected


def test_one_of_several_sizes_is_drawn_and_the_largest_evaluated() -> None:
    resize = ShorterSide((60, 120, 90), 1000)
    drawn = {
        Transform(resize=resize)(sample(), generator(seed)).image.shape[1] for seed in range(30)
    }
    assert drawn == {60, 90, 120}
    augmented = [Flip(1.0), ScaleJitter(2, 2), Photometric(1.0), lambda sample, generator: None]
    evaluation = Transform(resize=resize, augmentations=augmented)
    result = evaluation.for_evaluation()(sample(), generator())
    assert result.image.shape == (3, 120, 200)
    assert result.boxes.tolist() == [[20, 40, 60, 100]]


def test_fixed_size_scales_each_axis() -> None:
    """100 x 60 to 50 x 120: x halves, y doubles"""
    result = Transform(resize=FixedSize(width=50, height=120))(sample(), generator())
    assert result.image.shape == (3, 120, 50)
    assert result.boxes.tolist() == [[5, 40, 15, 100]]
    assert result.image[:, 45:95, 7:13].min() == 255 and result.image[:, :, 18:].max() == 0
    assert result.original_size == (60, 100)


def test_resize_to_the_same_size_changes_nothing() -> None:
    original = sample()
    result = Transform(resize=FixedSize(width=100, height=60))(original, generator())
    assert torch.equal(result.image, original.image)
    assert torch.equal(result.boxes, original.boxes)


def test_mirror() -> None:
    result = mirror(sample())
    assert result.boxes.tolist() == [[70, 20, 90, 50]]
    assert result.image[:, 20:50, 70:90].min() == 255 and result.image.sum() == 3 * 255 * 600


def test_mirrored_twice_is_the_same() -> None:
    original = sample()
    twice = mirror(mirror(original))
    assert torch.equal(twice.image, original.image) and torch.equal(twice.boxes, original.boxes)


def test_flip_is_a_probability() -> None:
    transform = Transform(resize=FixedSize(width=100, height=60), augmentations=[Flip(0.3)])
    lefts = [transform(sample(), generator(seed)).boxes[0, 0].item() for seed in range(400)]
    assert set(lefts) == {10, 70} and 90 < lefts.count(70) < 150


def test_a_vertical_flip_turns_rows_and_boxes_over() -> None:
    """100 x 60: a box of y 20..40 that is off the middle; its pixels are white, others black."""
    original = sample(boxes=[[10, 5, 30, 25]])
    turned = turn_over(original)
    assert turned.boxes.tolist() == [[10, 35, 30, 55]]
    assert torch.equal(turned.image, original.image.flip(1))
    again = turn_over(turned)
    assert torch.equal(again.image, original.image) and torch.equal(again.boxes, original.boxes)


def test_a_vertical_flip_is_a_probability_and_apart_from_the_other() -> None:
    steps = [Flip(0.5), VerticalFlip(0.3)]
    transform = Transform(resize=FixedSize(width=100, height=60), augmentations=steps)
    boxes = [transform(sample(boxes=[[10, 5, 30, 25]]), generator(s)).boxes[0] for s in range(400)]
    corners = Counter((box[0].item(), box[1].item()) for box in boxes)
    assert set(corners) == {(10, 5), (70, 5), (10, 35), (70, 35)}
    assert 90 < corners[10, 35] + corners[70, 35] < 150
    assert 150 < corners[70, 5] + corners[70, 35] < 250


def test_zoom_in_cuts() -> None:
    """Factor 2 at the top left: the window is 50 x 30, so x and y double; y ends at the edge."""
    result = jitter_scale(sample(), (60, 100), factor=2.0, down=0.0, across=0.0)
    assert result.boxes.tolist() == [[20, 40, 60, 60]]
    assert result.image.shape == (3, 60, 100)
    assert result.image[:, 44:, 24:56].min() == 255


def test_zoom_in_at_the_far_corner() -> None:
    """Window from (50, 30): the box 60..70 x 40..50 lies at 10..20 of 50 and 10..20 of 30."""
    near_one = 1 - 2**-24
    result = jitter_scale(
        sample(boxes=[[60, 40, 70, 50]]), (60, 100), factor=2.0, down=near_one, across=near_one
    )
    assert result.boxes.tolist() == [[20, 20, 40, 40]]


def test_zoom_out_frames_with_the_mean_colour() -> None:
    """Factor 0.5: 50 x 30 placed at floor(0.5 * 51), floor(0.5 * 31) = 25, 15."""
    result = jitter_scale(sample(), (60, 100), factor=0.5, down=0.5, across=0.5)
    assert result.boxes.tolist() == [[30, 25, 40, 40]]
    assert result.image[:, 0, 0].tolist() == list(MEAN_COLOUR)
    assert result.image[:, 59, 99].tolist() == list(MEAN_COLOUR)
    assert result.image[:, 27:38, 32:38].min() > 250


def test_zoom_drops_what_is_hardly_left() -> None:
    """The window is x < 50: of 49..60 there is 1/11 left (dropped), of 48..58 there is 2/10."""
    boxes = [[49.0, 0, 60, 20], [48, 0, 58, 20], [80, 0, 90, 20], [0, 0, 0.4, 20]]
    original = sample(boxes=boxes)
    assert jitter_scale(original, (60, 100), factor=2.0, down=0.0, across=0.0).boxes.tolist() == [
        [96, 0, 100, 40]
    ]
    crowd = replace(original, crowd=torch.tensor([True, False, True, False]))
    kept = jitter_scale(crowd, (60, 100), factor=2.0, down=0.0, across=0.0)
    assert kept.boxes.tolist() == [[98, 0, 100, 40], [96, 0, 100, 40]]
    assert kept.crowd.tolist() == [True, False] and len(kept.labels) == 2


def test_place_window_and_spot() -> None:
    """Window 20 x 30 at (10, 20) into a spot of 40 x 30 at (5, 7): x doubles, y stays."""
    result = crop_and_resize(sample(), Area(20, 10, 30, 20), Area(7, 5, 30, 40), (50, 60))
    assert result.boxes.tolist() == [[5, 7, 45, 37]]
    assert result.image[:, 7:37, 5:45].min() == 255
    assert (result.image[0, :7] == MEAN_COLOUR[0]).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), lowest=st.floats(0.2, 1.0), highest=st.floats(1.0, 4.0))
def test_boxes_stay_inside_and_on_their_pixels(seed: int, lowest: float, highest: float) -> None:
    transform = Transform(
        resize=ShorterSide((30, 45), 200),
        augmentations=[Flip(0.5), ScaleJitter(lowest, highest)],
    )
    result = transform(sample(boxes=[[40, 20, 60, 40]]), generator(seed))
    height, width = result.image.shape[1:]
    for left, top, right, bottom in result.boxes.tolist():
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        middle = result.image[:, int((top + bottom) / 2), int((left + right) / 2)]
        if right - left > 5 and bottom - top > 5:
            assert middle.min() == 255


def test_photometric_changes_pixels_only_and_moves_no_other_draw() -> None:
    steps = [Flip(0.5), ScaleJitter(0.5, 2.0)]
    plain = Transform(resize=ShorterSide((30, 60, 90), 200), augmentations=steps)
    for seed in range(5):
        original = replace(sample(), image=torch.full((3, 60, 100), 100, dtype=torch.uint8))
        expected = plain(original, generator(seed))
        changed = replace(plain, augmentations=[Photometric(0.5), *steps])(
            original, generator(seed)
        )
        assert torch.equal(changed.boxes, expected.boxes)
        assert changed.image.dtype == torch.uint8 and changed.image.shape == expected.image.shape
        assert not torch.equal(changed.image, expected.image)


def test_an_image_without_boxes() -> None:
    transform = Transform(
        resize=FixedSize(width=64, height=32),
        augmentations=[Flip(1.0), ScaleJitter(2.0, 2.0), Photometric(0.3)],
    )
    result = transform(sample(boxes=[]), generator())
    assert result.boxes.shape == (0, 4) and result.labels.shape == (0, 2)


def test_collate_pads() -> None:
    """33 x 40 and 20 x 70 -> 64 x 96; one box and none -> room for 8"""
    first, second = sample(33, 40, [[1, 2, 3, 4]]), sample(20, 70, [])
    batch = collate([first, replace(second, image_id=9, key=5, original_size=(200, 700))])
    assert batch.images.shape == (2, 3, 64, 96) and batch.images.dtype == torch.uint8
    assert torch.equal(batch.images[0, :, :33, :40], first.image)
    assert batch.images[0, :, 33, 0].tolist() == list(MEAN_COLOUR)
    assert batch.images[1, :, 0, 70].tolist() == list(MEAN_COLOUR)
    assert batch.sizes.tolist() == [[33, 40], [20, 70]]
    assert batch.original_sizes.tolist() == [[33, 40], [200, 700]]
    assert batch.image_ids.tolist() == [1, 9] and batch.keys.tolist() == [0, 5]
    assert batch.boxes.shape == (2, 8, 4) and batch.boxes[0, 0].tolist() == [1, 2, 3, 4]
    assert batch.present.sum(dim=1).tolist() == [1, 0]
    assert batch.labels.shape == (2, 8, 2) and batch.labels.sum().item() == 2


def test_collate_of_nine_boxes_and_of_none() -> None:
    """Room in steps of 8, and for 8 where no image has any; 32 pixels need no padding."""
    batch = collate([sample(32, 64, [[0, 0, 1, 1]] * 9)])
    assert batch.boxes.shape == (1, 16, 4) and batch.images.shape[2:] == (32, 64)
    batch = collate([sample(boxes=[]), sample(boxes=[])])
    assert batch.boxes.shape == (2, 8, 4) and not batch.present.any()


def test_a_crowd_is_ignored_by_the_matcher_behind_collate() -> None:
    """100 x 60 pixels in cells of 32 x 32, two rows of four, of which the last lies in the padding;
    the crowd covers two cells, the box seven eighths of one."""
    one = sample(60, 100, [[0, 0, 64, 32], [64, 32, 96, 60]])
    batch = collate([replace(one, crowd=torch.tensor([True, False])), sample(20, 30, [])])
    anchors = AnchorGenerator([32], [[(32, 32)]])(*batch.images.shape[2:])
    actual = Matcher(foreground=0.5, background=0.4, low_quality=True)(anchors, batch)
    upper = [IGNORED, IGNORED, BACKGROUND, IGNORED]
    assert actual.matches[0].tolist() == [*upper, BACKGROUND, BACKGROUND, 1, IGNORED]
    assert actual.matches[1].tolist() == [BACKGROUND] + [IGNORED] * 7


def test_strength_bounds_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.4: factors of 0.6 to 1.4, and a tenth of the circle of hue to either side."""
    factors: dict[str, list[float]] = {}
    for name in ("brightness", "contrast", "saturation", "hue"):
        kept = factors.setdefault(name, [])
        monkeypatch.setattr(
            augmentations.F, f"adjust_{name}", lambda image, f, kept=kept: kept.append(f) or image
        )
    transform = Transform(resize=FixedSize(width=10, height=6), augmentations=[Photometric(0.4)])
    for seed in range(200):
        transform(sample(6, 10, []), generator(seed))
    for name in ("brightness", "contrast", "saturation"):
        assert 0.6 <= min(factors[name]) < 0.62 and 1.38 < max(factors[name]) <= 1.4
    assert -0.1 <= min(factors["hue"]) < -0.095 and 0.095 < max(factors["hue"]) <= 0.1


def test_a_hue_of_its_own_leaves_the_rest_as_it_was() -> None:
    """Red turned by half of the circle is cyan; with hue 0 the colours of a red image stay red."""
    red = torch.tensor([200, 10, 10], dtype=torch.uint8)[:, None, None].expand(3, 6, 10)
    original = replace(sample(6, 10, []), image=red)
    resize = FixedSize(width=10, height=6)
    kept = Transform(resize=resize, augmentations=[Photometric(0.0, hue=0.0)])
    turned = Transform(resize=resize, augmentations=[Photometric(0.0, hue=0.5)])
    assert torch.equal(kept(original, generator(1)).image, red)
    greens = [int(turned(original, generator(seed)).image[1, 0, 0]) for seed in range(40)]
    assert max(greens) > 190  # some are near green or cyan
    dimmed = Transform(resize=resize, augmentations=[Photometric(0.4, hue=0.0)])
    for seed in range(10):
        r, g, b = dimmed(original, generator(seed)).image[:, 0, 0].tolist()
        assert g == b < r


@pytest.mark.parametrize("hue", [-0.1, 0.6])
def test_a_hue_beyond_half_of_the_circle_is_refused(hue: float) -> None:
    with pytest.raises(ValueError, match="hue"):
        Photometric(0.2, hue=hue)


def test_jitter_lies_between_its_two_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    factors: list[float] = []
    monkeypatch.setattr(
        augmentations,
        "jitter_scale",
        lambda one, size, *, factor, **_: factors.append(factor) or one,
    )
    transform = Transform(
        resize=FixedSize(width=10, height=6), augmentations=[ScaleJitter(0.5, 2.0)]
    )
    for seed in range(200):
        transform(sample(6, 10, []), generator(seed))
    assert 0.5 <= min(factors) < 0.55 and 1.95 < max(factors) <= 2


def test_padding_is_the_mean_colour_of_imagenet() -> None:
    """255 times 0.485, 0.456 and 0.406, red first."""
    batch = collate([sample(32, 40, [])])
    assert batch.images[0, :, 0, 63].tolist() == [124, 116, 104]


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="samples is empty"):
        collate([])
