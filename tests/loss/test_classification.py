from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from benchmarking.timing import extra_peak
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import ELEMENTWISE, ROWS, SAMPLERS, code_of, example, label_rows, logits_for, plain
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException
from torchvision.ops import sigmoid_focal_loss

from detector.anchors.class_code import ClassCode
from detector.loss import classification
from detector.loss.classification import ClassificationLoss, per_anchor_loss, trainable
from detector.loss.elementwise import ElementwiseLoss
from detector.loss.focal import Focal
from detector.loss.sampling import OHEM, All
from detector.structures import BACKGROUND, IGNORED

every_row = pytest.mark.parametrize("row", ROWS)
every_leaf = pytest.mark.parametrize("elementwise", ELEMENTWISE.values(), ids=ELEMENTWISE.keys())


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of three anchors or fewer: the last is not full, and one crosses the two images."""
    monkeypatch.setattr(classification, "CPU_CHUNK", 9)


def test_by_hand() -> None:
    """Logits 0: each of 3 terms is log 2 = 0.693147; ignored is 0."""
    targets = example()
    loss = per_anchor_loss(
        torch.zeros(2, 7, 3),
        targets.matches,
        targets.labels,
        code=code_of("sigmoid-negatives"),
        elementwise=ELEMENTWISE["cross_entropy"],
    )
    expected = torch.full((2, 7), 2.0794415)
    expected[0, 4] = expected[1, 2] = 0
    torch.testing.assert_close(loss, expected)


@pytest.mark.usefixtures("small_chunks")
@every_row
@every_leaf
@pytest.mark.parametrize("num_classes", [1, 3])
def test_equals_the_plain_formula(row: str, elementwise: ElementwiseLoss, num_classes: int) -> None:
    code, targets = code_of(row, num_classes), example(num_classes)
    ours = logits_for(targets, code, torch.float64).requires_grad_()
    reference = ours.detach().clone().requires_grad_()
    incoming = torch.linspace(-1, 2, 14, dtype=torch.float64).view(2, 7)
    loss = per_anchor_loss(
        ours, targets.matches, targets.labels, code=code, elementwise=elementwise
    )
    expected = plain(reference, targets, code=code, elementwise=elementwise)
    (loss * incoming).sum().backward()
    (expected * incoming).sum().backward()
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(ours.grad, reference.grad, rtol=1e-13, atol=1e-13)
    with torch.no_grad():
        quiet = per_anchor_loss(
            ours, targets.matches, targets.labels, code=code, elementwise=elementwise
        )
    assert quiet.equal(loss) and not quiet.requires_grad


@pytest.mark.usefixtures("small_chunks")
@every_row
@every_leaf
def test_gradcheck(row: str, elementwise: ElementwiseLoss) -> None:
    code, targets = code_of(row), example()
    logits = logits_for(targets, code, torch.float64).requires_grad_()

    def loss(logits: Tensor) -> Tensor:
        return per_anchor_loss(
            logits, targets.matches, targets.labels, code=code, elementwise=elementwise
        )

    assert torch.autograd.gradcheck(loss, logits)


def test_equals_torchs_binary_cross_entropy() -> None:
    code, targets = code_of("sigmoid-negatives"), example()
    logits = logits_for(targets, code).requires_grad_()
    rows = label_rows(targets).float()
    counts = targets.matches != IGNORED
    loss = per_anchor_loss(
        logits, targets.matches, targets.labels, code=code, elementwise=ELEMENTWISE["cross_entropy"]
    )
    expected = F.binary_cross_entropy_with_logits(logits, rows, reduction="none").sum(-1) * counts
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss.sum(), logits), torch.autograd.grad(expected.sum(), logits)
    )


def test_equals_torchs_cross_entropy() -> None:
    code, targets = code_of("softmax-class"), example()
    logits = logits_for(targets, code).requires_grad_()
    classes = F.pad(label_rows(targets).float(), (0, 1), value=0.5).argmax(-1)  # 3: none of them
    loss = per_anchor_loss(
        logits, targets.matches, targets.labels, code=code, elementwise=ELEMENTWISE["cross_entropy"]
    )
    expected = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none")
    expected = expected.view(2, 7) * (targets.matches != IGNORED)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss.sum(), logits), torch.autograd.grad(expected.sum(), logits)
    )


@pytest.fixture
def worth_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many logits as a GPU compiles."""
    monkeypatch.setattr(
        classification, "_worth_compiling", lambda logits: not classification._compile_errors
    )
    monkeypatch.setattr(classification, "_compile_errors", [])


