"""One optimizer step: assign, divide, run, differentiate, descend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detector.anchors.grid import AnchorGrid
from detector.anchors.matching import Matcher
from detector.distributed import world_size
from detector.engine.average import MovingAverage
from detector.engine.meter import Meter
from detector.loss.detection import DetectionLoss
from detector.structures import Batch, Targets


class TrainingStep:
    """Everything that one step touches. Nothing in it waits for the device.

    Assignment comes before the forward pass, so that every divisor is known early: micro-batches,
    ranks and one process with the whole batch have the same gradient (up to rounding).
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        criterion: DetectionLoss,
        matcher: Matcher,
        grid: AnchorGrid,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        autocast: Callable[[], AbstractContextManager[None]],
        clip_norm: float | None,
        ema: MovingAverage | None,
    ) -> None:
        self.model = model
        self.criterion = criterion
        self.matcher = matcher
        self.grid = grid
        self.optimizer = optimizer
        self.scaler = scaler
        self.autocast = autocast
        self.clip_norm = clip_norm
        self.ema = ema

    def __call__(self, batches: Sequence[Batch], meter: Meter, *, rate: float, number: int) -> None:
        """Step `number` (from 0), at learning rate `rate`, of the micro-batches of this rank.

        The batches are on the device already.
        """
        self.gradients(batches, meter)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        norm = self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update(plain(self.model), number)
        meter.end_step(norm, self.clip_norm)

    def gradients(self, batches: Sequence[Batch], meter: Meter) -> None:
        """Leave in the parameters the gradient of the whole step, over micro-batches and ranks."""
        self.optimizer.zero_grad(set_to_none=True)
        targets = [self.assign(batch) for batch in batches]
        divisors = self.criterion.divisors(targets)
        for number, batch in enumerate(batches):
            with self._reduce_if(last=number == len(batches) - 1):
                with self.autocast():
                    outputs = self.model(batch.images)
                losses = self.criterion(outputs, targets[number], divisors[number])
                # DDP takes the mean over ranks; the divisors already count all ranks.
                self.scaler.scale(losses.total * world_size()).backward()
            meter.add(losses, targets[number])

    def assign(self, batch: Batch) -> Targets:
        """Which anchor answers for which box; no network needed."""
        height, width = batch.images.shape[-2:]
        return self.matcher(self.grid(height, width, batch.images.device), batch)

    def _clip(self) -> Tensor | None:
        if self.clip_norm is None:
            return None
        self.scaler.unscale_(self.optimizer)
        return nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)

    @contextmanager
    def _reduce_if(self, *, last: bool) -> Iterator[None]:
        if last or not isinstance(self.model, DistributedDataParallel):
            yield
            return
        with self.model.no_sync():
            yield


def plain(model: nn.Module) -> nn.Module:
    """The model itself, out of its DDP wrapper."""
    return model.module if isinstance(model, DistributedDataParallel) else model
