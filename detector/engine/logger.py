"""Loggers of a training run: metrics.jsonl, TensorBoard and the terminal."""

from __future__ import annotations

import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from detector.errors import InputError, about
from detector.files import finite
from detector.imported import calling, imported
from detector.settings.figures import LOSSES, is_coco_figure


class Logger:
    """Receives what a training loop reports; this one, of all ranks but the first, discards it."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Log a flat record, which has at least `step` and `epoch`."""

    def pictures(self, images: Sequence[Tensor], step: int) -> None:
        """Log drawn validation images, uint8 (3, H, W)."""

    def say(self, text: str) -> None:
        """Print a line."""

    def progress(self, step: int, note: str) -> None:
        """Move the progress bar to `step`."""

    def position(self) -> int:
        """How many bytes of metrics.jsonl are on the disk."""
        return 0

    def close(self) -> None:
        """Flush and close the files."""


class RunLogger(Logger):
    """The logger of the first rank, which writes to a run directory.

    position, step: bytes of metrics.jsonl and optimizer steps at which a resumed run continues;
        later lines of the interrupted run are removed. A file shorter than `position` is cut after
        its last whole line, and a printed line says so.
    """

    def __init__(self, run: Path, *, total_steps: int, position: int = 0, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes 1.5 s to import
        from tqdm import tqdm

        # "a+": reads too, and keeps what an interrupted run wrote; `_cut` decides what stays
        self._file = (run / "metrics.jsonl").open("a+b")
        kept = self._cut(position)
        # purge_step hides the points that the interrupted run logged after its last checkpoint
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)
        self._bar = tqdm(
            total=total_steps,
            initial=step,
            unit="step",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )
        if kept < position:
            self.say(
                f"{run / 'metrics.jsonl'} holds {kept} bytes of whole lines where the checkpoint "
                f"knew of {position}: the lines between are lost."
            )

    def _cut(self, position: int) -> int:
        """Truncate the file to `position`, or to its last whole line before; returns its length."""
        self._file.seek(0)
        lines = self._file.read(position)
        kept = len(lines) if len(lines) == position else lines.rfind(b"\n") + 1
        self._file.truncate(kept)
        self._file.seek(kept)
        return kept

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl, and log each number as a TensorBoard scalar."""
        line = {k: finite(v) if isinstance(v, float) else v for k, v in record.items()}
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()  # so that other programs can follow the run
        for name, value in record.items():
            if isinstance(value, int | float) and name not in {"step", "epoch"}:
                self._board.add_scalar(name, value, record["step"])

    def pictures(self, images: Sequence[Tensor], step: int) -> None:
        """TensorBoard images validation/0, validation/1, …"""
        for index, image in enumerate(images):
            self._board.add_image(f"validation/{index}", image, step)

    def say(self, text: str) -> None:
        """Print a line to standard output without breaking the progress bar."""
        self._bar.write(text, file=sys.stdout)
        sys.stdout.flush()

    def progress(self, step: int, note: str) -> None:
        """Move the progress bar; without a terminal, print a line instead."""
        if self._bar.disable:
            self.say(f"step {step}/{self._bar.total}  {note}")
            return
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(step - self._bar.n)

    def position(self) -> int:
        """How many bytes of metrics.jsonl are on the disk.

        Synchronizes the file first: a power cut must not leave it shorter than a checkpoint says.
        """
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Flush and close the files."""
        self._bar.close()
        try:
            self._board.close()
        finally:
            self._file.close()


class Loggers(Logger):
    """The run's own logger, and loggers of a user's beside it.

    One of these that fails, when it is made too, is left out from then on, and a printed line says
    so: nothing is lost that the run's own does not have, and a service that is down must not end a
    training of days.

    own: keeps the metrics, and prints.
    classes: make the others, each called with the run directory and the step from which it goes on.
    """

    def __init__(
        self, own: Logger, classes: Sequence[type[Logger]], *, run: Path, step: int
    ) -> None:
        self._own = own
        self._others: list[Logger] = []
        for made in classes:
            try:
                with calling(made, "train.loggers"):
                    self._others.append(made(run, step))  # type: ignore[call-arg]
            except InputError as error:
                self._left_out(error)

    def write(self, record: Mapping[str, Any]) -> None:
        """Log a flat record, which has at least `step` and `epoch`; the others get copies."""
        self._own.write(record)
        self._each(lambda logger: logger.write(dict(record)))

    def pictures(self, images: Sequence[Tensor], step: int) -> None:
        """Log drawn validation images, uint8 (3, H, W); the others get copies."""
        self._own.pictures(images, step)
        self._each(lambda logger: logger.pictures([i.clone() for i in images], step))

    def say(self, text: str) -> None:
        """Print a line."""
        self._own.say(text)
        self._each(lambda logger: logger.say(text))

    def progress(self, step: int, note: str) -> None:
        """Move the progress bar, which is the run's own logger's alone."""
        self._own.progress(step, note)

    def position(self) -> int:
        """How many bytes of metrics.jsonl are on the disk."""
        return self._own.position()

    def close(self) -> None:
        """Close the others, which may still fail and be told of, then the run's own."""
        try:
            self._each(lambda logger: logger.close())
        finally:
            self._own.close()

    def _each(self, call: Callable[[Logger], None]) -> None:
        for logger in list(self._others):
            try:
                with calling(logger, "train.loggers"):
                    call(logger)
            except InputError as error:
                self._others.remove(logger)
                self._left_out(error)

    def _left_out(self, error: InputError) -> None:
        self._own.say(
            f"{error} The run goes on without it; metrics.jsonl and tensorboard/ have everything."
        )


@about("train.loggers")
def logger_classes(names: Sequence[str]) -> list[type[Logger]]:
    """The classes "module:Class" of a user's loggers; InputError for one that is no Logger."""
    return [_logger_class(name) for name in names]


def _logger_class(name: str) -> type[Logger]:
    made = imported(name)
    if not (isinstance(made, type) and issubclass(made, Logger)):
        raise ValueError(f"found {name!r}, it should be a subclass of detector.Logger")
    try:
        inspect.signature(made).bind(Path(), 0)
    except TypeError as error:
        raise ValueError(
            f"found {name!r}, which cannot be made with the run directory and the step ({error}); "
            "its __init__ should take both"
        ) from None
    return made


def progress_note(record: Mapping[str, Any], seconds: int) -> str:
    """Losses and speed of a training record, and the `seconds` that are left, for the terminal."""
    return (
        f"loss {record['loss/total']:.4f} (classification {record['loss/classification']:.4f}, "
        f"box {record['loss/box']:.4f})  {record['images_per_second']:.1f} images/s  "
        f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left"
    )


def validation_line(metrics: Mapping[str, float]) -> str:
    """AP, AP50, the loss and a user's own metrics, for the terminal; `-` where undefined."""
    figures = [
        f"{name} {'-' if metrics[name] < 0 else format(metrics[name], '.4f')}"
        for name in ("AP", "AP50")
    ]
    own = [
        f"{name} {format(value, '.4g') if math.isfinite(value) else '-'}"
        for name, value in metrics.items()
        if not is_coco_figure(name) and name not in LOSSES
    ]
    return "  ".join([*figures, f"loss {metrics['loss']:.4f}", *own])
