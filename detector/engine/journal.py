"""What a run writes down while it trains: metrics.jsonl, TensorBoard and the terminal."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor


class Journal(Protocol):
    """One line a record; only the main process keeps one."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Keep a flat record with at least `step` and `epoch`."""
        ...

    def pictures(self, images: Sequence[Tensor], step: int) -> None:
        """Keep drawn validation images, uint8 (3, H, W)."""
        ...

    def say(self, text: str) -> None:
        """Show a line to the user."""
        ...

    def progress(self, step: int, note: str) -> None:
        """Move the progress bar to `step`."""
        ...

    def position(self) -> int:
        """Bytes of metrics.jsonl that are on the disk now."""
        ...

    def close(self) -> None:
        """Flush everything."""
        ...


class Silent:
    """The journal of all ranks but the first."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Nothing."""

    def pictures(self, images: Sequence[Tensor], step: int) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def progress(self, step: int, note: str) -> None:
        """Nothing."""

    def position(self) -> int:
        """Nothing is written."""
        return 0

    def close(self) -> None:
        """Nothing."""


class RunJournal:
    """The journal of the first rank, in a run directory.

    position, step: where a resumed run goes on; what an interrupted run wrote later is cut off. A
        file that ends before is cut after its last whole line, which is said.
    """

    def __init__(self, run: Path, *, total_steps: int, position: int = 0, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes 1.5 s to import
        from tqdm import tqdm

        self._file = (run / "metrics.jsonl").open("a+b")
        kept = self._cut(position)
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
        """Cut the file at `position`, or after its last whole line before; its length."""
        self._file.seek(0)
        lines = self._file.read(position)
        kept = len(lines) if len(lines) == position else lines.rfind(b"\n") + 1
        self._file.truncate(kept)
        self._file.seek(kept)
        return kept

    def write(self, record: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl, and each number as a TensorBoard scalar."""
        line = {k: v if _writable(v) else None for k, v in record.items()}
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()
        for name, value in record.items():
            if isinstance(value, int | float) and name not in {"step", "epoch"}:
                self._board.add_scalar(name, value, record["step"])

    def pictures(self, images: Sequence[Tensor], step: int) -> None:
        """TensorBoard images validation/0, validation/1, …"""
        for number, image in enumerate(images):
            self._board.add_image(f"validation/{number}", image, step)

    def say(self, text: str) -> None:
        """A line on standard output that leaves the bar whole."""
        self._bar.write(text, file=sys.stdout)
        sys.stdout.flush()

    def progress(self, step: int, note: str) -> None:
        """On a terminal the bar (ETA included); else a plain line."""
        if self._bar.disable:
            self.say(f"step {step}/{self._bar.total}  {note}")
            return
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(step - self._bar.n)

    def position(self) -> int:
        """Bytes of metrics.jsonl that are on the disk now: a checkpoint must not know of more."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Flush and close the files."""
        self._bar.close()
        try:
            self._board.close()
        finally:
            self._file.close()


def _writable(value: Any) -> bool:
    """JSON has no NaN and no infinity."""
    return not isinstance(value, float) or math.isfinite(value)
