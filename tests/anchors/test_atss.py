"""Adaptive assignment, against worked examples and plain loops."""

import statistics
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_matching import batch

from detector.anchors import matching
from detector.anchors.atss import ATSS
from detector.anchors.generator import AnchorGenerator
from detector.boxes import area, intersection, iou
from detector.structures import BACKGROUND, IGNORED, Batch, Targets

ONE = AnchorGenerator([16], [[(16, 16)]])
TWO = AnchorGenerator([16, 32], [[(16, 24), (20, 12)], [(32, 48), (40, 24)]])


def assign(boxes: list[list[list[float]]], generator: AnchorGenerator, candidates: int) -> Targets:
    one = batch(boxes)
    return ATSS(generator, candidates=candidates)(generator(*one.images.shape[-2:]), one)


def test_by_hand() -> None:
    """A box of one anchor's size, 4 px to its right: IoUs of the three nearest cells.

    Candidates: its own cell, IoU 12/20 = .6, the next one to the right, 4/28 = .143, and the one to
    the left, 0. Mean .248, sample deviation .313: from .561 up, which is its own alone.
    """
    (matches,) = assign([[[20, 16, 36, 32]]], ONE, candidates=3).matches.view(1, 8, 8).tolist()
    assert matches[1][1] == 0
    assert sum(row.count(BACKGROUND) for row in matches) == 63


def test_two_boxes_that_want_an_anchor() -> None:
    """The one with the higher IoU has it; of equal ones the first, and the other none."""
    near, nearer = [18, 16, 34, 32], [17, 16, 33, 32]
    for boxes, index in (([near, nearer], 1), ([nearer, near], 0), ([near, near], 0)):
        matches = assign([boxes], ONE, candidates=1).matches
        assert matches.view(8, 8)[1, 1] == index and (matches >= 0).sum() == 1


def by_loops(boxes: Batch, generator: AnchorGenerator, candidates: int) -> list[list[int]]:
    """Algorithm 1 of the paper, with all anchors of each of the nearest cells."""
    height, width = boxes.images.shape[-2:]
    anchors, each = generator(height, width), generator.anchors_per_cell
    result = []
    for n, (rows, columns) in enumerate(boxes.sizes.tolist()):
        x, y = (anchors[:, i].add(anchors[:, i + 2]).div(2).tolist() for i in range(2))
        within = [0 <= x[a] < columns and 0 <= y[a] < rows for a in range(len(anchors))]
        best, match = [0.0] * len(anchors), [BACKGROUND] * len(anchors)
        for g in torch.nonzero(boxes.present[n] & boxes.crowd[n]).flatten().tolist():
            shared = intersection(anchors, boxes.boxes[n, g]) / area(anchors)
            match = [IGNORED if s > 0.5 else m for s, m in zip(shared.tolist(), match, strict=True)]
        for g in torch.nonzero(boxes.present[n] & ~boxes.crowd[n]).flatten().tolist():
            left, top, right, bottom = boxes.boxes[n, g].tolist()
            overlap = iou(anchors, boxes.boxes[n, g]).tolist()
            chosen: list[int] = []
            for level in torch.arange(len(anchors)).split(generator.level_lengths(height, width)):
                cells = [a for a in level.tolist()[::each] if within[a]]
                centre = (left + right) / 2, (top + bottom) / 2
                cells.sort(key=lambda a: (x[a] - centre[0]) ** 2 + (y[a] - centre[1]) ** 2)
                chosen += [a + m for a in cells[:candidates] for m in range(each)]
            of_chosen = [overlap[a] for a in chosen]
            spread = statistics.stdev(of_chosen) if len(chosen) > 1 else 0.0
            threshold = statistics.fmean(of_chosen) + spread
            for a in chosen:
                inside = left < x[a] < right and top < y[a] < bottom
                if inside and overlap[a] >= threshold and overlap[a] > best[a]:
                    best[a], match[a] = overlap[a], g
        result.append([m if w else IGNORED for m, w in zip(match, within, strict=True)])
    return result


# odd sides: no cell is as near as another, and no centre of an anchor lies on a box's edge
coordinate = st.integers(0, 60).map(lambda n: 2 * n + 0.37)
box = st.tuples(coordinate, coordinate, st.integers(3, 60), st.integers(3, 60)).map(
    lambda b: [b[0], b[1], b[0] + b[2] + 0.11, b[1] + b[3] + 0.23]
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.lists(box, max_size=5), min_size=1, max_size=3),
    st.integers(1, 9),
    st.lists(st.tuples(st.integers(20, 128), st.integers(20, 128)), min_size=3, max_size=3),
    st.booleans(),
)
def test_equals_plain_loops(
    boxes: list[list[list[float]]], candidates: int, sizes: list[tuple[int, int]], crowd: bool
) -> None:
    """Images of several sizes in one batch, and crowds."""
    crowds = [[crowd and g == 0 for g in range(len(image))] for image in boxes]
    mixed = replace(batch(boxes, crowds), sizes=torch.tensor(sizes[: len(boxes)]))
    found = ATSS(TWO, candidates=candidates)(TWO(128, 128), mixed)
    assert found.matches.tolist() == by_loops(mixed, TWO, candidates)


def test_padding_changes_nothing() -> None:
    """A small image alone, and beside one that pads it; fewer cells in it than candidates."""
    boxes = [[[5.0, 5, 40, 30], [10, 2, 30, 28]], [[50.0, 50, 120, 90]]]
    sizes = torch.tensor([[32, 48], [128, 128]])
    both = replace(batch(boxes), sizes=sizes)
    padded = ATSS(TWO, candidates=9)(TWO(128, 128), both).matches[0]
    alone = replace(batch(boxes[:1]), sizes=sizes[:1])
    alone = replace(alone, images=torch.zeros(1, 3, 32, 48, dtype=torch.uint8))
    own = ATSS(TWO, candidates=9)(TWO(32, 48), alone).matches[0]
    lookup = {tuple(a): int(m) for a, m in zip(TWO(128, 128).tolist(), padded, strict=True)}
    assert [lookup[tuple(a)] for a in TWO(32, 48).tolist()] == own.tolist()
    assert {0, 1} <= set(own.tolist())


def test_boxes_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = [[[5.0, 5, 40, 30], [10, 2, 30, 28]], [[50.0, 50, 120, 90], [60, 60, 90, 99]]]
    whole = assign(boxes, TWO, 9).matches
    monkeypatch.setattr(matching, "CPU_PAIRS", 1)
    assert assign(boxes, TWO, 9).matches.equal(whole)


def test_without_boxes() -> None:
    assert (assign([[], []], ONE, 9).matches == BACKGROUND).all()


def test_no_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="candidates is 0"):
        ATSS(ONE, candidates=0)
