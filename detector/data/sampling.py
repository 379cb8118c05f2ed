"""The images of each batch, those that tuning validates on, and the random numbers of each sample.

I images of the data set, B images of a global batch (over all ranks and micro-batches).
"""

from __future__ import annotations

import hashlib
import math
import random
import struct
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from detector.data.coco import CocoIndex
from detector.errors import InputError

EMPTY = ""  # stands for the class of images without objects
HASH_BITS = 62  # few enough for the signed int64 of torch and numpy


def stable_hash(*numbers: int, purpose: str) -> int:
    """A hash of 62 bits, the same on every machine and in every process."""
    packed = struct.pack(f"<{len(numbers)}q", *numbers)
    digest = hashlib.blake2b(packed, digest_size=8, person=purpose.encode()).digest()
    return int.from_bytes(digest, "little") >> (64 - HASH_BITS)


def seeded(*numbers: int, purpose: str) -> torch.Generator:
    """A CPU generator whose state depends only on these numbers and the purpose."""
    return torch.Generator().manual_seed(stable_hash(*numbers, purpose=purpose))


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Global batches of an epoch; images left over are not used in it.

    Raises InputError if there are too few images for a single batch.
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
    """Rows (steps, B) of the data set, from sizes (I, 2) height, width; no row occurs twice.

    Grouped by aspect, at most one batch mixes wide images with others, so that batches need little
    padding. Grouping omits no image.
    """
    steps = steps_per_epoch(len(sizes), batch_size)
    generator = seeded(seed, epoch, purpose="order")
    order = torch.randperm(len(sizes), generator=generator).numpy()
    order = order[
        : steps * batch_size
    ]  # before grouping, or the same group would always lose images
    if group_by_aspect:
        wide = sizes[order, 1] > sizes[order, 0]
        order = np.concatenate([order[wide], order[~wide]])
    plan = order.reshape(steps, batch_size)
    # shuffled again: otherwise all batches of wide images would come first
    return plan[torch.randperm(steps, generator=generator).numpy()]


def split_plan(
    plan: NDArray[np.int64], *, accumulate: int, rank: int, world_size: int
) -> NDArray[np.int64]:
    """The plan (steps, B) of all ranks -> (steps, accumulate, micro-batch) of one rank.

    Micro-batch m of rank r is slice m * world_size + r, so every division of the work has the same
    images in the same steps. Raises InputError if B is not a multiple of accumulate * world_size.
    """
    batch_size = plan.shape[1]
    if batch_size % (accumulate * world_size):
        raise InputError(
            f"A batch of {batch_size} images cannot be divided evenly among {world_size} processes "
            f"with {accumulate} micro-batches each: choose a train.batch_size that is a multiple "
            f"of {accumulate * world_size}."
        )
    return plan.reshape(len(plan), accumulate, world_size, -1)[:, :, rank]


def tuning_part(index: CocoIndex, share: float, part: Literal["train", "val"]) -> CocoIndex:
    """The images of a training set that tuning validates on ("val"), or all others ("train").

    Only an image's id decides, so the split is the same in every run, and the validation images of
    a larger share include those of a smaller one. Raises InputError if no image is left.
    """
    hashes = [stable_hash(int(i), purpose="tuning") for i in index.image_ids]
    in_val = np.array(hashes, np.int64) < share * 2**HASH_BITS
    chosen = in_val if part == "val" else ~in_val
    if not chosen.any():
        raise InputError(
            f"data.tuning is {share:g}: of the {len(index)} images of {index.annotations_file} "
            f"none is left to {'validate' if part == 'val' else 'train'} on; set another share."
        )
    return index.only(chosen)


def stratified(
    classes: Sequence[set[str]], groups: Sequence[int], share: float, seed: int
) -> tuple[list[int], list[int]]:
    """Indices of N images for train and for val, `share` of each class in val.

    classes: of the boxes of each image; groups: images of one number stay together (N each).
    Iterative stratification (Sechidis et al. 2011) in two parts: the rarest class first, each of
    its groups to the part that lacks most of that class.
    """
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    left = list(members.values())
    random.Random(seed).shuffle(left)
    counts = [Counter(name for i in group for name in classes[i] or {EMPTY}) for group in left]
    total = sum(counts, Counter())
    lacking = [
        Counter({name: n * part for name, n in total.items()}) for part in (1 - share, share)
    ]
    rest = [len(classes) * (1 - share), len(classes) * share]
    parts: tuple[list[int], list[int]] = ([], [])
    for name in sorted(total, key=lambda name: (total[name], name)):
        waiting = [index for index, count in enumerate(counts) if left[index] and name in count]
        for index in waiting:
            part = _part(lacking[0][name], lacking[1][name], rest)
            parts[part].extend(left[index])
            rest[part] -= len(left[index])
            lacking[part].subtract(counts[index])
            left[index] = []
    return sorted(parts[0]), sorted(parts[1])


def _part(train: float, val: float, rest: Sequence[float]) -> int:
    """The part that lacks more of a class; where both lack the same, the one that is emptier."""
    if not math.isclose(train, val):
        return int(val > train)
    return int(rest[1] > rest[0])
