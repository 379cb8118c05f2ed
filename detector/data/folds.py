"""Folds: each part of a small data set in turn is validated on, and all others are trained on.

The images of data.train and data.val are one data set then. I images.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detector.data.annotations import Annotations
from detector.data.coco import CocoIndex
from detector.data.defects import check_images
from detector.data.sampling import stratified
from detector.errors import InputError


def fold_part(
    train: CocoIndex, val: CocoIndex, *, count: int, fold: int, part: Literal["train", "val"]
) -> CocoIndex:
    """The images that a fold validates on ("val"), or all others ("train"), of both sets.

    fold: the folds 0 to count - 1 are of one partition, the next count of another, and so on; of
    each class every fold has the same share of images, to the nearest.

    Raises InputError where the two have other categories or an image in common, and where there are
    fewer images than folds.
    """
    index = _pooled(train, val)
    if len(index) < count:
        raise InputError(
            f"data.folds.count is {count}, and {train.annotations_file} and {val.annotations_file} "
            f"have {len(index)} images together; set fewer folds."
        )
    partition, own = divmod(fold, count)
    in_val = fold_numbers(index, count, seed=partition) == own
    return index.only(in_val if part == "val" else ~in_val)


def fold_numbers(index: CocoIndex, count: int, *, seed: int) -> NDArray[np.int64]:
    """The fold 0 to count - 1 of each image (I,)."""
    truths = [index.truth(row).labels.any(0) for row in range(len(index))]
    classes = [set(np.array(index.category_names)[labels.numpy()].tolist()) for labels in truths]
    numbers, left = np.zeros(len(index), np.int64), list(range(len(index)))
    for fold in range(count - 1, 0, -1):
        own = [classes[row] for row in left]
        rest, chosen = stratified(own, range(len(left)), 1 / (fold + 1), seed)
        numbers[[left[position] for position in chosen]] = fold
        left = [left[position] for position in rest]
    return numbers


def _pooled(train: CocoIndex, val: CocoIndex) -> CocoIndex:
    """Both together, with file names relative to the folder that holds both."""
    folder = Path(os.path.commonpath([train.images_dir.absolute(), val.images_dir.absolute()]))
    return CocoIndex.read(
        train.annotations_file,
        folder,
        invalid="skip",  # what is to be refused was so in either
        decoding=train.decoding,
        reader=partial(_read_both, train, val, folder),
    )


def _read_both(train: CocoIndex, val: CocoIndex, folder: Path, *_: Path) -> Annotations:
    """Ids of the second are raised where the first has some of them."""
    one, other = train.content(), val.content()
    if dict(_categories(one)) != dict(_categories(other)):
        raise InputError(
            f"data.folds: {train.annotations_file} and {val.annotations_file} have different "
            "categories; both need the same ids and names to be one data set."
        )
    names = [_file_names(index, of, folder) for index, of in ((train, one), (val, other))]
    if both := sorted(set(names[0]) & set(names[1])):
        raise InputError(
            f"data.folds: {folder / both[0]} is in {train.annotations_file} and in "
            f"{val.annotations_file}; of one image in two folds the one would be learned for the "
            "other: leave it out of one file."
        )
    images, boxes = _raise(one.image_ids, other.image_ids), _raise(one.ids, other.ids)
    joined = {
        "file_names": (np.array(names[0]), np.array(names[1])),
        "image_ids": (one.image_ids, other.image_ids + images),
        "owners": (one.owners, other.owners + images),
        "ids": (one.ids, other.ids + boxes),
        "label_offsets": (one.label_offsets, one.label_offsets[-1] + other.label_offsets[1:]),
        "category_ids": (one.category_ids,),
        "category_names": (one.category_names,),
    }
    both_of = {key: (value, vars(other)[key]) for key, value in vars(one).items()}
    return Annotations(**{key: np.concatenate(of) for key, of in (both_of | joined).items()})


def _categories(content: Annotations) -> zip[tuple[int, str]]:
    return zip(content.category_ids.tolist(), content.category_names.tolist(), strict=True)


def _file_names(index: CocoIndex, content: Annotations, folder: Path) -> list[str]:
    check_images(index.annotations_file, content)
    above = index.images_dir.absolute().relative_to(folder)
    return [(above / name).as_posix() for name in content.file_names.tolist()]


def _raise(ids: NDArray[np.int64], others: NDArray[np.int64]) -> int:
    """What to add to the others, so that all differ."""
    if not np.isin(ids, others).any():
        return 0
    return int(ids.max() - others.min() + 1)
