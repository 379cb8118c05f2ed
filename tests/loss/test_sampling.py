import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import SAMPLERS, make_targets
from torch import Tensor
from torchvision.ops import nms

from detector.loss.sampling import OHEM, All, HardNegatives, Random, Sampler, draw
from detector.structures import BACKGROUND, IGNORED, Targets

B, I = BACKGROUND, IGNORED  # noqa: E741
LABEL = torch.ones(1, 1, 1, dtype=torch.bool)


def one_image(matches: list[int], anchors: Tensor | None = None) -> Targets:
    return make_targets([matches], LABEL, anchors=anchors)


def chosen(sampler: Sampler, losses: list[float], targets: Targets) -> list[int]:
    """Indices of the anchors that count in the only image."""
    allowed = targets.matches != IGNORED
    weights = sampler.weights(torch.tensor([losses]), targets, allowed)
    assert set(weights.unique().tolist()) <= {0.0, 1.0}
    return weights[0].nonzero().flatten().tolist()


def test_all_but_ignored() -> None:
    targets = one_image([0, B, I, B])
    assert chosen(All(), [1, 0, 5, 2], targets) == [0, 1, 3]


def test_ohem_takes_the_highest_of_either_kind() -> None:
    targets = one_image([0, B, I, B, 0])
    assert chosen(OHEM(per_image=2), [1, 4, 9, 2, 3], targets) == [1, 4]
    assert chosen(OHEM(per_image=99), [1, 4, 9, 2, 3], targets) == [0, 1, 3, 4]


@pytest.mark.parametrize("loss", [0.0, 1.0])
def test_ohem_with_ties_is_exact(loss: float) -> None:
    targets = one_image([B] * 6 + [I])
    assert len(chosen(OHEM(per_image=4), [loss] * 7, targets)) == 4


def test_ohem_nms_by_hand() -> None:
    """Anchor 1 overlaps 0 by 9 * 10 / 110 = 0.818; 2 overlaps 1 by 0.818 and 0 by 0.667."""
    x = torch.tensor([0.0, 1.0, 2.0, 50.0])[:, None]
    anchors = torch.cat([x, torch.zeros(4, 1), x + 10, torch.full((4, 1), 10.0)], dim=1)
    targets = one_image([B, 0, B, B], anchors)
    losses = [4.0, 3.0, 2.0, 1.0]
    assert chosen(OHEM(per_image=2, nms=0.7), losses, targets) == [0, 2]
    assert chosen(OHEM(per_image=4, nms=0.7), losses, targets) == [0, 2, 3]
    assert chosen(OHEM(per_image=4, nms=0.5), losses, targets) == [0, 3]
    assert chosen(OHEM(per_image=4, nms=1.0), losses, targets) == [0, 1, 2, 3]


@pytest.mark.parametrize("overlap", [0.3, 0.7])
def test_ohem_nms_is_torchvisions(overlap: float) -> None:
    corners = 40 * torch.rand(60, 2)
    anchors = torch.cat([corners, corners + 5 + 20 * torch.rand(60, 2)], dim=1)
    losses, targets = torch.rand(2, 60), make_targets([[B] * 60] * 2, LABEL, anchors=anchors)
    sampler = OHEM(per_image=15, nms=overlap)
    weights = sampler.weights(losses, targets, torch.ones(2, 60, dtype=torch.bool))
    for row, loss in zip(weights, losses, strict=True):
        best = nms(anchors, loss, overlap)[:15]
        assert set(row.nonzero().flatten().tolist()) == set(best.tolist())


def test_hard_negatives_by_hand() -> None:
    targets = one_image([0, B, B, B, I, B])
    losses = [0.1, 1, 4, 2, 9, 3]
    assert chosen(HardNegatives(ratio=3), losses, targets) == [0, 2, 3, 5]
    assert chosen(HardNegatives(ratio=2.9), losses, targets) == [0, 2, 5]
    assert chosen(HardNegatives(ratio=0), losses, targets) == [0]
    assert chosen(HardNegatives(ratio=9), losses, targets) == [0, 1, 2, 3, 5]
    assert chosen(HardNegatives(ratio=3), losses, one_image([B] * 6)) == []