def loss_and_gradient() -> Tensor:
    """Of the example: (2, 7, 1 + 3)."""
    targets, code = example(), code_of("sigmoid-negatives")
    logits = logits_for(targets, code).requires_grad_()
    loss = per_anchor_loss(
        logits, targets.matches, targets.labels, code=code, elementwise=ELEMENTWISE["focal"]
    )
    loss.sum().backward()
    return torch.cat([loss.detach()[..., None], logits.grad], dim=-1)


@pytest.mark.usefixtures("worth_compiling")
def test_many_logits_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here by a backend that only traces."""
    function, calls = torch.compile(per_anchor_loss, backend="aot_eager"), []
    monkeypatch.setattr(
        classification, "_compiled", lambda: lambda *a, **k: calls.append(a) or function(*a, **k)
    )
    compiled = loss_and_gradient()
    monkeypatch.setattr(classification, "_worth_compiling", lambda logits: False)
    torch.testing.assert_close(compiled, loss_and_gradient())
    assert len(calls) == 1 and not classification._compile_errors


def test_what_is_worth_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """2**24 logits on a GPU, unless compiling has failed."""

    def worth(device: str, count: int) -> bool:
        logits = SimpleNamespace(device=torch.device(device), numel=lambda: count)
        return classification._worth_compiling(logits)

    monkeypatch.setattr(classification, "_compile_errors", [])
    assert worth("cuda", 2**24) and not worth("cuda", 2**24 - 1) and not worth("cpu", 2**24)
    classification._compile_errors.append("no C compiler")
    assert not worth("cuda", 2**24)


@pytest.mark.usefixtures("worth_compiling")
def test_a_compiler_that_fails_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def compiled(*arguments: object, **objects: object) -> Tensor:
        calls.append(arguments)
        raise TorchDynamoException("no C compiler\nand how to find out more")

    monkeypatch.setattr(classification, "_compiled", lambda: compiled)
    with pytest.warns(UserWarning, match="stays uncompiled: no C compiler$") as seen:
        first, second = loss_and_gradient(), loss_and_gradient()
    monkeypatch.setattr(classification, "_worth_compiling", lambda logits: False)
    assert first.equal(loss_and_gradient()) and second.equal(first)
    assert len(seen) == len(calls) == 1


def test_equals_torchvisions_focal_loss() -> None:
    code, targets = code_of("sigmoid-negatives"), example()
    logits = logits_for(targets, code).requires_grad_()
    rows, counts = label_rows(targets).float(), targets.matches != IGNORED
    loss = per_anchor_loss(
        logits, targets.matches, targets.labels, code=code, elementwise=ELEMENTWISE["focal"]
    )
    expected = sigmoid_focal_loss(logits, rows, alpha=0.25, gamma=2).sum(-1) * counts
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)
    ours, theirs = (torch.autograd.grad(x.sum(), logits)[0] for x in (loss, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@every_row
@every_leaf
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("num_classes", [1, 3])
def test_finite_at_extreme_logits(
    row: str, elementwise: ElementwiseLoss, dtype: torch.dtype, num_classes: int
) -> None:
    code, targets = code_of(row, num_classes), example(num_classes)
    values = torch.tensor([1e4, -1e4, 0.0, 200.0, -200.0], dtype=dtype)
    shape = (2, 7, code.channels)
    picks = torch.randint(0, 5, shape, generator=torch.Generator().manual_seed(1))
    logits = values[picks].requires_grad_()
    loss = per_anchor_loss(
        logits, targets.matches, targets.labels, code=code, elementwise=elementwise
    )
    loss.sum().backward()
    assert loss.dtype == torch.float32 and logits.grad.dtype == dtype
    assert loss.isfinite().all() and logits.grad.isfinite().all()
    quiet = ~trainable(targets.matches, code=code)
    assert (loss[quiet] == 0).all() and (logits.grad[quiet] == 0).all()


def test_certain_and_wrong_costs_what_it_should() -> None:
    """A positive at -1e4 under gamma 0.5: p = 0, so 10000, with slope -1 towards the truth."""
    logits = torch.full((1, 1, 1), -1e4, requires_grad=True)
    loss = per_anchor_loss(
        logits,
        torch.zeros(1, 1, dtype=torch.long),
        torch.ones(1, 1, 1, dtype=torch.bool),
        code=ClassCode(num_classes=1),
        elementwise=ELEMENTWISE["root"],
    )
    loss.sum().backward()
    assert loss.item() == 1e4
    assert logits.grad.item() == pytest.approx(-1, rel=1e-2)


def test_float16_gradient_does_not_underflow_before_the_loss_scale() -> None:
    """CE of a negative at -9: 1.2e-4; focal's gradient there, about 1e-11, is 0 in float16."""
    code, matches = ClassCode(num_classes=1), torch.full((1, 1), BACKGROUND)
    labels = torch.zeros(1, 0, 1, dtype=torch.bool)
    logits = torch.full((1, 1, 1), -9.0, dtype=torch.float16, requires_grad=True)
    loss = per_anchor_loss(logits, matches, labels, code=code, elementwise=ELEMENTWISE["focal"])
    (loss * 2.0**30).sum().backward()
    # 0.75 p^2 (p + 2 p) with p = 1.2339e-4, to first order in p
    assert logits.grad.item() == pytest.approx(2.0**30 * 0.75 * 3 * 1.2339e-4**3, rel=1e-2)


