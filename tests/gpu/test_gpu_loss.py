"""Losses on a GPU against plain formulas in float64 and against the CPU, and their memory."""

import pytest
import torch
from loss_cases import (
    ELEMENTWISE,
    PAIRS,
    ROWS,
    SAMPLERS,
    code_of,
    example,
    family,
    logits_for,
    make_targets,
    plain,
    quality_of,
)
from on_device import moved, peak
from torch import Tensor

from detector.anchors.box_coder import BoxCoder
from detector.anchors.class_code import ClassCode
from detector.loss import classification
from detector.loss.box import L1, BoxLoss, CIoU, GIoU, SmoothL1
from detector.loss.classification import ClassificationLoss, per_anchor_loss
from detector.loss.detection import DetectionLoss
from detector.loss.normalizer import Positives
from detector.structures import BACKGROUND, Outputs, Targets

pytestmark = pytest.mark.gpu
CPU = torch.device("cpu")
# Float32 arithmetic: exp(gamma log q), with an exponent of up to a hundred (gamma 5, logits of 10),
# has the roundings of that exponent; others lose what cancels, so it is measured by the largest.
ARITHMETIC = 256 * 2**-24
# A gradient is rounded to bfloat16 twice (kept, then multiplied), to float16 once.
ROUNDING = {torch.float32: 0.0, torch.bfloat16: 2 * 2**-8, torch.float16: 2**-11}
SMALLEST = 2**-24  # of float16
LOSSES = [*PAIRS, *((row, name) for row in ROWS for name in ELEMENTWISE)]
BOXES = {
    "l1": L1(box_coder=BoxCoder()),
    "smooth_l1": SmoothL1(beta=0.11, box_coder=BoxCoder()),
    "giou": GIoU(box_coder=BoxCoder()),
    "ciou": CIoU(box_coder=BoxCoder()),
}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several, of which the last is not full, and one crosses the two images."""
    for name in ("CPU_CHUNK", "GPU_CHUNK"):
        monkeypatch.setattr(classification, name, 400)


def long_example() -> Targets:
    """That of the CPU tests thirty times over: 210 anchors of each of two images."""
    short = example()
    return make_targets(short.matches.repeat(1, 30).tolist(), short.labels)


def assert_near(found: Tensor, expected: Tensor, *, relative: float, least: float = 0.0) -> None:
    """Each element, up to what float32 arithmetic loses of the largest."""
    wide = found.detach().to(CPU, torch.float64)
    room = ARITHMETIC * float(expected.abs().max()) + least
    torch.testing.assert_close(wide, expected, rtol=relative + ARITHMETIC, atol=room)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize(("row", "name"), LOSSES)
def test_the_loss_is_the_plain_formula(
    device: torch.device, row: str, name: str, dtype: torch.dtype
) -> None:
    targets, code, elementwise = long_example(), code_of(row), {**family(), **ELEMENTWISE}[name]
    logits, quality = logits_for(targets, code, dtype), quality_of(targets)
    incoming = torch.linspace(-1, 2, targets.matches.numel()).view_as(targets.matches)
    exact = logits.double().requires_grad_()
    expected = plain(exact, targets, quality, code=code, elementwise=elementwise)
    (expected * incoming.double()).sum().backward()

    there, ours = moved(targets, device), moved(logits, device).requires_grad_()
    fits, on = moved(quality, device), moved(elementwise, device)
    loss = per_anchor_loss(ours, there.matches, there.labels, fits, code=code, elementwise=on)
    (loss * moved(incoming, device)).sum().backward()
    assert loss.dtype == torch.float32 and ours.grad.dtype == dtype
    assert_near(loss, expected.detach(), relative=0)
    least = SMALLEST if dtype == torch.float16 else 0.0
    assert_near(ours.grad, exact.grad, relative=ROUNDING[dtype], least=least)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ("sigmoid-negatives", "focal"),
        pytest.param("sigmoid-class", "root", marks=pytest.mark.slow),
        pytest.param("softmax-class", "root", marks=pytest.mark.slow),
    ],
)
def test_many_logits_are_compiled(
    device: torch.device, row: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By torch.compile itself, in bfloat16, with logits of up to 1e4."""
    torch.compiler.reset()
    monkeypatch.setattr(classification, "_worth_compiling", lambda logits: True)
    monkeypatch.setattr(classification, "_compile_errors", [])
    targets, code, elementwise = long_example(), code_of(row), ELEMENTWISE[name]
    logits = logits_for(targets, code, torch.bfloat16)
    logits[0, :4, 0] = torch.tensor([1e4, -1e4, 200, -200])
    exact = logits.double().requires_grad_()
    expected = plain(exact, targets, torch.ones(2, 210), code=code, elementwise=elementwise)
    expected.sum().backward()
    there, ours = moved(targets, device), moved(logits, device).requires_grad_()
    loss = per_anchor_loss(ours, there.matches, there.labels, code=code, elementwise=elementwise)
    loss.sum().backward()
    torch.testing.assert_close(loss.to(CPU), expected.detach().float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.grad.to(CPU), exact.grad.bfloat16(), rtol=2e-2, atol=1e-3)
    assert not classification._compile_errors
    torch.compiler.reset()


