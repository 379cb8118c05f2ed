"""A part of the training images, set aside to choose among settings on."""

from __future__ import annotations

from typing import Literal

import numpy as np

from detector.data.coco import CocoIndex
from detector.data.sampling import stable_hash
from detector.errors import InputError

RANGE = 2**62  # of stable_hash


def tuning_part(index: CocoIndex, share: float, part: Literal["train", "val"]) -> CocoIndex:
    """Of a training set the images that tuning validates on ("val"), or all others ("train").

    An image's id alone decides, so that every run has the same part, and that of a larger share
    holds that of a smaller. InputError where no image is left.
    """
    numbers = [stable_hash(int(i), purpose="tuning") for i in index.image_ids]
    aside = np.array(numbers, np.int64) < share * RANGE
    chosen = aside if part == "val" else ~aside
    if not chosen.any():
        raise InputError(
            f"data.tuning is {share:g}: of the {len(index)} images of {index.annotations_file} "
            f"none is left to {'validate' if part == 'val' else 'train'} on; set another share."
        )
    return index.only(chosen)
