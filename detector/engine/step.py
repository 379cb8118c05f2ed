"""One optimizer step: assignment, divisors, forward and backward passes, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function

from detector.anchors.generator import AnchorGenerator
from detector.anchors.matching import Assignment
from detector.distributed import sum_over_ranks, world_size
from detector.engine.meter import Meter
from detector.engine.optim import EMA
from detector.loss.detection import DetectionLoss
from detector.loss.origin import origin
from detector.structures import Batch, Losses, Outputs, Targets


@dataclass(kw_only=True, eq=False, repr=False)
class TrainingStep:
    """One optimizer step of a model. Nothing in it waits for the device.

    Anchors are assigned before the forward pass, so that the divisors of the whole step are known
    in time: any split into micro-batches and ranks has the same gradient (up to rounding), unless
    the model has batch norm or the loss is GHM-C, which look at one micro-batch.

    model: images uint8 (N, 3, H, W) -> Outputs of the anchors that `anchor_generator` makes for
        H x W, in its order.
    optimizer: made with fused=True.
    scaler: of the loss, for float16.
    autocast: makes the context of the forward pass.
    clip_norm: the largest norm of the gradient; None: no clipping.
    diagnose_every: every so many steps the meter gets the share of each group of anchors in the
        classification loss and its gradient; None: never.

    From the first step whose loss (on any rank) or gradient is not finite, no parameter changes any
    more, so that this step can be repeated afterwards; `first_bad` is its index. Under a loss scale
    a gradient may overflow: then the scaler skips the step, as intended.
    """

    model: nn.Module
    criterion: DetectionLoss
    matcher: Assignment
    anchor_generator: AnchorGenerator
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler = field(
        default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False)
    )
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext
    clip_norm: float | None = None
    ema: EMA | None = None
    diagnose_every: int | None = None
    # around each part, for torch.profiler; or a benchmark's clock
    part: Callable[[str], AbstractContextManager[object]] = record_function
    first_bad: Tensor = field(init=False)  # int64 scalar on the device, -1 while all was finite

    def __post_init__(self) -> None:
        if not all(group.get("fused") for group in self.optimizer.param_groups):
            raise ValueError(
                "optimizer is not fused; make it with fused=True, as torch.optim.AdamW(..., "
                "fused=True): others cannot leave a step out when its gradient is not finite."
            )
        device = next(self.model.parameters()).device
        self.first_bad = torch.full((), -1, dtype=torch.int64, device=device)
        self._readings = torch.zeros(1, device=device)  # at first_bad: loss, norms of gradients

    def __call__(
        self, batches: Sequence[Batch], meter: Meter, *, rate: float, index: int
    ) -> Tensor:
        """Step `index` (from 0) at learning rate `rate`, on the micro-batches of this rank.

        A group of parameters has `rate` times its `rate_factor`, if it has one.

        batches: on the device already.

        Returns this rank's share of the loss, a detached float32 scalar.
        """
        self.optimizer.zero_grad(set_to_none=True)
        with self.part("assign"):
            targets = [self.assign(batch) for batch in batches]
            pending, divisors = self.criterion.begin_divisors(targets), None
        loss = torch.zeros_like(self.first_bad, dtype=torch.float32)
        for micro, batch in enumerate(batches):
            # DDP sums the gradients over ranks once a step, not once a micro-batch
            with nullcontext() if micro == len(batches) - 1 else self._no_sync():
                with self.part("forward"), self.autocast():
                    outputs = self.model(batch.images)
                with self.part("loss"):
                    divisors = divisors or pending()  # the sum over ranks ran beside the network
                    losses = self.criterion(outputs, targets[micro], divisors[micro])
                if self.diagnose_every is not None and index % self.diagnose_every == 0:
                    self._diagnose(outputs, losses, targets[micro], meter)
                loss += losses.total.detach()
                self._backward(losses.total, loss)
            meter.add(losses, targets[micro], divisors[micro])
        self._update(loss, meter, rate=rate, index=index)
        return loss

    def _backward(self, share: Tensor, loss: Tensor) -> None:
        """Backpropagate a micro-batch's share of the loss; `loss` is the sum so far in this step.

        The loss can be infinite while its gradient is finite, with which the scaler would update: a
        gradient of NaN makes it skip this step and every later one.
        """
        finite = (self.first_bad < 0) & loss.isfinite()
        factor = torch.where(finite, 1.0, torch.nan)
        # DDP takes the mean over ranks; the divisors already count all ranks.
        with self.part("backward"):
            self.scaler.scale(share * world_size() * factor).backward()

    def _update(self, loss: Tensor, meter: Meter, *, rate: float, index: int) -> None:
        """Clip the gradient, and move the parameters and their average."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("rate_factor", 1.0)
        # before the norm, which is compared with clip_norm and reported without the loss scale
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norms = torch.stack(torch._foreach_norm(gradients))  # equal on all ranks
        norm = torch.linalg.vector_norm(norms)
        self._watch(loss, norms, norm, index)
        self._descend(norm)
        if self.ema is not None:
            self.ema.update(plain(self.model), index)
        meter.end_step(norm, self.clip_norm)

    def _diagnose(self, outputs: Outputs, losses: Losses, targets: Targets, meter: Meter) -> None:
        """Meter the share of each group of anchors in the loss and, later, in the gradient.

        The gradient of the logits exists only during the backward pass, where a hook receives it.
        The hook refers to a detached copy of the logits: a reference to the tensor that holds the
        hook would be a cycle, which is never freed.
        """
        logits, by_anchor = outputs.class_logits.detach(), losses.by_anchor
        code = self.criterion.classification.code
        factor = self.scaler.scale(torch.ones_like(by_anchor[0, 0])) * world_size()

        def count(gradient: Tensor) -> None:
            origins = origin(by_anchor, logits, gradient, targets, code=code)
            origins[1] /= factor  # by which the loss was multiplied
            meter.add_origin(origins)

        outputs.class_logits.register_hook(count)

    def assign(self, batch: Batch) -> Targets:
        """The targets of a batch, which do not depend on the network."""
        height, width = batch.images.shape[-2:]
        return self.matcher(self.anchor_generator(height, width, batch.images.device), batch)

    def _watch(self, loss: Tensor, norms: Tensor, norm: Tensor, index: int) -> None:
        """At the first step that is not finite, set `first_bad` to `index`; keep its readings."""
        loss = sum_over_ranks(loss)
        finite = loss.isfinite()
        if not self.scaler.is_enabled():
            finite = finite & norm.isfinite()
        keep = finite | (self.first_bad >= 0)
        # in place: a CUDA graph of the step reads and writes the same tensor in every replay
        self.first_bad.copy_(torch.where(keep, self.first_bad, index))
        readings = torch.cat([loss[None], norms])
        if self._readings.shape != readings.shape:  # first step, or parameters thawed since
            self._readings = torch.zeros_like(readings)
        self._readings.copy_(torch.where(keep, self._readings, readings))

    def what_broke(self) -> str:
        """What was not finite at step `first_bad`, in words; waits for the device."""
        loss, *norms = self._readings.tolist()
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        # in the order of the norms in `_update`
        with_gradient = (n for n, p in plain(self.model).named_parameters() if p.grad is not None)
        broken = [
            n for n, norm in zip(with_gradient, norms, strict=True) if not math.isfinite(norm)
        ]
        if not broken:
            return f"the loss is {loss:.6g}, but the norm of its gradient is too large for float32"
        others = f" (nor of {len(broken) - 1} more parameters)" if len(broken) > 1 else ""
        return f"the loss is {loss:.6g}, but its gradient of {broken[0]} is not finite{others}"

    def _descend(self, norm: Tensor) -> None:
        if self.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), self.clip_norm, norm)
        if not self.scaler.is_enabled():  # an enabled scaler tells the optimizer itself
            # fused optimizers read `found_inf` on the device and leave out the update where it is 1
            frozen = (self.first_bad >= 0).float()
            self.optimizer.found_inf = frozen  # type: ignore[attr-defined]
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def state(self) -> dict[str, Any]:
        """The states of all its parts that have one, as a checkpoint holds them."""
        return {
            "model": plain(self.model).state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "criterion": self.criterion.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        plain(self.model).load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        # the config's learning rate and weight decay apply, not those of the checkpoint
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        if state["scaler"]:  # empty where the precision needed none
            self.scaler.load_state_dict(state["scaler"])
        self.criterion.load_state_dict(state["criterion"])

    def _no_sync(self) -> AbstractContextManager[None]:
        if isinstance(self.model, DistributedDataParallel):
            return self.model.no_sync()
        return nullcontext()


def plain(model: nn.Module) -> nn.Module:
    """The model itself, out of its DDP wrapper."""
    return model.module if isinstance(model, DistributedDataParallel) else model