def criterion(sampler: str, box: str) -> DetectionLoss:
    code, elementwise = code_of("sigmoid-negatives"), ELEMENTWISE["focal"]
    classes = ClassificationLoss(code=code, elementwise=elementwise, sampler=SAMPLERS[sampler])
    return DetectionLoss(classes, BoxLoss(compare=BOXES[box]), Positives(), box_weight=3)


def whole(
    device: torch.device, given: torch.dtype, *, rounded: torch.dtype, sampler: str, box: str
) -> list[Tensor]:
    """by_anchor, both losses, and the gradients at logits and deltas, all of which were `rounded`
    and are then `given` in a dtype of their own."""
    loss, targets = criterion(sampler, box), moved(long_example(), device)
    logits = logits_for(long_example(), code_of("sigmoid-negatives"), rounded)
    deltas = torch.randn(2, 210, 4, generator=torch.Generator().manual_seed(1)) / 4
    outputs = Outputs(
        logits.to(device, given).requires_grad_(),
        deltas.to(rounded).to(device, given).requires_grad_(),
    )
    losses = loss(outputs, targets, *loss.begin_divisors([targets])())
    losses.total.backward()
    scalars = losses.classification.detach(), losses.box.detach()
    return [losses.by_anchor, *scalars, outputs.class_logits.grad, outputs.box_deltas.grad]


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize(
    ("sampler", "box"), [*((name, "giou") for name in SAMPLERS), *(("all", name) for name in BOXES)]
)
def test_the_whole_loss_is_the_cpus(
    device: torch.device, sampler: str, box: str, dtype: torch.dtype
) -> None:
    """On the CPU in float32, of the very same values."""
    ours = whole(device, dtype, rounded=dtype, sampler=sampler, box=box)
    exact = whole(CPU, torch.float32, rounded=dtype, sampler=sampler, box=box)
    expected = [t.double() for t in exact]
    assert ((ours[0] > 0).to(CPU) == (expected[0] > 0)).all()  # the same anchors count
    for found, value in zip(ours[:3], expected[:3], strict=True):
        assert value.any()
        assert_near(found, value, relative=0)
    for found, value in zip(ours[3:], expected[3:], strict=True):
        least = SMALLEST if dtype == torch.float16 else 0.0
        assert_near(found, value, relative=ROUNDING[dtype], least=least)


COPIES = {torch.float32: 2, torch.bfloat16: 2, torch.float16: 3}  # of which one in float32 is two
FOR_ANCHORS = 0.3  # of 80 channels: losses, weights, row numbers and the like
TEMPORARIES = 16 * 4  # bytes of each logit of the chunk that is at work


@pytest.mark.parametrize("dtype", COPIES)
def test_memory_of_the_loss(
    device: torch.device, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient and its product with what comes in; autograd's formula takes ten copies."""
    chunk = 2**17
    for constant in ("CPU_CHUNK", "GPU_CHUNK"):
        monkeypatch.setattr(classification, constant, chunk)
    code, count = ClassCode(num_classes=80), 30_000
    logits = torch.zeros(2, count, 80, dtype=dtype, device=device, requires_grad=True)
    matches = torch.full((2, count), BACKGROUND, device=device)
    labels = torch.zeros(2, 5, 80, dtype=torch.bool, device=device)

    def step() -> None:
        per_anchor_loss(
            logits, matches, labels, code=code, elementwise=ELEMENTWISE["focal"]
        ).sum().backward()

    size = logits.numel() * logits.element_size()
    most = (COPIES[dtype] + FOR_ANCHORS) * size + TEMPORARIES * chunk
    assert size < peak(step, device) < most < 10 * size


@pytest.mark.parametrize(
    ("row", "name"), [p for p in PAIRS if p[0] in {"sigmoid-negatives", "softmax-class"}]
)
def test_memory_of_the_family(
    device: torch.device, row: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the focal loss, though some look at the whole batch first."""
    chunk = 2**12
    for constant in ("CPU_CHUNK", "GPU_CHUNK"):
        monkeypatch.setattr(classification, constant, chunk)
    code, count = code_of(row, 80), 1_000
    logits = torch.zeros(2, count, code.channels, device=device, requires_grad=True)
    labels = torch.zeros(2, 5, 80, dtype=torch.bool)
    matches = torch.full((2, count), BACKGROUND)
    targets = Targets(torch.zeros(count, 4), matches, torch.zeros(2, 5, 4), labels, torch.ones(2))
    there, quality = moved(targets, device), torch.ones(2, count, device=device)
    elementwise = moved(family(80)[name], device)
    loss = ClassificationLoss(code=code, elementwise=elementwise, sampler=SAMPLERS["all"])
    size = logits.numel() * logits.element_size()
    most = (2 + FOR_ANCHORS) * size + TEMPORARIES * chunk
    assert size < peak(lambda: loss(logits, there, quality).sum().backward(), device) < most
