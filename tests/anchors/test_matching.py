"""Which anchor answers for which box, against worked examples."""

from dataclasses import replace

import pytest
import torch
from benchmarking.timing import extra_peak
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detector.anchors import matching
from detector.anchors.generator import AnchorGenerator, cell_shapes
from detector.anchors.matching import Matcher
from detector.boxes import iou
from detector.structures import BACKGROUND, IGNORED, Batch

ANCHORS = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [20, 0, 30, 10], [100, 100, 110, 110]])


def batch(boxes: list[list[list[float]]], crowd: list[list[bool]] | None = None) -> Batch:
    """A batch of images with these boxes, of one class, padded with empty boxes."""
    count, most = len(boxes), max(1, *(len(image) for image in boxes))
    padded, present = torch.zeros(count, most, 4), torch.zeros(count, most, dtype=torch.bool)
    crowds = torch.zeros(count, most, dtype=torch.bool)
    for n, image in enumerate(boxes):
        present[n, : len(image)] = True
        padded[n, : len(image)] = torch.tensor(image).reshape(-1, 4)
        if crowd is not None:
            crowds[n, : len(image)] = torch.tensor(crowd[n], dtype=torch.bool)
    sizes = torch.full((count, 2), 128)
    return Batch(
        images=torch.zeros(count, 3, 128, 128, dtype=torch.uint8),
        sizes=sizes,
        original_sizes=sizes,
        image_ids=torch.arange(count),
        keys=torch.arange(count),
        boxes=padded,
        labels=present[..., None],
        present=present,
        crowd=crowds,
    )


def match(boxes: list[list[float]], *, low_quality: bool, crowd: list[bool] | None = None) -> list:
    matcher = Matcher(foreground=0.5, background=0.4, low_quality=low_quality)
    actual = matcher(ANCHORS, batch([boxes], [crowd] if crowd else None))
    return actual.matches[0].tolist()


def test_thresholds() -> None:
    """Box 10 x 9 on the first anchor: IoU .9 and 50/90 = .556. Box 10 x 4.5: 45/100 and .9."""
    assert match([[0, 0, 10, 9]], low_quality=False) == [0, 0, BACKGROUND, BACKGROUND]
    assert match([[0, 0, 10, 4.5]], low_quality=False) == [IGNORED, 0, BACKGROUND, BACKGROUND]


def test_equal_to_the_foreground_threshold_is_foreground() -> None:
    """IoU of anchor 1 with the first anchor's box is exactly 50 / 100."""
    assert match([[0, 0, 10, 10]], low_quality=False)[1] == 0


def test_the_best_box_wins() -> None:
    """The second box has IoU 1 with the second anchor, the first one only 1/2."""
    assert match([[0, 0, 10, 10], [0, 0, 10, 5]], low_quality=False)[:2] == [0, 1]


def test_low_quality_keeps_the_best_anchor_of_each_box() -> None:
    """Box [20 0 24 10]: IoU 40/100 = .4 with anchor 2 only: ignored by the thresholds."""
    box = [[20.0, 0, 24, 10]]
    assert match(box, low_quality=False)[2] == IGNORED
    assert match(box, low_quality=True) == [BACKGROUND, BACKGROUND, 0, BACKGROUND]


def test_low_quality_keeps_all_anchors_that_tie() -> None:
    """Box [8 0 22 10] shares 20 of 220 pixels with anchor 0 and with anchor 2, and 10 with 1."""
    box = [[8.0, 0, 22, 10]]
    assert match(box, low_quality=True) == [0, BACKGROUND, 0, BACKGROUND]


def test_a_rescued_anchor_answers_for_the_box_that_needs_it() -> None:
    """Box 1 is best served by anchor 2 (IoU .3), which overlaps box 0 more (IoU .8).

    Box 0 = [20 0 30 8]; box 1 = [20 0 23 10].
    """
    assert match([[20, 0, 30, 8], [20, 0, 23, 10]], low_quality=True)[2] == 0  # both need it
    anchors = torch.cat([ANCHORS, torch.tensor([[20.0, 0, 30, 8]])])
    boxes = batch([[[20, 0, 30, 8], [20, 0, 23, 10]]])
    actual = Matcher(foreground=0.5, background=0.4, low_quality=True)(anchors, boxes)
    assert actual.matches[0, [2, 4]].tolist() == [1, 0]


def test_a_box_that_overlaps_nothing_makes_no_anchor_foreground() -> None:
    """In torchvision and Detectron2 all anchors tie at the best IoU, 0, and turn foreground."""
    assert match([[50, 50, 60, 60]], low_quality=True) == [BACKGROUND] * 4


