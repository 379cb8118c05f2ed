"""The training loop: steps, log lines, validations and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detector.distributed import barrier, gather_objects, is_main, rank, share, world_size
from detector.engine import checkpoint
from detector.engine.interrupt import Interrupt
from detector.engine.journal import Journal
from detector.engine.meter import Meter, training_record
from detector.engine.optim import Schedule
from detector.engine.step import TrainingStep, plain
from detector.errors import Diverged, InputError
from detector.files import write_json
from detector.structures import Batch, Validation

LoadEpoch = Callable[[int, int], Iterable[Sequence[Batch]]]  # epoch, steps to skip -> micro-batches


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often things happen; steps are optimizer steps."""

    steps_per_epoch: int
    log_every: int  # steps
    validate_every: int  # epochs
    save_every: int | None  # steps, besides the one at every validation


class Trainer:
    """Runs `step` from where the state stands to the end of `schedule`.

    load_epoch: gives the micro-batches of this rank, step by step, of an epoch from a step on.
    validate: runs the model over the validation set; None for a run without one.
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
        validate: Callable[[nn.Module], Validation] | None,
        journal: Journal,
        run: Path,
        pace: Pace,
        best: str,
        identity: dict[str, Any],
        file_name: Callable[[int], str],
        device: torch.device,
    ) -> None:
        self.step = step
        self.schedule = schedule
        self.load_epoch = load_epoch
        self.validate = validate
        self.journal = journal
        self.run_directory = run
        self.pace = pace
        self.best = best
        self.identity = identity
        self.file_name = file_name
        self.device = device
        self.meter = Meter(device)
        self.done = 0  # optimizer steps
        self.validated = 0  # the step of the last validation
        self.best_value = -math.inf
        self._clock, self._clocked = time.perf_counter(), 0  # when the meter was read last

    def run(self) -> int:
        """Train to the end; 0, or 128 + signal if a signal ended it (with its state saved)."""
        with Interrupt() as interrupt:
            while self.done < self.schedule.total_steps:
                code = self._epoch_or_save(interrupt)
                if code is not None:
                    self._save("last")
                    saved = self.run_directory / "checkpoints" / "last.pt"
                    self.journal.say(
                        f"Stopped by a signal; step {self.done} is saved in {saved}; go on with "
                        f"--output {self.run_directory} --resume."
                    )
                    return code
            self._end_of_epoch()
        return 0

    def _epoch_or_save(self, interrupt: Interrupt) -> int | None:
        try:
            return self._epoch(interrupt)
        except InputError:  # an image that broke since the run began
            if world_size() == 1:  # other ranks may be elsewhere
                self._save("last")
            raise

    def _epoch(self, interrupt: Interrupt) -> int | None:
        self._end_of_epoch()
        epoch, skip = divmod(self.done, self.pace.steps_per_epoch)
        self.step.model.train()
        self._clock, self._clocked = time.perf_counter(), self.done
        for batches in self.load_epoch(epoch, skip):
            batches = [batch.to(self.device) for batch in batches]
            self.step(batches, self.meter, rate=self.schedule(self.done), number=self.done)
            self.done += 1
            logged = self._log()
            if self._save_due():
                self._save("last")
            code = interrupt.agreed(self.device) if logged or world_size() == 1 else None
            if code is not None or self.done == self.schedule.total_steps:
                return code
        return None

    def _log(self) -> bool:
        """Read the meter if it is time to; whether it was."""
        epoch_ends = self.done % self.pace.steps_per_epoch == 0
        last = self.done == self.schedule.total_steps
        by_pace = self.done == 1 or self.done % self.pace.log_every == 0
        if not (by_pace or epoch_ends or last or self._save_due()):
            return False
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
        return True

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
        self.validated = self.done
        if self.validate is not None and self._validate():
            self._save("best", "last")
        else:
            self._save("last")

    def _validate(self) -> bool:
        """Whether the model is the best so far."""
        assert self.validate is not None
        share(list(plain(self.step.model).buffers()))
        found = self.validate(self.weights())
        record = {f"validation/{name}": value for name, value in found.metrics.items()}
        epoch = self.done / self.pace.steps_per_epoch
        self.journal.write({"step": self.done, "epoch": epoch, **record})
        self.journal.pictures(found.pictures, self.done)
        shown = "  ".join(f"{n} {found.metrics[n]:.4f}" for n in ("AP", "AP50", "loss"))
        self.journal.say(f"epoch {epoch:.4g}, step {self.done}: validation {shown}")
        improved = found.metrics[self.best] > self.best_value
        self.best_value = max(self.best_value, found.metrics[self.best])
        return improved

    def weights(self) -> nn.Module:
        """The model that is evaluated: the averaged one, if there is one."""
        ema = self.step.ema
        return plain(self.step.model) if ema is None else ema.module

    def _save(self, *names: str) -> None:
        """Keep the state, unless a step since the last log line was a bad one."""
        bad = int(self.step.first_bad)
        if bad >= 0:
            self._fail({}, bad)
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

    def _keep_batches(self, folder: Path, number: int) -> list[int | str]:
        """Write this rank's micro-batches of step `number`; their image ids, or what went wrong."""
        try:
            batches = next(iter(self.load_epoch(*divmod(number, self.pace.steps_per_epoch))))
            tensors = [asdict(batch) for batch in batches]
            checkpoint.save({"batches": tensors}, folder / f"batches.rank{rank()}.pt")
        except (InputError, OSError) as error:  # other ranks wait, and the divergence comes first
            return [str(error)]
        return [i for batch in batches for i in batch.image_ids.tolist()]

    def _fail(self, record: dict[str, Any], number: int) -> None:
        """Leave failure/ with what is needed to repeat step `number` (from 0), and stop.

        Parameters and optimizer are as before that step; running statistics (of batch norm, of the
        moving average) may have moved since. Every rank writes its own micro-batches.
        """
        folder = self.run_directory / "failure"
        state = {**self.state(), "step": number}
        ids: list[Any] = gather_objects(self._keep_batches(folder, number))
        if is_main():
            checkpoint.save(state, folder / "weights.pt")
            images = [
                {"id": i, "file_name": self.file_name(i)} if isinstance(i, int) else {"error": i}
                for part in ids
                for i in part
            ]
            readings = {name: repr(value) for name, value in record.items()}
            report = {"step": number + 1, "images": images, "readings": readings}
            write_json(folder / "report.json", report)
        barrier()
        raise Diverged(
            f"the loss or its gradient at step {number + 1} is not finite; {folder} holds the "
            "weights before that step, its batches and the names of its images. Try a lower "
            "optimizer.lr, optimizer.clip_norm, or a prior."
        )


def _random_state() -> dict[str, Tensor | None]:
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}