@pytest.mark.parametrize(
    ("matches", "positives", "negatives"),
    [
        ([0] * 10 + [B] * 40 + [I] * 9, 4, 4),  # half of 8
        ([0] * 1 + [B] * 40, 1, 7),  # negatives fill up
        ([0] * 10 + [B] * 2, 4, 2),  # positives do not
        ([0] * 2 + [B] * 3, 2, 3),
        ([B] * 40, 0, 8),
    ],
)
def test_random_by_hand(matches: list[int], positives: int, negatives: int) -> None:
    targets = one_image(matches)
    picks = chosen(Random(per_image=8, positive_fraction=0.5), [0.0] * len(matches), targets)
    assert sum(matches[pick] == 0 for pick in picks) == positives
    assert sum(matches[pick] == B for pick in picks) == negatives
    assert len(picks) == positives + negatives


def test_random_depends_on_the_key_and_nothing_else() -> None:
    sampler = Random(per_image=8, positive_fraction=0.5)
    pair = make_targets([[B] * 50] * 2, LABEL.expand(2, 1, 1))
    allowed = pair.background
    both = sampler.weights(torch.rand(2, 50), pair, allowed)
    second = Targets(pair.anchors, pair.matches[1:], pair.boxes[1:], pair.labels, pair.keys[1:])
    assert both[1:].equal(sampler.weights(torch.rand(1, 50), second, allowed[1:]))
    assert not both[0].equal(both[1])


def test_draw_is_splitmix64() -> None:
    """Against Python's big integers."""
    full = 2**64 - 1

    def mix(state: int) -> int:
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & full
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & full
        return state ^ (state >> 31)

    keys = [0, 1, -5, 2**62 + 12345]
    expected = [
        [mix(mix(key & full) + (i + 1) * 0x9E3779B97F4A7C15 & full) % 2**63 for i in range(20)]
        for key in keys
    ]
    assert draw(torch.tensor(keys), 20).tolist() == expected


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 1000))
def test_draw_is_uniform(key: int, apart: int) -> None:
    """Mean and spread of 4000 draws from two near keys, and no correlation between the two."""
    near = key - apart if key > 0 else key + apart
    draws = draw(torch.tensor([key, near]), 4000).double() / 2**63
    assert (draws >= 0).all() and (draws <= 1).all()
    assert (draws.mean(1) - 0.5).abs().max() < 6 * 0.2887 / 4000**0.5  # six standard errors
    counts = torch.histc(draws[0], bins=16, min=0, max=1)
    assert ((counts - 250) ** 2 / 250).sum() < 75  # chi square of 15, p of 1e-9
    assert torch.corrcoef(draws)[0, 1].abs() < 6 / 4000**0.5


@given(
    st.lists(
        st.lists(st.sampled_from([0, B, I]), min_size=12, max_size=12), min_size=1, max_size=3
    ),
    st.sampled_from([name for name in SAMPLERS if name != "ohem_nms"]),
    st.booleans(),
)
def test_counts_are_known_before(matches: list[list[int]], name: str, tied: bool) -> None:
    targets = make_targets(matches, LABEL.expand(len(matches), 1, 1))
    losses = torch.zeros(len(matches), 12) if tied else torch.rand(len(matches), 12)
    allowed = targets.matches != IGNORED
    weights = SAMPLERS[name].weights(losses, targets, allowed)
    assert weights.sum(1).long().equal(SAMPLERS[name].counts(targets, allowed))
    assert (weights[~allowed] == 0).all()


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())
def test_no_shape_depends_on_the_data(sampler: Sampler) -> None:
    targets, losses = one_image([0, B, I, B, 0]), torch.rand(1, 5)

    def weights(losses: Tensor) -> Tensor:
        return sampler.weights(losses, targets, targets.matches != IGNORED)

    compiled = torch.compile(weights, backend="eager", fullgraph=True)
    assert compiled(losses).equal(weights(losses))


def test_ohem_nms_keeps_an_overlap_of_exactly_its_iou() -> None:
    """The second anchor is the upper half of the first."""
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    targets = one_image([B, B], anchors)
    assert chosen(OHEM(per_image=2, nms=0.5), [2.0, 1.0], targets) == [0, 1]
    assert chosen(OHEM(per_image=2, nms=0.49), [2.0, 1.0], targets) == [0]


def test_what_survives_nms_cannot_be_counted_before() -> None:
    targets = one_image([0, B])
    with pytest.raises(ValueError, match="nms is 0.5, .* set nms to None"):
        OHEM(per_image=1, nms=0.5).counts(targets, targets.matches != IGNORED)
