"""What is not finite, and what a step leaves behind that nothing can go on from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detector.distributed import barrier, gather_objects, is_main, rank
from detector.engine import checkpoint
from detector.errors import InputError
from detector.files import write_json
from detector.structures import Batch


def not_finite(model: nn.Module) -> list[str]:
    """Names of the parameters and buffers that hold a NaN or an infinity; waits for the device."""
    tensors = {name: t for name, t in model.state_dict().items() if t.is_floating_point()}
    finite = torch.stack([tensor.isfinite().all() for tensor in tensors.values()]).tolist()
    return [name for name, good in zip(tensors, finite, strict=True) if not good]


def keep_failure(
    folder: Path,
    state: dict[str, Any],
    steps: Callable[[], Iterable[Sequence[Batch]]],
    *,
    readings: dict[str, Any],
    file_name: Callable[[int], str],
) -> None:
    """Leave in `folder` what repeats the step that `state` stands before; all ranks call it.

    steps: loads micro-batches of this rank, those of that step first.
    file_name: of an image id.

    Parameters and optimizer are as before that step; running statistics (of batch norm, of the
    moving average) may have moved since. Every rank writes its own micro-batches.
    """
    ids: list[Any] = gather_objects(_keep_batches(folder, steps))
    if is_main():
        checkpoint.save(state, folder / "weights.pt")
        images = [
            {"id": i, "file_name": file_name(i)} if isinstance(i, int) else {"error": i}
            for part in ids
            for i in part
        ]
        shown = {name: repr(value) for name, value in readings.items()}
        report = {"step": state["step"] + 1, "images": images, "readings": shown}
        write_json(folder / "report.json", report)
    barrier()


def _keep_batches(folder: Path, steps: Callable[[], Iterable[Sequence[Batch]]]) -> list[int | str]:
    """Write this rank's micro-batches; their image ids, or what went wrong."""
    try:
        batches = next(iter(steps()))
        tensors = [asdict(batch) for batch in batches]
        checkpoint.save({"batches": tensors}, folder / f"batches.rank{rank()}.pt")
    except (InputError, OSError) as error:  # other ranks wait, and the divergence comes first
        return [str(error)]
    return [i for batch in batches for i in batch.image_ids.tolist()]
