"""What every member of the family holds, beside its own formula."""

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from benchmarking.timing import extra_peak
from conftest import HOME, Command
from loss_cases import (
    ELEMENTWISE,
    FAMILY,
    PAIRS,
    code_of,
    example,
    family,
    logits_for,
    plain,
    quality_of,
)
from pydantic import ValidationError
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from detector import build
from detector.anchors.box_coder import BoxCoder
from detector.anchors.class_code import ClassCode, Terms
from detector.cli.train import train
from detector.config import load, parse
from detector.errors import InputError
from detector.loss import classification
from detector.loss.assemble import CLASSIFICATION_LOSSES
from detector.loss.box import L1, BoxLoss
from detector.loss.classification import ClassificationLoss, per_anchor_loss, trainable
from detector.loss.detection import DetectionLoss
from detector.loss.elementwise import ElementwiseLoss, ElementwiseSettings
from detector.loss.normalizer import Positives
from detector.loss.sampling import All
from detector.structures import BACKGROUND, Outputs, Targets

KINDS = CLASSIFICATION_LOSSES.kinds
WAITING = (DataDependentOutputException, DynamicOutputShapeException)
COMPILED = {"sigmoid-negatives", "softmax-class"}
every_pair = pytest.mark.parametrize(("row", "name"), PAIRS)


def dense(row: str, name: str) -> Callable[[Tensor], Tensor]:
    """Logits -> the chunked loss (N, A) of the example."""
    targets = example()
    return partial(
        per_anchor_loss,
        matches=targets.matches,
        labels=targets.labels,
        quality=quality_of(targets),
        code=code_of(row),
        elementwise=FAMILY[name],
    )


def criterion(elementwise: ElementwiseLoss, row: str = "sigmoid-negatives") -> DetectionLoss:
    classes = ClassificationLoss(code=code_of(row), elementwise=elementwise, sampler=All())
    return DetectionLoss(classes, BoxLoss(compare=L1(box_coder=BoxCoder())), Positives())


@every_pair
def test_chunks_equal_the_plain_formula(
    row: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classification, "CPU_CHUNK", 9)  # three anchors or fewer
    targets, code = example(), code_of(row)
    ours = logits_for(targets, code, torch.float64).requires_grad_()
    reference = ours.detach().clone().requires_grad_()
    incoming = torch.linspace(-1, 2, 14, dtype=torch.float64).view(2, 7)
    loss = dense(row, name)(ours)
    expected = plain(reference, targets, quality_of(targets), code=code, elementwise=FAMILY[name])
    (loss * incoming).sum().backward()
    (expected * incoming).sum().backward()
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(ours.grad, reference.grad, rtol=1e-13, atol=1e-13)
    with torch.no_grad():
        assert dense(row, name)(ours).equal(loss)


@every_pair
def test_gradcheck(row: str, name: str) -> None:
    logits = logits_for(example(), code_of(row), torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(dense(row, name), logits)


@every_pair
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_finite_at_extreme_logits(row: str, name: str, dtype: torch.dtype) -> None:
    targets, code = example(), code_of(row)
    values = torch.tensor([1e4, -1e4, 0.0, 200.0, -200.0], dtype=dtype)
    picks = torch.randint(0, 5, (2, 7, code.channels), generator=torch.Generator().manual_seed(1))
    logits = values[picks].requires_grad_()
    loss = dense(row, name)(logits)
    loss.sum().backward()
    assert loss.dtype == torch.float32 and logits.grad.dtype == dtype
    assert loss.isfinite().all() and logits.grad.isfinite().all()
    quiet = ~trainable(targets.matches, code=code)
    assert (loss[quiet] == 0).all() and (logits.grad[quiet] == 0).all()


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Its limit of versions of one function is meant for a program, not for all these tests."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(("row", "name"), [p for p in PAIRS if p[0] in COMPILED])
def test_compiled_equals_eager(row: str, name: str) -> None:
    logits = logits_for(example(), code_of(row)).requires_grad_()
    compiled = torch.compile(dense(row, name), backend="aot_eager", fullgraph=True)
    ours, theirs = compiled(logits), dense(row, name)(logits)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours.sum(), logits), torch.autograd.grad(theirs.sum(), logits)
    )


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("name", FAMILY)
def test_the_whole_loss_compiles_as_one_graph(name: str) -> None:
    """The pass before the loss and the quality of the boxes are in it."""
    targets = example()
    outputs = Outputs(logits_for(targets, code_of("sigmoid-negatives")), torch.zeros(2, 7, 4))
    compiled, eager = criterion(family()[name]), criterion(family()[name])
    (divisors,) = eager.begin_divisors([targets])()
    run = torch.compile(compiled, backend="eager", fullgraph=True)
    ours, theirs = run(outputs, targets, divisors), eager(outputs, targets, divisors)
    torch.testing.assert_close(ours.by_anchor, theirs.by_anchor)
    torch.testing.assert_close(compiled.state_dict(), eager.state_dict())


