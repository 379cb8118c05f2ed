"""The step: equal gradients however it is divided, and no waiting for the device."""

import gc
import weakref
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from waits import Waits

from detector import build
from detector.engine.meter import GRADIENT_ORIGINS, NAMES, Meter, training_record
from detector.structures import Batch, Losses, Outputs
from detector.training import Assembly

HOME = Path(__file__).parents[2]
CPU = torch.device("cpu")


def assemble(tiny: Sequence[str], *changes: str) -> Assembly:
    config = build.load_config(HOME / "configs/digits.yaml", [*tiny, *changes])
    return Assembly(config, Path("unused"), CPU)


def first_batches(assembly: Assembly) -> list[Batch]:
    return next(iter(assembly.load(0, 0, workers=0)))


def gradients(assembly: Assembly, batches: list[Batch]) -> dict[str, Tensor]:
    assembly.step.clip_norm = None  # it would hide a factor
    assembly.step(batches, Meter(CPU), rate=0, index=0)
    return {n: p.grad.clone() for n, p in assembly.net.named_parameters() if p.grad is not None}


NORMALIZERS = ["positives", "positives_per_image", "ema_positives", "sampled", "images"]


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_two_times_four_is_eight(tiny: list[str], normalizer: str) -> None:
    change = f"loss.classification.normalizer={normalizer}"
    whole = assemble(tiny, change)
    halves = assemble(tiny, change, "optimizer.accumulate=2")
    together, apart = first_batches(whole), first_batches(halves)
    assert len(apart) == 2
    assert torch.cat([b.image_ids for b in apart]).tolist() == together[0].image_ids.tolist()
    expected, actual = gradients(whole, together), gradients(halves, apart)
    assert expected.keys() == actual.keys() and len(expected) > 60
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def without_boxes(batch: Batch) -> Batch:
    values: dict[str, Any] = {f.name: getattr(batch, f.name) for f in fields(batch)}
    nothing = torch.zeros_like(batch.present)
    return Batch(**{**values, "present": nothing, "boxes": torch.zeros_like(batch.boxes),
                    "labels": torch.zeros_like(batch.labels)})  # fmt: skip


def test_a_batch_without_any_box_trains(tiny: list[str]) -> None:
    assembly, meter = assemble(tiny), Meter(CPU)
    before = [p.clone() for p in assembly.net.parameters()]
    assembly.step([without_boxes(first_batches(assembly)[0])], meter, rate=1e-3, index=0)
    means = meter.read()
    assert means["box"] == 0 and means["anchors_foreground"] == 0
    assert 0 < means["classification"] < 1e4
    after = list(assembly.net.parameters())
    assert all(p.isfinite().all() for p in after)
    assert any((a != b).any() for a, b in zip(before, after, strict=True))


CASES = {
    "focal": [],
    "softmax and class": [
        "loss.classification.activation=softmax",
        "loss.classification.background=class",
    ],
    "ohem with nms": ["loss.classification.sampling={kind: ohem, per_image: 8, nms: 0.7}"],
    "ohem": ["loss.classification.sampling={kind: ohem, per_image: 64}"],
    "hard negatives": ["loss.classification.sampling={kind: hard_negatives}"],
    "random": [
        "loss.classification.sampling={kind: random}",
        "loss.classification.normalizer=sampled",
    ],
    "ghm": ["loss.classification={kind: ghm, normalizer: sampled}"],
    "quality focal": ["loss.classification={kind: quality_focal, alpha: 0.25}"],
    "smoothed, weighed by class": [
        "loss.classification={kind: poly, smoothing: 0.1, effective_number: 0.9}",
    ],
    "atss": ["matching.kind=atss"],
    "ciou": ["loss.box.kind=ciou", "loss.classification.normalizer=ema_positives"],
}


@pytest.mark.parametrize("case", CASES)
def test_the_step_never_waits(tiny: list[str], case: str) -> None:
    assembly = assemble(tiny, *CASES[case], "train.ema=0.9")
    batches, meter = first_batches(assembly), Meter(CPU)
    assembly.step.assign(batches[0])  # anchors are made once for each shape, outside the count
    with Waits() as waits:
        assembly.step(batches, meter, rate=1e-3, index=0)
    assert waits.found == []


