import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from loss_cases import ELEMENTWISE, ROWS, SAMPLERS, code_of, example, make_targets

from detector.anchors.box_coder import BoxCoder
from detector.errors import InputError
from detector.loss.box import L1, BoxLoss
from detector.loss.classification import ClassificationLoss
from detector.loss.detection import DetectionLoss
from detector.loss.normalizer import (
    EmaPositives,
    Images,
    Normalizer,
    Positives,
    PositivesPerImage,
    Sampled,
)
from detector.structures import BACKGROUND, IGNORED, Outputs, Targets

NORMALIZERS = [Positives, PositivesPerImage, EmaPositives, Sampled, Images]
BOX = BoxLoss(compare=L1(box_coder=BoxCoder()))


def make_loss(
    row: str = "sigmoid-negatives",
    elementwise: str = "focal",
    sampler: str = "all",
    normalizer: type[Normalizer] = Positives,
    **weights: float,
) -> DetectionLoss:
    classes = ClassificationLoss(
        code=code_of(row), elementwise=ELEMENTWISE[elementwise], sampler=SAMPLERS[sampler]
    )
    return DetectionLoss(classes, BOX, normalizer(), **weights)


def make_outputs(channels: int, *, images: int = 2) -> Outputs:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(images, 7, channels, generator=generator)
    deltas = torch.randn(images, 7, 4, generator=torch.Generator().manual_seed(1))
    return Outputs(logits.requires_grad_(), deltas.requires_grad_())


def part(outputs: Outputs, targets: Targets, images: slice) -> tuple[Outputs, Targets]:
    return (
        Outputs(outputs.class_logits[images], outputs.box_deltas[images]),
        replace(
            targets,
            matches=targets.matches[images],
            boxes=targets.boxes[images],
            labels=targets.labels[images],
            keys=targets.keys[images],
        ),
    )


def test_by_hand() -> None:
    """Logits 0, cross entropy: 12 anchors of 3 log 2 each, by 3 positives; and weights 2 and 5."""
    b, i = BACKGROUND, IGNORED
    labels = torch.eye(2, 3, dtype=torch.bool).expand(2, 2, 3)
    targets = make_targets([[0, 1, b, b, b, i, b], [b, 1, i, b, b, b, b]], labels)
    loss = make_loss(elementwise="cross_entropy", classification_weight=2, box_weight=5)
    (divisors,) = loss.begin_divisors([targets])()
    losses = loss(Outputs(torch.zeros(2, 7, 3), torch.zeros(2, 7, 4)), targets, divisors)
    assert losses.classification.item() == pytest.approx(2 * 12 * 3 * math.log(2) / 3)
    foreground = losses.by_anchor[targets.foreground].sum().item()
    background = losses.by_anchor[targets.background].sum().item()
    assert foreground == pytest.approx(2 * 3 * 3 * math.log(2) / 3)
    assert background == pytest.approx(2 * 9 * 3 * math.log(2) / 3)
    # every box is 8 x 10 and 1 px right, 1 px down of the centre of its 8 x 8 anchor
    assert losses.box.item() == pytest.approx(5 * (1 / 8 + 1 / 8 + math.log(10 / 8)))
    assert losses.total.equal(losses.classification + losses.box)