@pytest.mark.parametrize("side", [0.03, 0.033, 1.0])
def test_a_tie_is_relative(side: float) -> None:
    """Anchors of 10 x 10, 20 x 5 and 10 x 11 all hold the box; areas 100, 100 and 110.

    So its IoUs are s^2 / 100 twice and 9 % less, however small it is: of 0.03 pixels 9e-6.
    """
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 20, 5], [0, 0, 10, 11], [40, 0, 50, 10]])
    boxes = batch([[[4.0, 3.0, 4.0 + side, 3.0 + side]]])
    actual = Matcher(foreground=0.5, background=0.4, low_quality=True)(anchors, boxes)
    assert actual.matches[0].tolist() == [0, 0, BACKGROUND, BACKGROUND]


def two_labels(crowd: list[bool]) -> Batch:
    """Boxes 0, 1 and 3 at one place with labels 0, 1 and 2, box 2 a hair beside it with label 2.

    In a second image a box of label 2 at the same place.
    """
    twice = [0.0, 0, 10, 9]
    images = [[twice, twice, [0.0, 0, 10, 9.001], twice], [twice]]
    one = batch(images, [crowd, [False]])
    labels = torch.zeros(2, 4, 3, dtype=torch.bool)
    labels[0, [0, 1, 2, 3], [0, 1, 2, 2]] = True
    labels[1, 0, 2] = True
    return replace(one, labels=labels)


def test_boxes_at_one_place_share_their_labels() -> None:
    """The anchor answers for the first of them; a crowd there is no object."""
    images = two_labels([False, False, False, True])
    settings = {"foreground": 0.5, "background": 0.4, "low_quality": True}
    shared = Matcher(**settings, multi_label=True)(ANCHORS, images)
    apart = Matcher(**settings)(ANCHORS, images)
    assert shared.matches[:, 0].tolist() == apart.matches[:, 0].tolist() == [2, 0]
    assert shared.labels[0].int().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert shared.labels[1].int().tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert apart.labels.equal(images.labels)


def test_an_image_without_boxes_is_background() -> None:
    assert match([], low_quality=True) == [BACKGROUND] * 4


def test_nothing_to_match() -> None:
    """No anchors, or not even room for a box; the third centre, (25, 5), is outside 24 pixels."""
    matcher = Matcher(foreground=0.5, background=0.4, low_quality=True, multi_label=True)
    one = replace(batch([[[0, 0, 10, 9]]]), sizes=torch.tensor([[128, 24]]))
    assert matcher(torch.zeros(0, 4), one).matches.shape == (1, 0)
    bare = replace(
        one, boxes=one.boxes[:, :0], labels=one.labels[:, :0],
        present=one.present[:, :0], crowd=one.crowd[:, :0],
    )  # fmt: skip
    assert matcher(ANCHORS[:3], bare).matches.tolist() == [[BACKGROUND, BACKGROUND, IGNORED]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_matches_of_other_precisions(dtype: torch.dtype) -> None:
    """300 x 300 and 300 x 200: IoU 2/3; the areas exceed what float16 can hold."""
    anchors = torch.tensor([[0, 0, 300, 300], [0, 0, 300, 100]], dtype=dtype)
    one = batch([[[0, 0, 300, 200]]])
    one = replace(one, boxes=one.boxes.to(dtype), sizes=torch.tensor([[300, 300]]))
    actual = Matcher(foreground=0.5, background=0.4, low_quality=False)(anchors, one)
    assert actual.matches.tolist() == [[0, 0]]  # 2/3 and 100/200


def test_anchors_mostly_in_a_crowd_are_ignored() -> None:
    """Anchors 0 and 1 lie inside the crowd, anchor 2 by 4 of 10; no anchor is its foreground."""
    crowd = [[0.0, 0, 24, 10]]
    assert match(crowd, low_quality=True, crowd=[True]) == [IGNORED, IGNORED, -1, -1]


def test_a_box_in_a_crowd_keeps_its_anchors() -> None:
    actual = match([[0, 0, 30, 30], [0, 0, 10, 10]], low_quality=True, crowd=[True, False])
    assert actual == [1, 1, IGNORED, BACKGROUND]


def plain_match(anchors: Tensor, boxes: Tensor) -> Tensor:
    """The rule without batches and chunks, one box after the other."""
    table = iou(boxes[:, None], anchors[None])
    best, box = table.max(dim=0)
    actual = torch.where(best >= 0.5, box, torch.where(best < 0.4, BACKGROUND, IGNORED))
    for a in range(len(anchors)):
        served = [g for g in range(len(boxes)) if table[g, a] >= table[g].max() * (1 - 1e-6)]
        served = [g for g in served if table[g].max() > 0]
        if served:
            actual[a] = max(served, key=lambda g: (table[g, a].item(), -g))
    return actual


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 200))
def test_chunks_change_nothing(seed: int, boxes: int, pairs: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 90, (40 + boxes, 2), generator=generator).float()  # in the image
    side = torch.randint(1, 60, (40 + boxes, 2), generator=generator).float()
    both = torch.cat([corner, corner + side], dim=1)
    anchors, truth = both[:40], both[40:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "CPU_PAIRS", pairs)
        matcher = Matcher(foreground=0.5, background=0.4, low_quality=True)
        actual = matcher(anchors, batch([truth.tolist(), []]))
    assert actual.matches[0].tolist() == plain_match(anchors, truth).tolist()
    assert (actual.matches[1] == BACKGROUND).all()