def test_several_labels_and_no_box_at_all() -> None:
    """Two labels of three true: log-odds log 3 in each channel."""
    code, logits = code_of("sigmoid-negatives"), torch.full((1, 2, 3), 3.0).log()
    labels = torch.tensor([[[True, True, False]]])
    elementwise = ELEMENTWISE["cross_entropy"]
    loss = per_anchor_loss(
        logits, torch.tensor([[0, BACKGROUND]]), labels, code=code, elementwise=elementwise
    )
    good, bad = 0.28768207, 1.3862944  # -log 0.75, -log 0.25
    torch.testing.assert_close(loss, torch.tensor([[2 * good + bad, 3 * bad]]))
    empty = per_anchor_loss(
        logits, torch.full((1, 2), BACKGROUND), labels[:, :0], code=code, elementwise=elementwise
    )
    torch.testing.assert_close(empty, torch.tensor([[3 * bad, 3 * bad]]))


@every_row
def test_compiled_equals_eager(row: str) -> None:
    code, targets = code_of(row), example()
    logits = logits_for(targets, code).requires_grad_()

    def loss(logits: Tensor) -> Tensor:
        return per_anchor_loss(
            logits,
            targets.matches,
            targets.labels,
            code=code,
            elementwise=Focal(alpha=0.25, gamma=2),
        )

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    ours, theirs = compiled(logits), loss(logits)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours.sum(), logits), torch.autograd.grad(theirs.sum(), logits)
    )


@pytest.mark.parametrize(
    ("dtype", "most"), [(torch.float32, 2.3), (torch.bfloat16, 2.6), (torch.float16, 3.5)]
)
def test_extra_memory(dtype: torch.dtype, most: float) -> None:
    """Autograd over the plain formula takes ten times the logits or more."""
    logits = torch.zeros(2, 100_000, 80, dtype=dtype, requires_grad=True)
    matches = torch.full((2, 100_000), BACKGROUND)
    labels = torch.zeros(2, 5, 80, dtype=torch.bool)
    code, elementwise = ClassCode(num_classes=80), ELEMENTWISE["focal"]

    def step() -> None:
        per_anchor_loss(
            logits, matches, labels, code=code, elementwise=elementwise
        ).sum().backward()

    size = logits.numel() * logits.element_size()
    assert 1 < extra_peak(step, torch.device("cpu")) / size < most