def test_no_classification_key_changes_the_box_loss() -> None:
    targets, seen = example(), set()
    for row in ROWS:
        for elementwise in ELEMENTWISE:
            for sampler in SAMPLERS:
                for normalizer in NORMALIZERS:
                    if (sampler, normalizer) == ("ohem_nms", Sampled):
                        continue
                    loss = make_loss(row, elementwise, sampler, normalizer, classification_weight=3)
                    outputs = make_outputs(code_of(row).channels)
                    losses = loss(outputs, targets, *loss.begin_divisors([targets])())
                    losses.total.backward()
                    assert outputs.class_logits.grad.isfinite().all()
                    gradient = outputs.box_deltas.grad.numpy().tobytes()
                    seen.add((losses.box.detach().numpy().tobytes(), gradient))
    assert len(seen) == 1


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(
    ("sampler", "normalizer"),
    [pair for pair in product(SAMPLERS, NORMALIZERS) if pair != ("ohem_nms", Sampled)],  # refused
)
def test_accumulated_images_equal_one_batch(
    row: str, sampler: str, normalizer: type[Normalizer]
) -> None:
    targets, channels = example(), code_of(row).channels
    whole, halves = make_outputs(channels), make_outputs(channels)
    loss = make_loss(row, sampler=sampler, normalizer=normalizer)
    together = loss(whole, targets, *loss.begin_divisors([targets])())
    together.total.backward()
    loss = make_loss(row, sampler=sampler, normalizer=normalizer)
    pairs = [part(halves, targets, slice(n, n + 1)) for n in (0, 1)]
    divisors = loss.begin_divisors([targets for _, targets in pairs])()
    apart = [loss(*pair, each) for pair, each in zip(pairs, divisors, strict=True)]
    for losses in apart:
        losses.total.backward()
    torch.testing.assert_close(sum(losses.total for losses in apart), together.total)
    torch.testing.assert_close(halves.class_logits.grad, whole.class_logits.grad)
    torch.testing.assert_close(halves.box_deltas.grad, whole.box_deltas.grad)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_tallies_of_parts_give_the_loss_of_the_whole(normalizer: type[Normalizer]) -> None:
    targets, outputs = example(), make_outputs(3)
    loss = make_loss(normalizer=normalizer)
    tally = sum(loss.tally(*part(outputs, targets, slice(n, n + 1))) for n in (0, 1))
    if normalizer is EmaPositives:  # whose running mean is no divisor for a whole data set
        loss = make_loss(normalizer=Positives)
    losses = loss(outputs, targets, *loss.begin_divisors([targets])())
    expected = torch.stack([losses.classification, losses.box]).double()
    torch.testing.assert_close(loss.means(tally), expected, atol=1e-6, rtol=1e-6)


def test_a_tally_moves_no_running_mean() -> None:
    loss = make_loss(normalizer=EmaPositives)
    loss.means(loss.tally(make_outputs(3), example()))
    assert loss.normalizer.average == 100


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_images_without_any_box(row: str, sampler: str) -> None:
    loss, outputs = make_loss(row, sampler=sampler), make_outputs(code_of(row).channels)
    targets = make_targets([[BACKGROUND] * 7] * 2, torch.zeros(2, 0, 3, dtype=torch.bool))
    losses = loss(outputs, targets, *loss.begin_divisors([targets])())
    losses.total.backward()
    assert losses.total.isfinite() and losses.box == 0
    assert not losses.by_anchor[targets.foreground].any()
    assert outputs.class_logits.grad.isfinite().all()


def test_sampled_under_ohem_with_nms_is_refused() -> None:
    with pytest.raises(InputError) as refusal:
        make_loss(sampler="ohem_nms", normalizer=Sampled)
    assert "loss.classification.normalizer" in str(refusal.value)
    assert "loss.classification.sampling.nms" in str(refusal.value)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_compiled_equals_eager(sampler: str) -> None:
    loss, targets, outputs = make_loss(sampler=sampler), example(), make_outputs(3)
    (divisors,) = loss.begin_divisors([targets])()
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    ours, theirs = compiled(outputs, targets, divisors), loss(outputs, targets, divisors)
    torch.testing.assert_close(ours.total, theirs.total)
    torch.testing.assert_close(ours.by_anchor.sum(), theirs.by_anchor.sum())


def test_what_each_anchor_adds_has_no_gradient() -> None:
    loss, targets, outputs = make_loss(), example(), make_outputs(3)
    (divisors,) = loss.begin_divisors([targets])()
    losses = loss(outputs, targets, divisors)
    assert losses.classification.requires_grad and not losses.by_anchor.requires_grad


def test_means_of_a_tally_without_positives() -> None:
    """3 over 4 counted anchors; a box loss of 0 over no positive is 0."""
    assert make_loss().means(torch.tensor([3.0, 0, 4, 0]).double()).tolist() == [0.75, 0]