@pytest.mark.parametrize("name", FAMILY)
def test_nothing_waits_for_the_device(name: str) -> None:
    """A fake tensor has no data, and refuses what asks for it."""
    targets, loss = example(), criterion(family()[name])
    (divisors,) = loss.begin_divisors([targets])()
    with FakeTensorMode(allow_non_fake_inputs=True):
        outputs = Outputs(torch.randn(2, 7, 3, requires_grad=True), torch.randn(2, 7, 4))
        losses = loss(outputs, targets, divisors)
        losses.total.backward()
    assert outputs.class_logits.grad is not None


@pytest.mark.parametrize("asks", [Tensor.item, Tensor.nonzero, lambda x: x[x > 0]])
def test_a_fake_tensor_refuses_what_waits(asks: Callable[[Tensor], object]) -> None:
    with (
        FakeTensorMode(),
        pytest.raises(WAITING),
    ):
        asks(torch.ones(1).sum())


@pytest.mark.parametrize(("row", "name"), [p for p in PAIRS if "ignored" not in p[0]])
def test_extra_memory(row: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient, its product with what comes in, chunks; and looking at the batch first."""
    monkeypatch.setattr(classification, "CPU_CHUNK", 2**10)
    code, count = code_of(row, 80), 1_000
    logits = torch.zeros(2, count, code.channels, requires_grad=True)
    labels, matches = torch.zeros(2, 5, 80, dtype=torch.bool), torch.full((2, count), BACKGROUND)
    targets = Targets(torch.zeros(count, 4), matches, torch.zeros(2, 5, 4), labels, torch.ones(2))
    loss = ClassificationLoss(code=code, elementwise=family(80)[name], sampler=All())
    quality = torch.ones(2, count)

    def step() -> None:
        loss(logits, targets, quality).sum().backward()

    size = logits.numel() * logits.element_size()
    assert 1 < extra_peak(step, torch.device("cpu")) / size < 2.3


def test_the_box_loss_learns_nothing_from_the_quality() -> None:
    """quality_focal asks for the boxes; their gradient is that of the box loss alone."""
    targets, gradients = example(), []
    for elementwise in (FAMILY["quality_focal"], ELEMENTWISE["focal"]):
        loss, deltas = criterion(elementwise), torch.full((2, 7, 4), 0.1, requires_grad=True)
        logits = logits_for(targets, code_of("sigmoid-negatives")).requires_grad_()
        losses = loss(Outputs(logits, deltas), targets, *loss.begin_divisors([targets])())
        losses.total.backward()
        gradients.append(deltas.grad)
    assert gradients[0].equal(gradients[1])


@pytest.mark.parametrize("name", ["quality_focal", "varifocal"])
def test_quality_is_the_iou_of_the_predicted_box(name: str) -> None:
    """Deltas 0 predict the anchor: its IoU with the box, 8 x 7 of 64 + 80 - 56, is 0.636364."""
    targets, loss, code = example(), criterion(FAMILY[name]), code_of("sigmoid-negatives")
    logits = logits_for(targets, code)
    quality = loss.box.quality(torch.zeros(2, 7, 4, requires_grad=True), targets)
    assert not quality.requires_grad and (quality[~targets.foreground] == 1).all()
    torch.testing.assert_close(quality[0, 0], torch.tensor(0.636364))
    losses = loss(Outputs(logits, torch.zeros(2, 7, 4)), targets, *loss.begin_divisors([targets])())
    by_anchor = plain(logits, targets, quality, code=code, elementwise=FAMILY[name]) / 3
    torch.testing.assert_close(losses.by_anchor, by_anchor)


def test_quality_is_computed_only_for_who_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(BoxLoss, "quality", lambda *_: calls.append("quality"))
    targets = example()
    loss = criterion(ELEMENTWISE["focal"])
    outputs = Outputs(torch.zeros(2, 7, 3), torch.zeros(2, 7, 4))
    loss(outputs, targets, *loss.begin_divisors([targets])())
    assert calls == []
    loss = criterion(FAMILY["weighted_varifocal_root"])
    with pytest.raises(ValueError, match="terms.quality is None"):
        loss(outputs, targets, *loss.begin_divisors([targets])())
    assert calls == ["quality"]


def test_one_class_works() -> None:
    """K = 1: softmax over class and background, smoothed: both outcomes get 0.05."""
    code = ClassCode(num_classes=1, activation="softmax", background="class")
    logits = torch.tensor([[[3.0, 1.0]]]).log()  # p = 0.75
    loss = per_anchor_loss(
        logits,
        torch.zeros(1, 1, dtype=torch.long),
        torch.ones(1, 1, 1, dtype=torch.bool),
        code=code,
        elementwise=FAMILY["smoothed_cross_entropy"],
    )
    torch.testing.assert_close(loss, torch.tensor([[0.342613]]))  # .95 * .287682 + .05 * 1.386294


# log p_t = log(1 - p_t) = -log 2, positive, and its predicted box has an IoU of 0.8
BY_HAND = {
    "focal": 0.25 * 0.25 * math.log(2),
    "poly": 0.25 * (0.25 * math.log(2) + 0.5**3),
    "ghm": math.log(2),  # no bin was seen yet
    "quality_focal": 0.3**2 * math.log(2),
    "varifocal": 0.8 * math.log(2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_by_hand(kind: str) -> None:
    """At its defaults."""
    half = torch.tensor([[math.log(0.5)]], dtype=torch.float64)
    terms = Terms(half, half, torch.tensor([[True]]), torch.tensor([[0.8]], dtype=torch.float64))
    cost = KINDS[kind]().elementwise()(terms)
    assert cost.item() == pytest.approx(BY_HAND[kind], rel=1e-7)


def own_keys(kind: str) -> list[str]:
    shared = ElementwiseSettings.model_fields
    return [key for key in KINDS[kind].model_fields if key not in shared]


def another(kind: str, key: str) -> ElementwiseSettings:
    """The settings of a kind with another value of one key, the first one that is valid."""
    for value in (0.5, 3, 0.25):
        with contextlib.suppress(ValidationError):
            changed = KINDS[kind](**{key: value})
            if changed != KINDS[kind]():
                return changed
    raise AssertionError(f"none of the values fits {key} of {kind}")


def trained_loss(settings: ElementwiseSettings) -> Tensor:
    """(N, A) of the second step, so that a momentum shows."""
    targets, code = example(), code_of("sigmoid-negatives")
    loss = ClassificationLoss(code=code, elementwise=settings.elementwise(), sampler=All())
    logits = logits_for(targets, code)
    loss(logits.flip(1), targets, quality_of(targets))
    return loss(logits, targets, quality_of(targets))


@pytest.mark.parametrize(("kind", "key"), [(k, key) for k in KINDS for key in own_keys(k)])
def test_every_key_of_every_kind_changes_the_loss(kind: str, key: str) -> None:
    loss, other = trained_loss(KINDS[kind]()), trained_loss(another(kind, key))
    assert not torch.allclose(loss, other, rtol=1e-3)


OWN = """
from dataclasses import dataclass
from detector.loss.elementwise import ElementwiseLoss, ElementwiseSettings
from detector.settings.section import Positive, item

@dataclass(frozen=True, kw_only=True)
class Exponential(ElementwiseLoss):
    slope: float

    def __call__(self, terms):
        return (self.slope * terms.log_q.exp()).exp() - 1

class ExponentialSettings(ElementwiseSettings):
    kind: str = "own_loss_of_a_test:ExponentialSettings"
    slope: Positive = item(1.0, "of the exponent")
    extra: dict[str, float] = {}

    def elementwise(self):
        if self.slope > 100:
            raise ValueError(f"slope is {self.slope}, which overflows")
        return Exponential(slope=self.slope)
"""


def test_a_kind_from_outside_the_package(
    tiny: list[str], tool: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file and one key: it trains, its key changes the loss, and is checked as others are."""
    (tmp_path / "own_loss_of_a_test.py").write_text(OWN)
    monkeypatch.setattr("sys.path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    kind = "loss.classification.kind=own_loss_of_a_test:ExponentialSettings"

    def first_loss(slope: str) -> float:
        run = tmp_path / f"slope{slope}"
        settings = [*tiny, kind, f"loss.classification.slope={slope}", "schedule.steps=1"]
        config = load(HOME / "configs/digits.yaml", settings)
        assert train(config, run, resume=False, command=[]) == 0
        assert parse((run / "config.yaml").read_text(), "written") == config
        line = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
        return float(line["loss/classification"])

    assert first_loss("2") > 1.5 * first_loss("1")
    with pytest.raises(InputError, match="slope: found 0, it should be greater than 0"):
        first_loss("0")
    with pytest.raises(InputError, match="unknown key 'slop'; did you mean 'slope'"):
        load(HOME / "configs/digits.yaml", [kind, "loss.classification.slop=1"])
    with pytest.raises(InputError, match=r"loss\.classification: slope is 101\.0, which overflows"):
        build.load_config(HOME / "configs/digits.yaml", [kind, "loss.classification.slope=101"])
    other = ["--resume", "--set", "loss.classification.extra={a: 1}"]
    run = tmp_path / "slope1"
    resumed = tool("train", "--config", run / "config.yaml", "--output", run, *other)
    assert resumed.returncode == 2 and "loss.classification.extra" in resumed.stderr
