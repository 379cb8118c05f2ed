"""Whole optimizer steps on a GPU: the CPU's numbers, no waiting, and what holds after a bad one."""

import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.distributed as dist
from conftest import HOME
from on_device import as_one_graph, moved, no_waiting
from scenes import preset, scene, training
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from detector.distributed import process_group
from detector.engine.meter import Meter
from detector.engine.step import TrainingStep
from detector.structures import Batch

pytestmark = pytest.mark.gpu
CPU = torch.device("cpu")
PRESETS = {path.stem: preset(path) for path in sorted((HOME / "configs/losses").glob("*.yaml"))}
# Of the whole gradient's norm. Each of about a dozen layers, forward and back, rounds what it is
# given and what it gives (sums are float32), by up to 2^-8 or 2^-11 of it; such errors add up as
# their root, and 32 is several times what the CPU shows; an H100 shows 34 once in float16 (poly),
# so 64 there. Float32 convolutions may be Winograd's, which lose two or three digits more.
GRADIENT = {"float32": 5e-4, "bfloat16": 32 * 2**-8, "float16": 64 * 2**-11}
# The loss is a mean over thousands of logits, of which each was rounded.
LOSS = {"float32": 1e-4, "bfloat16": 8 * 2**-8, "float16": 8 * 2**-11}
# Which anchors are among the hardest, or in which bin a term falls, turns on the last digit of
# some; each is one of about a thousand that pull.
FICKLE = {"ghm", "hard_negatives", "ohem"}
ONE_ANCHOR = 0.05
FOCAL = PRESETS["focal"]
Measured = tuple[list[Tensor], dict[str, float]]


def measured(step: TrainingStep, batches: list[Batch], *, index: int = 0) -> Measured:
    """The gradients that a step leaves, on the CPU, and what the meter says."""
    device = step.first_bad.device
    if step.scaler.is_enabled():  # its usual start overflows for some steps
        step.scaler = torch.amp.GradScaler(device.type, init_scale=8.0)
    meter = Meter(device)
    step([moved(b, device) for b in batches], meter, rate=1e-2, index=index)
    return [p.grad.to(CPU, torch.float64) for p in step.model.parameters()], meter.read()


@cache
def on_the_cpu(*changes: str) -> Measured:
    return measured(training(CPU, *changes), [scene()])


def apart(one: list[Tensor], other: list[Tensor]) -> float:
    """The norm of the difference over that of `other`."""
    a, b = (torch.cat([t.flatten() for t in side]) for side in (one, other))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("precision", GRADIENT)
@pytest.mark.parametrize("name", PRESETS)
def test_a_step_of_each_preset(device: torch.device, name: str, precision: str) -> None:
    step = training(device, PRESETS[name], f"train.precision={precision}")
    before = [p.detach().clone() for p in step.model.parameters()]
    gradients, means = measured(step, [scene()])
    expected, by_cpu = on_the_cpu(PRESETS[name])
    for loss in ("classification", "box"):
        assert means[loss] == pytest.approx(by_cpu[loss], rel=LOSS[precision])
    for count in ("anchors_foreground", "anchors_background", "anchors_ignored", "images"):
        assert means[count] == by_cpu[count] > 0
    assert means["divisors"] == pytest.approx(by_cpu["divisors"])
    most = max(GRADIENT[precision], ONE_ANCHOR if name in FICKLE else 0)
    assert apart(gradients, expected) < most
    assert step.first_bad == -1 and means["overflowed"] == 0
    for was, gradient, parameter in zip(before, gradients, step.model.parameters(), strict=True):
        assert not gradient.any() or (was != parameter).any()


