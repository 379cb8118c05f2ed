"""What has no network in it, on a GPU as on the CPU: targets, samples, divisors, detections."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from loss_cases import ROWS, SAMPLERS, code_of
from on_device import moved, no_waiting, peak
from scenes import CLASSES, SIZES, scene
from torch import Tensor
from torchvision.ops import box_iou

from detector.anchors import matching
from detector.anchors.box_coder import BoxCoder
from detector.anchors.class_code import ClassCode
from detector.anchors.generator import AnchorGenerator, cell_shapes
from detector.anchors.matching import Matcher
from detector.boxes import iou
from detector.loss.normalizer import (
    EmaPositives,
    Images,
    Normalizer,
    Positives,
    PositivesPerImage,
    Sampled,
)
from detector.loss.sampling import OHEM, Sampler
from detector.postprocess import Postprocess
from detector.structures import Batch, Detections, Outputs, Targets

pytestmark = pytest.mark.gpu
CPU = torch.device("cpu")
ANCHORS = AnchorGenerator([8, 16, 32], cell_shapes([16, 28, 48], [1.0], [0.5, 1, 2]))
SEEDS = range(3)
# Of one exp, log or division; sums and products of two are rounded alike everywhere.
FUNCTION = 8 * 2**-24


def assigned(batch: Batch, *, low_quality: bool = True) -> Targets:
    matcher = Matcher(foreground=0.5, background=0.4, low_quality=low_quality)
    height, width = batch.images.shape[-2:]
    return matcher(ANCHORS(height, width, batch.images.device), batch)


@pytest.mark.parametrize("pairs", [500, matching.CPU_PAIRS])
@pytest.mark.parametrize("low_quality", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_matches_are_the_cpus(
    device: torch.device, seed: int, low_quality: bool, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last one, ties as well: each box is there twice, and many anchors fit alike."""
    for constant in ("CPU_PAIRS", "GPU_PAIRS"):
        monkeypatch.setattr(matching, constant, pairs)
    batch = scene(seed)
    expected = assigned(batch, low_quality=low_quality).matches
    there = moved(batch, device)
    assigned(there)  # the anchors are made once for each shape
    with no_waiting(device):
        actual = assigned(there, low_quality=low_quality).matches
    assert actual.to(CPU).equal(expected)
    assert {-2, -1, 0} <= set(expected.unique().tolist()) and (expected[-1] < 0).all()