def test_the_counter_sees_what_waits() -> None:
    x = torch.arange(3.0)
    with Waits() as waits:
        x[x > 1].sum().item()
        x.nonzero()
    assert waits.found == ["index", "_local_scalar_dense", "nonzero"]


def test_the_step_compiles_as_one_graph(tiny: list[str]) -> None:
    assembly = assemble(tiny)
    step, (batch,) = assembly.step, first_batches(assembly)
    anchors = step.anchor_generator(*batch.images.shape[-2:])

    def losses(batch: Batch) -> Tensor:
        targets = step.matcher(anchors, batch)
        divisors = step.criterion.begin_divisors([targets])()
        outputs: Outputs = assembly.net(batch.images)
        actual: Losses = step.criterion(outputs, targets, divisors[0])
        return actual.total

    plain = losses(batch)
    compiled = torch.compile(losses, fullgraph=True, backend="aot_eager")(batch)
    compiled.backward()
    torch.testing.assert_close(compiled, plain)
    assert assembly.net.class_head.last.weight.grad is not None


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("clip", ["null", "5"])
@pytest.mark.parametrize("scaled", [False, True])
def test_nothing_moves_after_a_bad_step(
    tiny: list[str], name: str, clip: str, *, scaled: bool
) -> None:
    """Step 1 has a box at NaN; step 2 is as good as step 0 and changes nothing any more."""
    change = [f"optimizer.name={name}", f"optimizer.clip_norm={clip}"]
    assembly, meter = assemble(tiny, *change), Meter(CPU)
    step, (good,) = assembly.step, first_batches(assembly)
    step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0, enabled=scaled)
    bad = replace(good, boxes=good.boxes * torch.nan)
    step.assign = lambda batch: replace(type(step).assign(step, good), boxes=batch.boxes)
    start = [p.clone() for p in assembly.net.parameters()]
    step([good], meter, rate=1e-3, index=0)
    before = [p.clone() for p in assembly.net.parameters()]
    assert step.first_bad == -1 and not all(map(torch.equal, start, before))
    step([bad], meter, rate=1e-3, index=1)
    step([good], meter, rate=1e-3, index=2)
    assert step.first_bad == 1 and step.what_broke() == "the loss is nan"
    for was, now in zip(before, assembly.net.parameters(), strict=True):
        assert torch.equal(was, now)


def test_a_gradient_that_breaks_is_named(tiny: list[str]) -> None:
    """The loss of the first step is finite, and so is every gradient but one; later all are NaN."""
    assembly, meter = assemble(tiny), Meter(CPU)
    step, batches = assembly.step, first_batches(assembly)
    bias = assembly.net.class_head.last.bias
    hook = bias.register_hook(lambda gradient: gradient * torch.inf)
    step(batches, meter, rate=1e-3, index=0)
    hook.remove()
    step(batches, meter, rate=1e-3, index=1)
    assert step.first_bad == 0
    assert "gradient of class_head.last.bias is not finite" in step.what_broke()
    assert "more parameters" not in step.what_broke() and "nan" not in step.what_broke()


def test_an_overflow_under_a_loss_scale_is_no_failure(tiny: list[str]) -> None:
    """A weight of 1e6 on a scale of 1e38: the scaler leaves the step out and halves itself."""
    assembly, meter = assemble(tiny, "loss.classification.weight=1e6"), Meter(CPU)
    step = assembly.step
    step.scaler = torch.amp.GradScaler("cpu", init_scale=1e38)
    before = [p.clone() for p in assembly.net.parameters()]
    step(first_batches(assembly), meter, rate=1e-3, index=0)
    assert step.first_bad == -1 and step.scaler.get_scale() == pytest.approx(5e37)
    assert all(map(torch.equal, before, assembly.net.parameters()))