WAYS = {
    **{name: [values] for name, values in PRESETS.items()},
    "ohem with nms": ["loss.classification.sampling={kind: ohem, per_image: 8, nms: 0.7}"],
    "random": ["loss.classification={sampling: {kind: random}, normalizer: sampled}"],
    "weights": ["loss.classification={class_weights: [1, 2, 3, 1, 2], normalizer: images}"],
    "ciou": ["loss.box.kind=ciou", "loss.classification.normalizer=ema_positives"],
    "smooth": ["loss.box.kind=smooth_l1", "loss.classification.normalizer=positives_per_image"],
    "l1": ["loss.box.kind=l1"],
    "softmax, ignored": [
        "loss.classification={activation: softmax, background: ignored, prior: null, gamma: 2}"
    ],
    "adamw": ["optimizer.name=adamw"],
    "unclipped, in float32": ["optimizer.clip_norm=null", "train.precision=float32"],
    "bfloat16": ["train.precision=bfloat16"],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_step_never_waits(device: torch.device, way: str) -> None:
    """Two micro-batches, clipped and averaged; after one that sets up libraries and anchors.

    In float16 the scaler, too, tells the (fused) optimizer on the device what to leave out.
    """
    usual = ["optimizer.clip_norm=0.1", "train.ema=0.9", "train.precision=float16"]
    step = training(device, *usual, "train.diagnose_every=2", *WAYS[way])
    batches = [moved(scene(seed), device) for seed in (0, 1)]
    meter = Meter(device)
    step(batches, meter, rate=1e-3, index=0)
    with no_waiting(device):
        step(batches, meter, rate=1e-3, index=1)
        step(batches, meter, rate=1e-3, index=2)  # is looked at
    means = meter.read()
    assert means["classification"] > 0 and means["loss_of_positives"] > 0
    assert step.first_bad == -1


def test_what_waits_is_seen(device: torch.device) -> None:
    x = torch.ones(3, device=device)
    for waits in (lambda: x.sum().item(), lambda: x.nonzero(), lambda: x[x > 0]):
        with pytest.raises((AssertionError, RuntimeError)), no_waiting(device):
            waits()
    with no_waiting(device):
        x.sum()


def test_who_gave_the_loss_is_as_on_the_cpu(device: torch.device) -> None:
    changes = ["train.diagnose_every=1", "loss.classification.prior=null"]  # or none is hard
    _, means = measured(training(device, *changes), [scene()])
    _, expected = measured(training(CPU, *changes), [scene()])
    given = {name: value for name, value in expected.items() if "_of_" in name}
    assert len(given) == 6 and all(value > 0 for value in given.values())
    for name, value in given.items():
        assert means[name] == pytest.approx(value, rel=1e-4)


def test_micro_batches_are_one_batch(device: torch.device) -> None:
    one, two = scene(0), scene(1)
    whole = Batch(**{
        name: torch.cat([getattr(one, name), getattr(two, name)]) for name in vars(one)
    })  # fmt: skip
    together, _ = measured(training(device, FOCAL), [whole])
    parts, _ = measured(training(device, FOCAL), [one, two])
    assert apart(parts, together) < GRADIENT["float32"]


def test_channels_last_or_not(device: torch.device) -> None:
    found = [
        measured(training(device, FOCAL, f"train.channels_last={value}"), [scene()])[0]
        for value in ("true", "false")
    ]
    assert apart(*found) < GRADIENT["float32"]


def test_a_step_without_any_box(device: torch.device) -> None:
    batch = scene()
    bare = replace(batch, present=torch.zeros_like(batch.present))
    step = training(device, FOCAL, "train.precision=bfloat16")
    _, means = measured(step, [bare])
    assert means["box"] == 0 and means["anchors_foreground"] == 0
    assert means["classification"] > 0 and step.first_bad == -1


def plain_sgd(p: Tensor, g: Tensor, *, rate: float, decay: float) -> Tensor:
    """The first step: the momentum is the gradient."""
    return p - rate * (g + decay * p)


def plain_adamw(p: Tensor, g: Tensor, *, rate: float, decay: float) -> Tensor:
    """The first step of Loshchilov and Hutter 2019, algorithm 2: both means are corrected to g."""
    return p * (1 - rate * decay) - rate * g / (g.abs() + 1e-8)


@pytest.mark.parametrize(("name", "plain"), [("sgd", plain_sgd), ("adamw", plain_adamw)])
def test_the_fused_optimizers_are_the_plain_formula(
    device: torch.device, name: str, plain: Callable[..., Tensor]
) -> None:
    step = training(device, FOCAL, f"optimizer={{name: {name}, weight_decay: 0.1}}")
    before = [p.detach().to(CPU, torch.float64) for p in step.model.parameters()]
    gradients, _ = measured(step, [scene()])
    now = step.model.parameters()
    for was, gradient, parameter in zip(before, gradients, now, strict=True):
        expected = plain(was, gradient, rate=1e-2, decay=0.1 if was.ndim > 1 else 0)
        found = parameter.detach().to(CPU, torch.float64)
        # of Adam's quotient: where |g| is near 1e-8, a float32 square of g has few digits
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("precision", GRADIENT)
def test_nothing_moves_after_a_bad_step(device: torch.device, name: str, precision: str) -> None:
    """Step 1 has boxes at NaN; step 2 is as good as step 0. The optimizer is told by found_inf."""
    good = moved(scene(), device)
    step = training(device, f"optimizer.name={name}", f"train.precision={precision}")
    if precision == "float16":
        step.scaler = torch.amp.GradScaler(device.type, init_scale=8.0)
    bad, meter = replace(good, boxes=good.boxes * torch.nan), Meter(device)
    assign = step.assign
    step.assign = lambda batch: replace(assign(good), boxes=batch.boxes)
    step([good], meter, rate=1e-3, index=0)
    before = [t.clone() for t in kept(step)]
    assert step.first_bad == -1
    step([bad], meter, rate=1e-3, index=1)
    step([good], meter, rate=1e-3, index=2)
    assert step.first_bad == 1
    assert all(map(torch.equal, before, kept(step)))


def kept(step: TrainingStep) -> list[Tensor]:
    """Parameters, and what the optimizer keeps of each (momentum; means and steps)."""
    state = [t for values in step.optimizer.state.values() for t in values.values()]
    return [*step.model.parameters(), *state]


def test_an_overflow_is_left_out_and_halves_the_scale(device: torch.device) -> None:
    step = training(device, FOCAL, "train.precision=float16", "train.ema=0.9")
    step.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**40)
    batches, meter = [moved(scene(), device)], Meter(device)
    before = [t.clone() for t in kept(step)]
    step(batches, meter, rate=1e-2, index=0)
    assert all(map(torch.equal, before, kept(step)))
    assert step.scaler.get_scale() == 2.0**39 and step.first_bad == -1
    assert meter.read()["overflowed"] == 1
    step.scaler.update(2.0**3)
    step(batches, meter, rate=1e-2, index=1)
    assert step.scaler.get_scale() == 2.0**3 and meter.read()["overflowed"] == 0
    after = step.model.parameters()
    assert all((a != b).any() for a, b in zip(before, after, strict=False))