def test_memory_of_the_matcher(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 anchors and 1,000 boxes: a temporary of all pairs would be 80 MB, and eight live."""
    monkeypatch.setattr(matching, "GPU_PAIRS", matching.CPU_PAIRS)
    generator = torch.Generator().manual_seed(0)
    corner = 1000 * torch.rand(20_500, 2, generator=generator)
    side = 8 + 100 * torch.rand(20_500, 2, generator=generator)
    rectangles = torch.cat([corner, corner + side], dim=1)
    boxes = rectangles[20_000:].expand(2, -1, 4)
    every, none = torch.ones(2, 500, dtype=torch.bool), torch.zeros(2, 500, dtype=torch.bool)
    whole = {"sizes": torch.full((2, 2), 1200), "labels": every[..., None]}
    batch = replace(scene(), boxes=boxes, present=every, crowd=none, **whole)
    there, anchors = moved(batch, device), moved(rectangles[:20_000], device)
    matcher = Matcher(foreground=0.5, background=0.4, low_quality=True)
    assert 50e6 < peak(lambda: matcher(anchors, there), device) < 300e6


@pytest.fixture
def losses() -> Tensor:
    """(4, A): all different, in random order."""
    generator = torch.Generator().manual_seed(1)
    count = assigned(scene()).matches.numel()
    return torch.randperm(count, generator=generator).view(len(SIZES), -1).float()


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_samples_are_the_cpus(device: torch.device, sampler: Sampler, losses: Tensor) -> None:
    targets = assigned(scene())
    allowed = targets.matches > -2
    expected = sampler.weights(losses, targets, allowed)
    there, values, may = (moved(x, device) for x in (targets, losses, allowed))
    with no_waiting(device):
        actual = sampler.weights(values, there, may)
    assert actual.to(CPU).equal(expected) and expected.any()
    if sampler.known_before:
        assert sampler.counts(there, may).tolist() == sampler.counts(targets, allowed).tolist()


@pytest.mark.parametrize("name", ["ohem", "hard_negatives"])
def test_samples_of_equal_losses(device: torch.device, name: str, losses: Tensor) -> None:
    """Which of equals count is the device's own; how many, and of which losses, is not."""
    targets, tied, sampler = assigned(scene()), (losses / 100).floor(), SAMPLERS[name]
    allowed = targets.matches > -2
    weights = sampler.weights(tied, targets, allowed)
    there = [moved(x, device) for x in (tied, targets, allowed)]
    actual = sampler.weights(*there).to(CPU)
    assert actual.sum(1).tolist() == weights.sum(1).tolist()
    assert not actual[~allowed].any()
    for n in range(len(SIZES)):
        one, other = (tied[n][w[n] > 0].sort().values for w in (actual, weights))
        assert one.equal(other)


def test_nms_of_equal_losses(device: torch.device) -> None:
    """The first of equals counts, on any device."""
    targets, sampler = assigned(scene()), OHEM(per_image=20, nms=0.5)
    nothing, allowed = torch.zeros(targets.matches.shape), targets.matches > -2
    expected = sampler.weights(nothing, targets, allowed)
    actual = sampler.weights(*(moved(x, device) for x in (nothing, targets, allowed)))
    assert actual.to(CPU).equal(expected) and expected.sum() == 20 * len(SIZES)


@pytest.mark.parametrize(
    "kind", [Positives, PositivesPerImage, EmaPositives, Sampled, Images], ids=lambda k: k.__name__
)
def test_divisors_are_the_cpus(device: torch.device, kind: type[Normalizer]) -> None:
    """Of two steps of two micro-batches: counts are exact; a running mean is one product each."""
    micro = [assigned(scene(seed)) for seed in (0, 1)]
    pair = kind(), kind().to(device)
    for step in (micro, micro[::-1]):
        expected, actual = (
            normalizer([moved(t, on) for t in step], counted)()
            for normalizer, on in zip(pair, (CPU, device), strict=True)
        )
        for one, other in zip(actual, expected, strict=True):
            assert one.box.item() == other.box.item() > 1
            near = torch.testing.assert_close
            near(one.classification.to(CPU), other.classification, rtol=FUNCTION, atol=0)
    assert expected[0].classification.min() >= 1


def counted(targets: Targets) -> Tensor:
    return SAMPLERS["hard_negatives"].counts(targets, targets.matches > -2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("row", ROWS)
def test_scores_are_the_plain_ones(device: torch.device, row: str, dtype: torch.dtype) -> None:
    """As post-processing and diagnoses read them: of float32, whatever the network gave."""
    code = code_of(row, CLASSES)
    generator = torch.Generator().manual_seed(0)
    logits = 6 * torch.randn(2, 300, code.channels, generator=generator)
    logits = logits.to(dtype).float()
    exact = logits.double()
    if row.startswith("softmax"):
        expected = exact.exp() / exact.exp().sum(-1, keepdim=True)
    else:
        expected = 1 / (1 + (-exact).exp())
    if row == "sigmoid-class":
        expected = expected * (1 - expected[..., -1:])
    actual = code.scores(moved(logits, device)).to(CPU)
    # an exponent of up to 30 has its own rounding, thirty times that of the result
    near = torch.testing.assert_close
    near(actual.double(), expected[..., :CLASSES], rtol=30 * FUNCTION, atol=1e-7)


def test_boxes_there_and_back(device: torch.device) -> None:
    batch, box_coder = scene(), BoxCoder()
    anchors = ANCHORS(*batch.images.shape[-2:])
    boxes = batch.boxes[0, :1].expand_as(anchors)
    expected = box_coder.encode(boxes.double(), anchors.double())
    there, to = moved(anchors, device), moved(boxes, device)
    deltas = box_coder.encode(to, there)
    near = torch.testing.assert_close
    near(deltas.to(CPU).double(), expected, rtol=FUNCTION, atol=1e-6)
    near(box_coder.decode(deltas, there).to(CPU), boxes, rtol=0, atol=1e-4)  # pixels of 96
    assert iou(to, there).to(CPU).equal(iou(boxes, anchors))


def detections(outputs: Outputs, sizes: Tensor, *, per_level: int, nms: float = 0.5) -> Detections:
    device = sizes.device
    post = Postprocess(
        ClassCode(num_classes=CLASSES), BoxCoder(), score=0.3, per_level=per_level, nms=nms,
        per_image=200,
    )  # fmt: skip
    return post(outputs, ANCHORS(96, 96, device), ANCHORS.level_lengths(96, 96), sizes)


def by_label_and_score(actual: Detections, image: int) -> np.ndarray:
    """float64 (D, 6): label, score, box; equal scores are of different labels."""
    keep = actual.present[image].to(CPU)
    columns = [actual.labels[image, :, None], actual.scores[image, :, None], actual.boxes[image]]
    rows = torch.cat([c.to(CPU, torch.float64) for c in columns], dim=1)[keep].numpy()
    return rows[np.lexsort((-rows[:, 1], rows[:, 0]))]


def spread_logits(*, tied: bool) -> Tensor:
    """(4, A, K), evenly spread and shuffled, about 100 of an image above the score; or in pairs."""
    count = sum(ANCHORS.level_lengths(96, 96))
    generator = torch.Generator().manual_seed(0)
    order = torch.rand(len(SIZES), count * CLASSES, generator=generator).argsort(1)
    logits = (order / order.shape[1] * 30 - 29).view(len(SIZES), count, CLASSES)
    if tied:
        logits[..., 1] = logits[..., 0]
    return logits


@pytest.mark.parametrize("tied", [False, True])
def test_detections_are_the_cpus(device: torch.device, tied: bool) -> None:
    """In images of mixed sizes; with ties between classes nothing is cut but by the score."""
    logits, sizes = spread_logits(tied=tied), torch.tensor(SIZES)
    generator = torch.Generator().manual_seed(8)
    deltas = torch.randn(*logits.shape[:2], 4, generator=generator) / 4
    outputs = Outputs(logits, deltas)
    per_level = 1000 if tied else 25
    expected = detections(outputs, sizes, per_level=per_level)
    assert_clear_of_the_threshold(detections(outputs, sizes, per_level=1000, nms=1.0))
    actual = detections(moved(outputs, device), moved(sizes, device), per_level=per_level)
    for image in range(len(SIZES)):
        ours, cpus = by_label_and_score(actual, image), by_label_and_score(expected, image)
        assert len(cpus) > 10 and ours[:, 0].tolist() == cpus[:, 0].tolist()
        np.testing.assert_allclose(ours, cpus, rtol=1e-5, atol=1e-4)


def assert_clear_of_the_threshold(actual: Detections) -> None:
    """Else whether a pair overlaps by more than 0.5 may turn on the last digit of a box."""
    images = zip(actual.boxes, actual.labels, actual.present, strict=True)
    for boxes, labels in ((boxes[there], labels[there]) for boxes, labels, there in images):
        overlap = box_iou(boxes, boxes)[labels[:, None] == labels]
        assert ((overlap - 0.5).abs() > 1e-4).all() and ((0.5 < overlap) & (overlap < 1)).any()


def test_nothing_is_detected(device: torch.device) -> None:
    logits = torch.full((len(SIZES), sum(ANCHORS.level_lengths(96, 96)), CLASSES), -9.0)
    outputs = moved(Outputs(logits, torch.zeros(*logits.shape[:2], 4)), device)
    actual = detections(outputs, moved(torch.tensor(SIZES), device), per_level=1000)
    assert not actual.present.any() and actual.boxes.shape == (len(SIZES), 200, 4)
