"""Which images make up which batch; which random numbers a sample gets.

I images of the data set, B images of a global batch (over all ranks and micro-batches).
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import torch
from numpy.typing import NDArray

from detector.errors import InputError


def stable_hash(*numbers: int, purpose: str) -> int:
    """62 bits that are the same on every machine and in every process."""
    packed = struct.pack(f"<{len(numbers)}q", *numbers)
    digest = hashlib.blake2b(packed, digest_size=8, person=purpose.encode()).digest()
    return int.from_bytes(digest, "little") >> 2


def seeded(*numbers: int, purpose: str) -> torch.Generator:
    """A CPU generator that depends on these numbers and the purpose alone."""
    return torch.Generator().manual_seed(stable_hash(*numbers, purpose=purpose))


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Global batches of an epoch; the images that do not fill one more wait for another epoch.

    Raises InputError where not even one is filled.
    """
    if num_images < batch_size:
        raise InputError(
            f"The training set has {num_images} images, less than one batch of {batch_size}: "
            "set a smaller train.batch_size or bring more images."
        )
    return num_images // batch_size


def plan_epoch(
    sizes: NDArray[np.int32],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    group_by_aspect: bool = True,
) -> NDArray[np.int64]:
    """(steps, B) rows of the data set from sizes (I, 2) height, width; no row occurs twice.

    Grouped by aspect, a batch is all wide or all not, but for at most one: grouping costs no image.
    """
    steps = steps_per_epoch(len(sizes), batch_size)
    generator = seeded(seed, epoch, purpose="order")
    order = torch.randperm(len(sizes), generator=generator).numpy()
    order = order[: steps * batch_size]  # before grouping, or always the same group would lose
    if group_by_aspect:
        wide = sizes[order, 1] > sizes[order, 0]
        order = np.concatenate([order[wide], order[~wide]])
    plan = order.reshape(steps, batch_size)
    return plan[torch.randperm(steps, generator=generator).numpy()]


def split_plan(
    plan: NDArray[np.int64], *, accumulate: int, rank: int, world_size: int
) -> NDArray[np.int64]:
    """(steps, B) of all -> (steps, accumulate, micro-batch) of one rank.

    Micro-batch m of rank r is slice m * world_size + r, so that every way to divide the work goes
    through the same images in the same steps. Raises InputError if B cannot be divided so.
    """
    batch_size = plan.shape[1]
    if batch_size % (accumulate * world_size):
        raise InputError(
            f"A batch of {batch_size} images cannot be divided evenly among {world_size} processes "
            f"with {accumulate} micro-batches each: choose a train.batch_size that is a multiple "
            f"of {accumulate * world_size}."
        )
    return plan.reshape(len(plan), accumulate, world_size, -1)[:, :, rank]
