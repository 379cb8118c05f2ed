"""A split of a data set: what its annotation file holds, and what of it can be used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from detector import build
from detector.check.findings import Example
from detector.config import Config
from detector.data.annotations import Annotations
from detector.data.coco import CocoIndex


@dataclass(frozen=True)
class Split:
    """The images of data.train or data.val."""

    name: str  # train or val
    index: CocoIndex  # what can be used; its defects are what cannot
    content: Annotations  # all that the annotation file holds

    @cached_property
    def image_rows(self) -> dict[int, int]:
        """Image id -> its row of `content`."""
        return {image: row for row, image in enumerate(self.content.image_ids.tolist())}

    @cached_property
    def annotation_rows(self) -> dict[int, int]:
        """Annotation id -> its row of `content`."""
        return {annotation: row for row, annotation in enumerate(self.content.ids.tolist())}

    @cached_property
    def class_names(self) -> dict[int, str]:
        """Category id -> name."""
        names = self.content.category_names.tolist()
        return dict(zip(self.content.category_ids.tolist(), names, strict=True))

    def of_image(self, image_id: int, detail: str = "") -> Example:
        """A case of one image."""
        name = str(self.content.file_names[self.image_rows[image_id]])
        return Example(detail, self.name, image_id, name)

    def of_boxes(self, *annotations: int) -> Example:
        """A case of one or more boxes of one image."""
        image_id = int(self.content.owners[self.annotation_rows[annotations[0]]])
        row = self.image_rows.get(image_id)
        name = "" if row is None else str(self.content.file_names[row])
        detail = "; ".join(self.described(annotation) for annotation in annotations)
        return Example(detail, self.name, image_id, name, annotations)

    def described(self, annotation: int) -> str:
        """Class, x, y, width and height of a box, in words."""
        row = self.annotation_rows[annotation]
        box = ", ".join(f"{side:g}" for side in self.content.boxes[row])
        return f"{self.label(annotation)} [{box}]"

    def label(self, annotation: int) -> str:
        """The names of a box's classes; the id of one that is not listed."""
        row = self.annotation_rows[annotation]
        first, last = self.content.label_offsets[row : row + 2]
        ids = self.content.label_ids[first:last].tolist()
        return ", ".join(self.class_names.get(category, f"category {category}") for category in ids)


def read_splits(config: Config) -> list[Split]:
    """data.train and, where it is named, data.val; with data.tuning the whole of data.train.

    Raises InputError for a file that cannot be read or is not of its form.
    """
    data = config.data
    config = config.model_copy(update={"data": data.model_copy(update={"invalid": "skip"})})
    unnamed = data.val.annotations is None and data.val.images is None
    names: list[Literal["train", "val"]] = ["train"]
    if data.tuning is None and not unnamed:
        names.append("val")
    splits = []
    for name in names:
        index = build.source_index(config, name)
        splits.append(Split(name, index, index.content()))
    return splits


def box_rows(index: CocoIndex) -> np.ndarray:
    """int64 (B,): the row of each box's image."""
    return np.repeat(np.arange(len(index)), np.diff(index.box_offsets))
