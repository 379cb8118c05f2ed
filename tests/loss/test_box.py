import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import example, make_targets
from torch import Tensor
from torchvision.ops import complete_box_iou_loss, generalized_box_iou_loss

from detector.anchors.box_coder import BoxCoder
from detector.loss.box import L1, BoxLoss, CIoU, Compare, GIoU, SmoothL1, matched_boxes
from detector.structures import BACKGROUND, IGNORED, Targets

BOX_CODER = BoxCoder()
LOSSES: dict[str, Compare] = {
    "smooth_l1": SmoothL1(box_coder=BOX_CODER, beta=0.11),
    "l1": L1(box_coder=BOX_CODER),
    "giou": GIoU(box_coder=BOX_CODER),
    "ciou": CIoU(box_coder=BOX_CODER),
}
every_loss = pytest.mark.parametrize("compare", LOSSES.values(), ids=LOSSES.keys())


def one_anchor(box: list[float]) -> Targets:
    """A foreground anchor 0 0 10 10 whose box is this, one of background and one ignored."""
    labels = torch.ones(1, 1, 1, dtype=torch.bool)
    anchors = torch.tensor([[0.0, 0, 10, 10]] * 3)
    targets = make_targets([[0, BACKGROUND, IGNORED]], labels, anchors=anchors)
    return Targets(anchors, targets.matches, torch.tensor([[box]]), labels, targets.keys)


@pytest.mark.parametrize(
    ("compare", "box", "by_hand"),
    [
        # centre 1 px to the right: dx = 0.1, against 0
        (SmoothL1(box_coder=BOX_CODER, beta=1), [1.0, 0, 11, 10], 0.005),
        (SmoothL1(box_coder=BOX_CODER, beta=0.05), [1.0, 0, 11, 10], 0.075),
        (SmoothL1(box_coder=BOX_CODER, beta=0), [1.0, 0, 11, 10], 0.1),
        # twice as wide and moved by half a width: dx = 0.5, dw = log 2
        (LOSSES["l1"], [0.0, 0, 20, 10], 0.5 + math.log(2)),
        (LOSSES["smooth_l1"], [0.0, 0, 20, 10], 0.5 + math.log(2) - 0.11),
        (LOSSES["giou"], [0.0, 0, 20, 10], 1 - 100 / 200),  # the hull is the union
        (LOSSES["giou"], [20.0, 0, 30, 10], 1 + 100 / 300),  # IoU 0, a third of the hull is empty
        # IoU 1/2, centres 5 apart on a diagonal of sqrt(500); v = 4/pi^2 (atan 2 - atan 1)^2
        (LOSSES["ciou"], [0.0, 0, 20, 10], 0.5 + 25 / 500 + 0.0419583**2 / (0.5 + 0.0419583)),
    ],
)
def test_by_hand(compare: Compare, box: list[float], by_hand: float) -> None:
    loss = BoxLoss(compare=compare)(torch.zeros(1, 3, 4), one_anchor(box))
    torch.testing.assert_close(loss, torch.tensor([[by_hand, 0, 0]]))


def test_matched_boxes() -> None:
    targets = example()
    boxes = matched_boxes(targets)
    assert boxes[0, 0].equal(targets.boxes[0, 0]) and boxes[1, 5].equal(targets.boxes[1, 1])
    assert boxes[~targets.foreground].equal(targets.anchors.expand(2, -1, 4)[~targets.foreground])


@every_loss
def test_perfect_deltas_cost_nothing(compare: Compare) -> None:
    targets = example()
    deltas = BOX_CODER.encode(matched_boxes(targets), targets.anchors)
    torch.testing.assert_close(
        BoxLoss(compare=compare)(deltas, targets), torch.zeros(2, 7), rtol=0, atol=1e-5
    )


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_only_the_foreground_learns(compare: Compare, dtype: torch.dtype) -> None:
    """Whatever stands off the foreground, infinity and NaN too."""
    targets = example()
    deltas = torch.full((2, 7, 4), 0.3, dtype=dtype)
    deltas[~targets.foreground] = torch.tensor([torch.nan, torch.inf, -1e4, 1e4], dtype=dtype)
    deltas.requires_grad_()
    loss = BoxLoss(compare=compare)(deltas, targets)
    loss.sum().backward()
    assert loss.dtype == torch.float32 and deltas.grad.dtype == dtype
    assert (loss > 0).equal(targets.foreground)
    assert (deltas.grad != 0).any(-1).equal(targets.foreground)
    assert deltas.grad.isfinite().all()


@every_loss
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=4, max_size=4))
def test_finite_for_any_prediction(compare: Compare, values: list[float]) -> None:
    targets = one_anchor([2.0, 3, 9, 20])
    deltas = torch.tensor(values).expand(1, 3, 4).clone().requires_grad_()
    loss = BoxLoss(compare=compare)(deltas, targets)
    loss.sum().backward()
    assert loss.isfinite().all() and (loss >= 0).all() and deltas.grad.isfinite().all()


@every_loss
def test_no_box_at_all(compare: Compare) -> None:
    labels = torch.zeros(2, 0, 3, dtype=torch.bool)
    targets = make_targets([[BACKGROUND, IGNORED]] * 2, labels)
    deltas = torch.ones(2, 2, 4, requires_grad=True)
    loss = BoxLoss(compare=compare)(deltas, targets)
    loss.sum().backward()
    assert loss.equal(torch.zeros(2, 2)) and deltas.grad.equal(torch.zeros(2, 2, 4))


@every_loss
def test_no_shape_depends_on_the_data(compare: Compare) -> None:
    targets, loss = example(), BoxLoss(compare=compare)

    def total(deltas: Tensor) -> Tensor:
        return loss(deltas, targets)

    deltas = torch.randn(2, 7, 4)
    compiled = torch.compile(total, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(deltas), total(deltas))


@pytest.mark.parametrize(
    ("compare", "theirs"),
    [(LOSSES["giou"], generalized_box_iou_loss), (LOSSES["ciou"], complete_box_iou_loss)],
)
def test_iou_losses_are_torchvisions(
    compare: Compare, theirs: Callable[[Tensor, Tensor], Tensor]
) -> None:
    """Values and gradients, on boxes that overlap, touch and lie apart."""
    generator = torch.Generator().manual_seed(0)
    corner = 20 * torch.rand(200, 2, generator=generator)
    boxes = torch.cat([corner, corner + 1 + 9 * torch.rand(200, 2, generator=generator)], dim=1)
    anchors = torch.tensor([5.0, 5, 15, 15]).expand(200, 4)
    ours = (0.3 * torch.randn(200, 4, generator=generator)).requires_grad_()
    other = ours.detach().clone().requires_grad_()
    losses, expected = (
        compare(ours, anchors, boxes),
        theirs(BOX_CODER.decode(other, anchors), boxes),
    )
    torch.testing.assert_close(losses, expected)
    losses.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, other.grad)


def test_quality_is_the_iou_without_a_gradient() -> None:
    """The predicted box is the anchor, its upper half the true one; 1 off the foreground."""
    deltas = torch.zeros(1, 3, 4, requires_grad=True)
    actual = BoxLoss(compare=LOSSES["l1"]).quality(deltas, one_anchor([0.0, 0, 10, 5]))
    assert actual.tolist() == [[0.5, 1, 1]] and not actual.requires_grad
