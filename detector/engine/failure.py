"""Values that are not finite, and the files that a diverged run leaves to repeat the bad step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detector.distributed import barrier, gather_objects, is_main, rank
from detector.engine import checkpoint
from detector.errors import Diverged, InputError
from detector.files import write_json
from detector.structures import Batch


def check_finite(*models: nn.Module, step: int, saved: Path) -> None:
    """Raise Diverged if parameters or running statistics are not finite after `step` steps.

    In training the loss does not depend on running statistics, so `TrainingStep.first_bad` misses
    them. saved: the folder of the checkpoints. All ranks must call it.
    """
    names = [name for model in models for name in _not_finite(model)]
    broken: Any = gather_objects(names)[0]  # DDP gives rank 0's statistics to all
    if broken:
        raise Diverged(
            f"{broken[0]} is not finite after step {step}, though loss and gradients "
            f"were; {saved} holds what was before. Try "
            "model.backbone.norm group or train.precision float32."
        )


def _not_finite(model: nn.Module) -> list[str]:
    """Names of the parameters and buffers that hold a NaN or an infinity; waits for the device."""
    # integer buffers, such as the batch counters of batch norm, are always finite
    tensors = {name: t for name, t in model.state_dict().items() if t.is_floating_point()}
    # one transfer for all tensors: a `bool` of each would wait for the device hundreds of times
    finite = torch.stack([tensor.isfinite().all() for tensor in tensors.values()]).tolist()
    return [name for name, is_finite in zip(tensors, finite, strict=True) if not is_finite]


def keep_failure(
    folder: Path,
    state: dict[str, Any],
    steps: Callable[[], Iterable[Sequence[Batch]]],
    *,
    readings: dict[str, Any],
    file_name: Callable[[int], str],
) -> None:
    """Write to `folder` what is needed to repeat the step after `state`; all ranks must call it.

    steps: loads the micro-batches of this rank, beginning with those of that step.
    readings: what is known of the step, written as text, since JSON has no NaN.
    file_name: the file name of an image id.

    Parameters and optimizer are as before that step; running statistics (of batch norm and of the
    moving average) may have been updated since. Every rank writes its own micro-batches.
    """
    images: list[Any] = gather_objects(_keep_batches(folder, steps, file_name))
    if is_main():
        checkpoint.save_state(state, folder / "weights.pt")
        shown = {name: repr(value) for name, value in readings.items()}
        report = {"step": state["step"] + 1, "images": sum(images, []), "readings": shown}
        write_json(folder / "report.json", report)
    barrier()


def _keep_batches(
    folder: Path,
    steps: Callable[[], Iterable[Sequence[Batch]]],
    file_name: Callable[[int], str],
) -> list[dict[str, Any]]:
    """Write this rank's micro-batches; returns their image ids and names, or an error's text."""
    try:
        batches = next(iter(steps()))
        # dicts of tensors: load_state refuses every other class in a file
        tensors = [asdict(batch) for batch in batches]
        checkpoint.save_state({"batches": tensors}, folder / f"batches.rank{rank()}.pt")
    except (InputError, OSError) as error:  # to raise would leave the other ranks waiting
        return [{"error": str(error)}]
    ids = [i for batch in batches for i in batch.image_ids.tolist()]
    return [{"id": i, "file_name": file_name(i)} for i in ids]
