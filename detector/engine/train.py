"""The training loop: optimizer steps, log records, validations and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from torch import nn

from detector.distributed import (
    FAULTS,
    Fault,
    Interrupt,
    barrier,
    broadcast,
    gather_objects,
    is_main,
    rank,
    world_size,
)
from detector.engine import checkpoint
from detector.engine.failure import check_finite, keep_failure
from detector.engine.logger import Logger, progress_note, validation_line
from detector.engine.meter import Meter, training_record
from detector.engine.optim import Schedule
from detector.engine.step import TrainingStep, plain
from detector.errors import Diverged
from detector.structures import Batch, Validation

LoadEpoch = Callable[[int, int], Iterable[Sequence[Batch]]]  # epoch, steps to skip -> micro-batches


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often the loop logs, validates and saves; steps are optimizer steps."""

    steps_per_epoch: int
    log_every: int = 20  # steps
    validate_every: int = 1  # epochs
    save_every: int | None = None  # steps, in addition to every validation; None: only then


class Trainer:
    """Runs `step` from the restored state (or from step 0) to the end of `schedule`.

    load_epoch: loads the micro-batches of this rank, step by step, of an epoch from a step on.
    validate: evaluates a model on the validation set; None for a run without one.
    logger: None logs nothing.
    run: the run directory.
    best: the metric by which checkpoints/best.pt is chosen (higher is better).
    identity: what a checkpoint holds beside its state: config, class names, category ids, data.
    file_name: the file name of an image id, for the report of a failure.
    begin_epoch: called with an epoch's index before its first step, or the first that is left of
        it; what it changes must follow from the index, or a resumed run would be another.
    """

    def __init__(
        self,
        *,
        step: TrainingStep,
        schedule: Schedule,
        load_epoch: LoadEpoch,
        validate: Callable[[nn.Module], Validation] | None = None,
        logger: Logger | None = None,
        run: str | Path,
        pace: Pace,
        best: str = "AP",
        identity: Mapping[str, Any] = {},
        file_name: Callable[[int], str] = str,
        begin_epoch: Callable[[int], None] = lambda epoch: None,
    ) -> None:
        self.step = step
        self.schedule = schedule
        self.load_epoch = load_epoch
        self.validate = validate
        self.logger = logger or Logger()
        self.run_directory = Path(run)
        self.pace = pace
        self.best = best
        self.identity = identity
        self.file_name = file_name
        self.begin_epoch = begin_epoch
        self.meter = Meter(step.first_bad.device)
        self.done = 0  # optimizer steps
        self.validated = 0  # the step of the last validation
        self.best_value = -math.inf
        self._told_undefined = False
        # seconds and steps when the meter was read last
        self._clock, self._clocked = time.perf_counter(), 0

    def run(self) -> int:
        """Train to the end; returns 0, or 128 + signal if a signal ended the run.

        The state is saved in either case, and before an InputError, WorkerLost or Stopped is
        raised. Raises Diverged if loss, gradient or weights are no longer finite.
        """
        self.run_directory.mkdir(parents=True, exist_ok=True)
        with Interrupt() as interrupt:
            try:
                while self.done < self.schedule.total_steps:
                    self._end_of_epoch()
                    # closed even after an exception: at exit Python waits for the loader
                    # processes, and these ignore signals
                    with closing(self._rest_of_epoch()) as steps:
                        for batches in interrupt.until_stopped(steps):
                            rate = self.schedule(self.done)
                            self.step(batches, self.meter, rate=rate, index=self.done)
                            self._after_step()
                self._end_of_epoch()
            except FAULTS as fault:  # of any rank, on all ranks at the same step
                return self._saved(fault)
        return 0

    def _rest_of_epoch(self) -> Generator[list[Batch]]:
        """The micro-batches of each step, on the device."""
        epoch, skip = divmod(self.done, self.pace.steps_per_epoch)
        self.begin_epoch(epoch)
        self.step.model.train()
        self._clock, self._clocked = time.perf_counter(), self.done
        left = self.schedule.total_steps - self.done
        for batches in islice(self.load_epoch(epoch, skip), left):
            yield [batch.to(self.step.first_bad.device) for batch in batches]

    def _after_step(self) -> None:
        self.done += 1
        self._log()
        if self._save_due():
            self._save("last")

    def _saved(self, fault: Fault) -> int:
        """Save after a fault; the exit code for a signal, and the fault itself for another."""
        self._save("last")
        if fault.exit_code <= 128:
            raise fault
        saved = self.run_directory / "checkpoints" / "last.pt"
        self.logger.say(
            f"Stopped by a signal; step {self.done} is saved in {saved}; go on with "
            f"--output {self.run_directory} --resume."
        )
        return fault.exit_code

    def _log(self) -> None:
        """Read the meter and log a record, if this step is one that is logged."""
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
        # looked at only here and in `_save`: to read it, the host must wait for the device
        bad = int(self.step.first_bad)
        if bad >= 0:
            self._fail(record, bad)
        self.logger.write(record)
        seconds = int((self.schedule.total_steps - self.done) * per_step)
        self.logger.progress(self.done, progress_note(record, seconds))

    def _save_due(self) -> bool:
        every = self.pace.save_every
        return every is not None and self.done % every == 0

    def _end_of_epoch(self) -> None:
        """Validate and save, if an epoch has just ended and this has not been done yet.

        Called before each epoch, too: a resumed run may have ended between an epoch and its
        validation.
        """
        epoch, rest = divmod(self.done, self.pace.steps_per_epoch)
        finished = self.done == self.schedule.total_steps
        due = finished or (rest == 0 and epoch % self.pace.validate_every == 0)
        if self.done == 0 or self.validated == self.done or not due:
            return
        improved = False
        if self.validate is not None:
            self._save("last")  # first: if the validation fails, a resumed run repeats only that
            improved = self._validate(self.validate)
        self.validated = self.done
        self._save(*["best"] * improved, "last")

    def _validate(self, validate: Callable[[nn.Module], Validation]) -> bool:
        """Validate and log; returns whether the model is the best so far.

        Where the metric is undefined, the latest model counts as the best.
        """
        # DDP keeps batch-norm statistics apart on each rank until the next forward pass
        broadcast(list(plain(self.step.model).buffers()))
        validation = validate(self.weights())
        record = {f"validation/{name}": value for name, value in validation.metrics.items()}
        epoch = self.done / self.pace.steps_per_epoch
        self.logger.write({"step": self.done, "epoch": epoch, **record})
        self.logger.pictures(validation.pictures, self.done)
        line = validation_line(validation.metrics)
        self.logger.say(f"epoch {epoch:.4g}, step {self.done}: validation {line}")
        value = validation.defined(self.best)
        if value is None:
            self._say_undefined()
            return True
        improved = value > self.best_value
        self.best_value = max(self.best_value, value)
        return improved

    def _say_undefined(self) -> None:
        if not self._told_undefined:
            self.logger.say(
                f"evaluation.best is {self.best}, which is undefined on this validation set (no "
                "box counts for it), so best.pt is the latest checkpoint; name another figure."
            )
        self._told_undefined = True

    def weights(self) -> nn.Module:
        """The model to evaluate: the moving average, if there is one."""
        ema = self.step.ema
        return plain(self.step.model) if ema is None else ema.module

    def _save(self, *names: str) -> None:
        """Save checkpoints of these names; raises Diverged if a step or the state is not finite."""
        bad = int(self.step.first_bad)
        if bad >= 0:
            self._fail({}, bad)
        folder = self.run_directory / "checkpoints"
        check_finite(plain(self.step.model), self.weights(), step=self.done, saved=folder)
        state = self.state()
        if is_main():
            checkpoint.save_state(state, *(folder / f"{name}.pt" for name in names))
        barrier()

    def state(self) -> dict[str, Any]:
        """All that the next step depends on. All ranks must call it; rank 0's is complete."""
        return {
            **self.identity,
            "step": self.done,
            "validated": self.validated,
            "best_value": self.best_value,
            **self.step.state(),
            "ranks": gather_objects({"meter": self.meter.state(), **checkpoint.random_state()}),
            "journal": self.logger.position(),  # the key of older checkpoints
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state: bit for bit with as many ranks as it was saved with."""
        ranks = state["ranks"]
        self.done, self.validated = state["step"], state["validated"]
        self.best_value = state["best_value"]
        self.step.restore(state)
        if len(ranks) != world_size():
            self.logger.say(
                f"Saved by {len(ranks)} processes, resumed by {world_size()}: not bit for bit."
            )
            return
        own = ranks[rank()]
        self.meter.restore(own["meter"])
        checkpoint.restore_random(own)

    def _fail(self, record: dict[str, Any], index: int) -> NoReturn:
        """Write what is needed to repeat step `index` (from 0) to failure/, and raise Diverged."""
        folder, what = self.run_directory / "failure", self.step.what_broke()
        epoch, skip = divmod(index, self.pace.steps_per_epoch)
        keep_failure(
            folder,
            {**self.state(), "step": index},
            lambda: self.load_epoch(epoch, skip),
            readings={**record, "not finite": what},
            file_name=self.file_name,
        )
        raise Diverged(
            f"{what} at step {index + 1}; {folder} holds the weights before that step, its "
            "batches and the names of its images. Try a lower optimizer.lr, optimizer.clip_norm, a "
            "prior, or train.precision float32."
        )