def test_momentum_after_an_overflow_at_the_first_step(tiny: list[str]) -> None:
    """A first step that is left out changes nothing of the second."""
    change = ["optimizer.name=sgd", "optimizer.clip_norm=null"]
    plain, scaled = assemble(tiny, *change), assemble(tiny, *change)
    batches = first_batches(plain)
    plain.step(batches, Meter(CPU), rate=1e-3, index=0)
    scaled.step.scaler = torch.amp.GradScaler("cpu", init_scale=torch.inf)
    scaled.net.eval()  # its running statistics should not move twice
    scaled.step(batches, Meter(CPU), rate=1e-3, index=0)
    scaled.net.train()
    scaled.step.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    scaled.step(batches, Meter(CPU), rate=1e-3, index=1)
    for one, other in zip(plain.net.parameters(), scaled.net.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_a_look_at_a_step_keeps_nothing_of_it(tiny: list[str]) -> None:
    """A hook that sees its own tensor keeps both alive for ever, out of the collector's sight."""
    assembly, kept = assemble(tiny, "train.diagnose_every=1"), []
    inner = assembly.step.criterion.forward

    def criterion(outputs: Outputs, *rest: Any) -> Losses:
        kept.append(weakref.ref(outputs.class_logits))
        return inner(outputs, *rest)

    assembly.step.criterion.forward = criterion
    for index in range(2):
        assembly.step(first_batches(assembly), Meter(CPU), rate=1e-3, index=index)
    gc.collect()
    assert len(kept) == 2 and all(logits() is None for logits in kept)


def test_a_loss_scale_changes_no_origin(tiny: list[str]) -> None:
    plain, scaled = assemble(tiny), assemble(tiny)
    scaled.step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    meters = []
    for assembly in (plain, scaled):
        meters.append(Meter(CPU))
        assembly.step(first_batches(assembly), meters[-1], rate=0.0, index=0)
    one, other = (meter.read() for meter in meters)
    assert one["gradient_of_positives"] > 0
    for group in GRADIENT_ORIGINS:
        assert other[group] == pytest.approx(one[group], rel=1e-5)
    meters[0].add_origin(torch.tensor([[1.0, 2, 3], [4, torch.inf, 6]]).double())
    actual = meters[0].sums.tolist()
    assert actual[NAMES.index("loss_of_positives")] == 1
    assert actual[NAMES.index("gradient_of_positives")] == 0


def test_a_meter_of_an_older_version_lacks_sums() -> None:
    meter = Meter(CPU)
    meter.restore({"sums": {"box": 6.0, "gone": 1.0}, "steps": 3})
    actual = meter.read()
    assert actual["box"] == 2 and actual["divisors"] == 0
    meter.restore({"sums": torch.ones(11), "steps": 3})
    assert meter.read()["box"] == 0


def test_meter_means_and_state() -> None:
    """6 in three steps is 2 a step; reading empties it."""
    meter, other = Meter(CPU), Meter(CPU)
    meter.sums[0] = 6.0
    meter.steps = 3
    other.restore(meter.state())
    assert other.read()["classification"] == 2.0
    assert other.read()["classification"] == 0.0


def test_every_second_step_says_who_gave_the_loss(tiny: list[str]) -> None:
    """At the start of cross entropy, with p = 1/2 everywhere, every term pulls alike."""
    assembly = assemble(
        tiny,
        "train.diagnose_every=2",
        "loss.classification={gamma: 0, alpha: null, prior: null}",
    )
    batches, meter = first_batches(assembly), Meter(CPU)
    torch.nn.init.zeros_(assembly.net.class_head.last.weight)
    assembly.step(batches, meter, rate=0.0, index=0)
    actual = training_record(meter.read())
    positives, negatives = actual["anchors/foreground"], actual["anchors/background"]
    for kind in ("loss_share", "gradient_share"):
        assert actual[f"{kind}/hard_negatives"] == 0
        share = negatives / (positives + negatives)
        assert actual[f"{kind}/easy_negatives"] == pytest.approx(share, rel=1e-5)
        assert actual[f"{kind}/positives"] == pytest.approx(1 - share, rel=1e-4)
    assert actual["divisor/classification"] == positives
    assembly.step(batches, meter, rate=0.0, index=1)
    assert not any("_share/hard" in name for name in training_record(meter.read()))