def test_memory_is_bounded() -> None:
    """100,000 anchors, 500 boxes, 2 images: all pairs at once would be 400 MB a temporary."""
    generator = torch.Generator().manual_seed(0)
    corner = 1000 * torch.rand(100_500, 2, generator=generator)
    rectangles = torch.cat([corner, corner + 8 + 100 * torch.rand(100_500, 2)], dim=1)
    anchors, truth = rectangles[:100_000], rectangles[100_000:].tolist()
    matcher = Matcher(foreground=0.5, background=0.4, low_quality=True)
    images = batch([truth, truth])
    assert extra_peak(lambda: matcher(anchors, images), torch.device("cpu")) < 300e6


def test_anchors_centred_in_the_padding_are_ignored_and_match_nothing() -> None:
    """Centres (5, 5), (5, 2.5), (25, 5) and (105, 105); the image is 24 wide and 128 high."""
    one = batch([[[0, 0, 10, 9], [18, 0, 24, 10]]])
    narrow = replace(one, sizes=torch.tensor([[128, 24]]))
    matcher = Matcher(foreground=0.5, background=0.4, low_quality=True)
    assert matcher(ANCHORS, one).matches[0].tolist() == [0, 0, 1, BACKGROUND]
    assert matcher(ANCHORS, narrow).matches[0].tolist() == [0, 0, IGNORED, IGNORED]


@given(right=st.integers(0, 3), below=st.integers(0, 3))
def test_padding_changes_no_match(right: int, below: int) -> None:
    """An image of 100 x 70 in a batch of 128 x 96 and more: the same anchors, the same matches."""
    anchor_generator = AnchorGenerator([8, 16, 32], cell_shapes([16, 32, 64], [1], [0.5, 1, 2]))
    one = replace(batch([[[3, 3, 40, 20], [50, 10, 69, 99]]]), sizes=torch.tensor([[100, 70]]))
    matcher = Matcher(foreground=0.5, background=0.4, low_quality=True)

    def counted(height: int, width: int) -> tuple[list, int]:
        anchors = anchor_generator(height, width)
        matches = matcher(anchors, one).matches[0]
        hit = matches >= 0
        return [anchors[hit].tolist(), matches[hit].tolist()], int((matches == BACKGROUND).sum())

    assert counted(128 + 32 * below, 96 + 32 * right) == counted(128, 96)


def test_an_anchor_half_in_a_crowd_is_background() -> None:
    """Anchor 2 lies in it by 5 of 10 pixels, which is not more than one half; then by 6."""
    assert match([[0.0, 0, 25, 10]], low_quality=True, crowd=[True])[2] == BACKGROUND
    assert match([[0.0, 0, 26, 10]], low_quality=True, crowd=[True])[2] == IGNORED


def test_a_box_is_served_by_its_best_anchor_in_the_image() -> None:
    """Image 24 wide, box [18 0 24 10]: IoU 40/120 with an anchor centred at 25, in the padding,
    and 20/140 with one centred at 15."""
    anchors = torch.tensor([[10.0, 0, 20, 10], [20, 0, 30, 10]])
    narrow = replace(batch([[[18, 0, 24, 10]]]), sizes=torch.tensor([[128, 24]]))
    matcher = Matcher(foreground=0.5, background=0.4, low_quality=True)
    assert matcher(anchors, narrow).matches[0].tolist() == [0, IGNORED]
