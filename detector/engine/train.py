"""The training loop: steps, log lines, validations and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from detector.distributed import FAULTS, barrier, gather_objects, is_main, rank, share, world_size
from detector.engine import checkpoint
from detector.engine.failure import keep_failure, not_finite
from detector.engine.interrupt import Interrupt
from detector.engine.journal import Journal, Silent
from detector.engine.meter import Meter, training_record
from detector.engine.optim import Schedule
from detector.engine.step import TrainingStep, plain
from detector.errors import Diverged
from detector.structures import Batch, Validation

LoadEpoch = Callable[[int, int], Iterable[Sequence[Batch]]]  # epoch, steps to skip -> micro-batches


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often things happen; steps are optimizer steps."""

    steps_per_epoch: int
    log_every: int = 20  # steps
    validate_every: int = 1  # epochs
    save_every: int | None = None  # steps, besides the one at every validation


class Trainer:
    """Runs `step` from where the state stands to the end of `schedule`.

    load_epoch: gives the micro-batches of this rank, step by step, of an epoch from a step on.
    validate: runs the model over the validation set; None for none. run: gets checkpoints/.
    best: the metric by which checkpoints/best.pt is chosen (higher is better).
    identity: what a checkpoint says of itself beside its state: config, class names, category ids.
    file_name: of an image id, for the report of a failure.
    """

    def __init__(
        self,
        *,
        step: TrainingStep,
        schedule: Schedule,
        load_epoch: LoadEpoch,
        validate: Callable[[nn.Module], Validation] | None = None,
        journal: Journal | None = None,  # None keeps nothing and is silent
        run: str | Path,
        pace: Pace,
        best: str = "AP",
        identity: Mapping[str, Any] = {},
        file_name: Callable[[int], str] = str,
        device: torch.device | None = None,
    ) -> None:
        self.step = step
        self.schedule = schedule
        self.load_epoch = load_epoch
        self.validate = validate
        self.journal = journal or Silent()
        self.run_directory = Path(run)
        self.pace = pace
        self.best = best
        self.identity = identity
        self.file_name = file_name
        self.device = device or step.first_bad.device  # the model's
        self.meter = Meter(self.device)
        self.done = 0  # optimizer steps
        self.validated = 0  # the step of the last validation
        self.best_value = -math.inf
        self._told_undefined = False
        self._clock, self._clocked = time.perf_counter(), 0  # when the meter was read last

    def run(self) -> int:
        """Train to the end; 0, or 128 + signal if a signal ended it.

        The state is saved then, and before an InputError, WorkerLost or Stopped is raised.
        """
        self.run_directory.mkdir(parents=True, exist_ok=True)
        with Interrupt() as interrupt:
            try:
                while self.done < self.schedule.total_steps:
                    self._epoch(interrupt)
                self._end_of_epoch()
            except FAULTS as fault:  # of any rank, on all ranks at the same step
                self._save("last")
                if fault.exit_code <= 128:
                    raise
                saved = self.run_directory / "checkpoints" / "last.pt"
                self.journal.say(
                    f"Stopped by a signal; step {self.done} is saved in {saved}; go on with "
                    f"--output {self.run_directory} --resume."
                )
                return fault.exit_code
        return 0

    def _epoch(self, interrupt: Interrupt) -> None:
        self._end_of_epoch()
        epoch, skip = divmod(self.done, self.pace.steps_per_epoch)
        self.step.model.train()
        self._clock, self._clocked = time.perf_counter(), self.done
        left = self.schedule.total_steps - self.done
        # closed whatever comes: Python waits at its end for loader processes, which heed no signal
        with closing(one for one in islice(self.load_epoch(epoch, skip), left)) as steps:
            for batches in interrupt.heed(steps):
                self._one_step(batches)

    def _one_step(self, batches: Sequence[Batch]) -> None:
        batches = [batch.to(self.device) for batch in batches]
        self.step(batches, self.meter, rate=self.schedule(self.done), number=self.done)
        self.done += 1
        self._log()
        if self._save_due():
            self._save("last")

    def _log(self) -> None:
        """Read the meter, if it is time to."""
        epoch_ends = self.done % self.pace.steps_per_epoch == 0
        last = self.done == self.schedule.total_steps
        by_pace = self.done == 1 or self.done % self.pace.log_every == 0
        if not (by_pace or epoch_ends or last or self._save_due()):
            return
        means = self.meter.read()
        now, steps = time.perf_counter(), self.done - self._clocked
        per_step = (now - self._clock) / steps
        self._clock, self._clocked = now, self.done
        record = {
            "step": self.done,
            "epoch": self.done / self.pace.steps_per_epoch,
            **training_record(means),
            "learning_rate": self.schedule(self.done - 1),
            "images_per_second": means["images"] / per_step,
        }
        bad = int(self.step.first_bad)
        if bad >= 0:
            self._fail(record, bad)
        self.journal.write(record)
        self.journal.progress(self.done, self._note(record, per_step))

    def _save_due(self) -> bool:
        every = self.pace.save_every
        return every is not None and self.done % every == 0

    def _note(self, record: dict[str, Any], per_step: float) -> str:
        left = int((self.schedule.total_steps - self.done) * per_step)
        return (
            f"loss {record['loss/total']:.4f} (classification {record['loss/classification']:.4f}, "
            f"box {record['loss/box']:.4f})  {record['images_per_second']:.1f} images/s  "
            f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
        )

    def _end_of_epoch(self) -> None:
        """Validate and save, if an epoch just ended and that was not done yet."""
        epoch, rest = divmod(self.done, self.pace.steps_per_epoch)
        finished = self.done == self.schedule.total_steps
        due = finished or (rest == 0 and epoch % self.pace.validate_every == 0)
        if self.done == 0 or self.validated == self.done or not due:
            return
        if self.validate is None:
            self.validated = self.done
            self._save("last")
            return
        self._save("last")  # first: a validation that fails is made up for when the run goes on
        improved = self._validate(self.validate)
        self.validated = self.done
        self._save(*["best"] * improved, "last")

    def _validate(self, validate: Callable[[nn.Module], Validation]) -> bool:
        """Whether the model is the best so far; the latest is, where the figure is undefined."""
        share(list(plain(self.step.model).buffers()))
        found, epoch = validate(self.weights()), self.done / self.pace.steps_per_epoch
        record = {f"validation/{name}": value for name, value in found.metrics.items()}
        self.journal.write({"step": self.done, "epoch": epoch, **record})
        self.journal.pictures(found.pictures, self.done)
        shown = [f"{name} {_fraction(found.metrics[name])}" for name in ("AP", "AP50")]
        shown.append(f"loss {found.metrics['loss']:.4f}")
        self.journal.say(f"epoch {epoch:.4g}, step {self.done}: validation {'  '.join(shown)}")
        value = found.metrics[self.best]
        if value < 0:
            self._say_undefined()
            return True
        improved = value > self.best_value
        self.best_value = max(self.best_value, value)
        return improved

    def _say_undefined(self) -> None:
        if not self._told_undefined:
            self.journal.say(
                f"evaluation.best is {self.best}, which is undefined on this validation set (no "
                "box counts for it), so best.pt is the latest checkpoint; name another figure."
            )
        self._told_undefined = True

    def weights(self) -> nn.Module:
        """The model that is evaluated: the averaged one, if there is one."""
        ema = self.step.ema
        return plain(self.step.model) if ema is None else ema.module

    def _save(self, *names: str) -> None:
        """Keep the state, unless a step since the last log line was bad or it is not finite."""
        bad = int(self.step.first_bad)
        if bad >= 0:
            self._fail({}, bad)
        self._refuse_not_finite()
        state = self.state()
        if is_main():
            folder = self.run_directory / "checkpoints"
            checkpoint.save(state, *(folder / f"{name}.pt" for name in names))
        barrier()

    def state(self) -> dict[str, Any]:
        """All that the next step depends on. Every rank must call it; the first one's is whole."""
        step = self.step
        return {
            **self.identity,
            "step": self.done,
            "validated": self.validated,
            "best_value": self.best_value,
            "model": plain(step.model).state_dict(),
            "ema": None if step.ema is None else step.ema.state_dict(),
            "optimizer": step.optimizer.state_dict(),
            "scaler": step.scaler.state_dict(),
            "criterion": step.criterion.state_dict(),
            "ranks": gather_objects({"meter": self.meter.state(), **_random_state()}),
            "journal": self.journal.position(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state, bit for bit, with as many ranks as it was saved with."""
        step = self.step
        ranks = state["ranks"]
        self.done, self.validated = state["step"], state["validated"]
        self.best_value = state["best_value"]
        plain(step.model).load_state_dict(state["model"])
        if step.ema is not None:
            step.ema.load_state_dict(state["ema"])
        # the settings in its groups are the config's
        groups = step.optimizer.state_dict()["param_groups"]
        step.optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        if state["scaler"]:  # empty where the precision needed none
            step.scaler.load_state_dict(state["scaler"])
        step.criterion.load_state_dict(state["criterion"])
        if len(ranks) != world_size():
            self.journal.say(
                f"Saved by {len(ranks)} processes, resumed by {world_size()}: not bit for bit."
            )
            return
        mine = ranks[rank()]
        self.meter.restore(mine["meter"])
        torch.set_rng_state(mine["cpu"])
        if mine["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(mine["cuda"])

    def _fail(self, record: dict[str, Any], number: int) -> NoReturn:
        """Leave failure/ with what is needed to repeat step `number` (from 0), and stop."""
        folder, what = self.run_directory / "failure", self.step.what_broke()
        epoch, skip = divmod(number, self.pace.steps_per_epoch)
        keep_failure(
            folder,
            {**self.state(), "step": number},
            lambda: self.load_epoch(epoch, skip),
            readings={**record, "not finite": what},
            file_name=self.file_name,
        )
        raise Diverged(
            f"{what} at step {number + 1}; {folder} holds the weights before that step, its "
            "batches and the names of its images. Try a lower optimizer.lr, optimizer.clip_norm, a "
            "prior, or train.precision float32."
        )

    def _refuse_not_finite(self) -> None:
        """Running statistics may break where the loss does not depend on them in training."""
        mine = [*not_finite(plain(self.step.model)), *not_finite(self.weights())]
        broken: Any = gather_objects(mine)[0]  # DDP hands the first rank's statistics to all
        if broken:
            raise Diverged(
                f"{broken[0]} is not finite after step {self.done}, though loss and gradients "
                f"were; {self.run_directory / 'checkpoints'} holds what was before. Try "
                "model.backbone.norm group or train.precision float32."
            )


def _fraction(value: float) -> str:
    """`-` where it is undefined."""
    return "-" if value < 0 else f"{value:.4f}"


def _random_state() -> dict[str, Tensor | None]:
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}
