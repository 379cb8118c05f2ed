"""A split of the training images, on which settings are chosen without the validation set."""

from __future__ import annotations

from typing import Literal

import numpy as np

from detector.data.coco import CocoIndex
from detector.data.sampling import stable_hash
from detector.errors import InputError

RANGE = 2**62  # values of stable_hash


def tuning_part(index: CocoIndex, share: float, part: Literal["train", "val"]) -> CocoIndex:
    """The images of a training set that tuning validates on ("val"), or all others ("train").

    Only an image's id decides, so the split is the same in every run, and the validation images of
    a larger share include those of a smaller one. Raises InputError if no image is left.
    """
    hashes = [stable_hash(int(i), purpose="tuning") for i in index.image_ids]
    in_val = np.array(hashes, np.int64) < share * RANGE
    chosen = in_val if part == "val" else ~in_val
    if not chosen.any():
        raise InputError(
            f"data.tuning is {share:g}: of the {len(index)} images of {index.annotations_file} "
            f"none is left to {'validate' if part == 'val' else 'train'} on; set another share."
        )
    return index.only(chosen)