def test_a_group_of_one(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """nccl on a GPU. Two ranks are pretended, for sums and gradients of one need no group."""
    alone, expected = measured(training(device, FOCAL), [scene()])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in there.items():
        monkeypatch.setenv(name, str(value))
    sums, all_reduce = [], dist.all_reduce
    monkeypatch.setattr(dist, "all_reduce", lambda *a, **k: sums.append(a) or all_reduce(*a, **k))
    for room in ("detector.distributed", "detector.training"):
        monkeypatch.setattr(f"{room}.world_size", lambda: 2)
    with process_group(device):
        # torch 2.11 names every backend of the group: cpu:gloo,cuda:nccl
        assert ("nccl" if device.type == "cuda" else "gloo") in dist.get_backend()
        step = training(device, FOCAL)
        assert isinstance(step.model, DistributedDataParallel)
        shared, means = measured(step, [scene(), scene()])
    assert not dist.is_initialized() and len(sums) >= 3  # divisors, loss, meter
    assert apart(shared, alone) < GRADIENT["float32"]
    assert means["classification"] == pytest.approx(expected["classification"], rel=LOSS["float32"])


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_equals_eager(device: torch.device) -> None:
    """About a minute on a CPU: so this is one test."""
    torch.compiler.reset()
    eager, expected = measured(training(device, FOCAL), [scene()])
    step = training(device, FOCAL, "train.compile=true")
    compiled, means = measured(step, [scene()])
    torch.compiler.reset()
    assert apart(compiled, eager) < GRADIENT["float32"]
    for loss in ("classification", "box"):
        assert means[loss] == pytest.approx(expected[loss], rel=LOSS["float32"])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_step_replays_as_one_graph(device: torch.device, optimizer: str) -> None:
    """On memory of its own: a graph that read a freed tensor would hold the optimizer back, or
    crash, once the memory is given away."""
    step = training(device, FOCAL, f"optimizer.name={optimizer}", "train.ema=0.9")
    for group in step.optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True
    watched, meter, batch = step.first_bad, Meter(device), moved(scene(), device)
    replay = as_one_graph(lambda: step([batch], meter, rate=1e-3, index=1), device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    scratch = torch.full((1000, 1000), 7.0, device=device)
    replay()
    first = meter.read()["classification"]
    for _ in range(10):
        replay()
    assert step.first_bad is watched and int(watched) == -1 and scratch.sum() == 7e6
    assert all(parameter.isfinite().all() for parameter in step.model.parameters())
    assert meter.read()["classification"] < 11 * first  # it descends: ten more are less than ten