def test_weights_multiply() -> None:
    """ohem of one anchor an image: the loss of all others is 0, and so is their gradient."""
    targets, code = example(), code_of("sigmoid-negatives")
    logits = logits_for(targets, code).requires_grad_()
    every = ClassificationLoss(code=code, elementwise=ELEMENTWISE["focal"], sampler=All())(
        logits, targets
    )
    hard = OHEM(per_image=1)
    loss = ClassificationLoss(code=code, elementwise=ELEMENTWISE["focal"], sampler=hard)(
        logits, targets
    )
    loss.sum().backward()
    kept = every == every.amax(1, keepdim=True)
    assert loss.equal(torch.where(kept, every, 0.0))
    assert (logits.grad != 0).any(-1).equal(kept)


@every_row
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "ohem_nms"])
def test_counts_are_what_counts(row: str, name: str) -> None:
    targets, code = example(), code_of(row)
    loss = ClassificationLoss(code=code, elementwise=ELEMENTWISE["focal"], sampler=SAMPLERS[name])
    chosen = (loss(logits_for(targets, code), targets) > 0).sum(1)
    assert loss.counts(targets).equal(chosen)


@every_row
def test_nms_by_loss_leaves_one_of_equal_anchors(row: str) -> None:
    """Apart from each other, the anchors are those of plain OHEM; all in one place, the hardest."""
    targets, code = example(), code_of(row)
    logits = logits_for(targets, code)
    every, hard, apart = (
        ClassificationLoss(code=code, elementwise=ELEMENTWISE["focal"], sampler=SAMPLERS[name])(
            logits, targets
        )
        for name in ("all", "ohem", "ohem_nms")
    )
    assert (hard > 0).sum(1).equal((every > 0).sum(1).clamp(max=3))
    assert apart.equal(hard)
    stacked = replace(targets, anchors=targets.anchors[:1].expand(7, 4))
    loss = ClassificationLoss(
        code=code, elementwise=ELEMENTWISE["focal"], sampler=SAMPLERS["ohem_nms"]
    )
    hardest = every == every.amax(1, keepdim=True)
    assert loss(logits, stacked).equal(torch.where(hardest, every, 0.0))


@every_row
def test_ohem_that_keeps_all_is_all(row: str) -> None:
    targets, code = example(), code_of(row)
    logits = logits_for(targets, code)
    every, hard = (
        ClassificationLoss(code=code, elementwise=ELEMENTWISE["focal"], sampler=sampler)(
            logits, targets
        )
        for sampler in (All(), OHEM(per_image=1000))
    )
    assert hard.sum() == every.sum() > 0


@given(st.floats(-30, 30, width=32), st.floats(0, 5), st.booleans())
def test_focusing_never_raises_a_loss(logit: float, gamma: float, positive: bool) -> None:
    matches = torch.tensor([[0 if positive else BACKGROUND]])
    labels = torch.ones(1, 1, 1, dtype=torch.bool)
    logits, code = torch.full((1, 1, 1), logit), ClassCode(num_classes=1)
    focused, entropy = (
        per_anchor_loss(logits, matches, labels, code=code, elementwise=Focal(alpha=None, gamma=g))
        for g in (gamma, 0)
    )
    assert 0 <= focused.item() <= entropy.item()


def test_who_is_trained() -> None:
    """Where background has no loss, foreground alone."""
    matches = torch.tensor([[0, BACKGROUND, IGNORED, 1]])
    negatives, ignored = code_of("sigmoid-negatives"), code_of("sigmoid-ignored")
    assert trainable(matches, code=negatives).tolist() == [[True, True, False, True]]
    assert trainable(matches, code=ignored).tolist() == [[True, False, False, True]]
