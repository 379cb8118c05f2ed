"""The index of a data set in COCO format: images, their boxes, and the labels of these.

I images, B boxes of all images together, K classes. Class k is the k-th category by ascending id.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.data.annotations import Annotations, Reader, lookup, read_coco
from detector.data.defects import Defect, check_boxes, check_images, image_defects, refusal
from detector.data.images import DEFAULT, Decoding
from detector.data.probe import names_on_disk, probe
from detector.errors import InputError


class GroundTruth(NamedTuple):
    """The boxes of one image."""

    boxes: Tensor  # float32 (g, 4) x1 y1 x2 y2 in pixels of the image file
    labels: Tensor  # bool (g, K), multi-hot
    crowd: Tensor  # bool (g,)


@dataclass(frozen=True, eq=False)
class CocoIndex:
    """Flat arrays, which forked loader workers share.

    Lists of objects would be copied bit by bit: every access changes an object's reference count.
    """

    annotations_file: Path
    images_dir: Path
    image_ids: NDArray[np.int64]  # (I,)
    file_names: NDArray[np.str_]  # (I,) relative to images_dir, spelled as there
    sizes: NDArray[np.int32]  # (I, 2) height, width; the image file's where none are annotated
    box_offsets: NDArray[
        np.int64
    ]  # (I + 1,) boxes of image i are [box_offsets[i]:box_offsets[i + 1]]
    boxes: NDArray[np.float32]  # (B, 4) x1 y1 x2 y2, clipped to the image
    annotation_ids: NDArray[np.int64]  # (B,)
    area_replaced: NDArray[np.bool_]  # (B,) whether width * height replaces one not above 0
    crowd: NDArray[np.bool_]  # (B,)
    label_offsets: NDArray[np.int64]  # (B + 1,)
    label_values: NDArray[np.int64]  # labels 0 .. K-1 of all boxes
    category_ids: NDArray[np.int64]  # (K,) ascending
    category_names: tuple[str, ...]  # K
    defects: tuple[Defect, ...] = ()  # of what was left out; empty unless invalid="skip"
    decoding: Decoding = DEFAULT  # how to read the images
    reader: Reader = read_coco  # how to read the annotation file

    @classmethod
    def read(
        cls,
        annotations: Path,
        images: Path,
        *,
        invalid: Literal["refuse", "skip"] = "refuse",
        decoding: Decoding = DEFAULT,
        reader: Reader = read_coco,
    ) -> CocoIndex:
        """The index of an annotation file, whose file names are relative to the folder `images`.

        Unusable are images whose file is missing, unreadable or of another size, and annotations
        whose image id or category id is not in the file, or whose box is missing, not finite,
        without area or outside its image (if only partly outside, it is clipped). "refuse" raises
        InputError for them; "skip" leaves them out and counts them in `defects`. Images without
        boxes are kept. A file of the wrong form, and a file name that leads out of the folder,
        always raise InputError.
        """
        content = reader(annotations, images)
        check_images(annotations, content)
        if not images.is_dir():
            raise InputError(
                f"{images}: there is no such folder of images; correct data.*.images, which goes "
                f"with {annotations}."
            )
        names = names_on_disk(images, content.file_names.tolist())
        sizes, faults = probe(annotations, images, names, content.sizes, decoding)
        content = replace(content, file_names=np.array(names), sizes=sizes)
        boxes, usable, box_defects = check_boxes(annotations, content)
        defects = (*image_defects(annotations, content, faults), *box_defects)
        if defects and invalid == "refuse":
            raise InputError(refusal(defects))
        present = np.ones(len(content.image_ids), np.bool_)
        present[list(faults)] = False
        if not present.any():
            raise InputError(f"{annotations}: not one of its images in {images} can be used.")
        index = _assemble(annotations, images, content, boxes, usable).only(present)
        return replace(index, defects=defects, decoding=decoding, reader=reader)

    def content(self) -> Annotations:
        """What the annotation file holds, also of images and boxes that are left out; read anew."""
        return self.reader(self.annotations_file, self.images_dir)

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def num_classes(self) -> int:
        """K"""
        return len(self.category_ids)

    @property
    def boxes_per_class(self) -> NDArray[np.int64]:
        """(K,) how many boxes have each label; crowds are not counted."""
        crowd = np.repeat(self.crowd, np.diff(self.label_offsets))
        return np.bincount(self.label_values[~crowd], minlength=self.num_classes)

    @property
    def skipped(self) -> dict[str, int]:
        """How many images or annotations were left out, by reason."""
        return {defect.reason: len(defect.ids) for defect in self.defects}

    def path(self, row: int) -> Path:
        """The file of image `row`."""
        return self.images_dir / str(self.file_names[row])

    def size(self, row: int) -> tuple[int, int]:
        """Height and width of image `row`, as annotated."""
        height, width = self.sizes[row].tolist()
        return height, width

    def truth(self, row: int) -> GroundTruth:
        """The boxes of image `row`, in the order of the annotation file."""
        first, last = self.box_offsets[row : row + 2]
        offsets = self.label_offsets[first : last + 1]
        labels = np.zeros((last - first, self.num_classes), np.bool_)
        labels[
            np.repeat(np.arange(last - first), np.diff(offsets)),
            self.label_values[offsets[0] : offsets[-1]],
        ] = True
        # copies: a transform that wrote to a view would change the index for the whole run
        return GroundTruth(
            torch.from_numpy(self.boxes[first:last].copy()),
            torch.from_numpy(labels),
            torch.from_numpy(self.crowd[first:last].copy()),
        )

    def only(self, chosen: NDArray[np.bool_]) -> CocoIndex:
        """The index of the chosen images (I,) and their boxes, with the same order and classes."""
        per_image, per_box = np.diff(self.box_offsets), np.diff(self.label_offsets)
        boxes = np.repeat(chosen, per_image)
        return replace(
            self,
            image_ids=self.image_ids[chosen],
            file_names=self.file_names[chosen],
            sizes=self.sizes[chosen],
            box_offsets=_offsets(per_image[chosen]),
            boxes=self.boxes[boxes],
            annotation_ids=self.annotation_ids[boxes],
            area_replaced=self.area_replaced[boxes],
            crowd=self.crowd[boxes],
            label_offsets=_offsets(per_box[boxes]),
            label_values=self.label_values[np.repeat(boxes, per_box)],
        )

    def multi_label_annotation(self) -> tuple[int, int] | None:
        """Image id and annotation id of the first box with several labels, if there is one."""
        several = np.flatnonzero(np.diff(self.label_offsets) > 1)
        if not len(several):
            return None
        row = np.searchsorted(self.box_offsets, several[0], side="right") - 1
        return int(self.image_ids[row]), int(self.annotation_ids[several[0]])


def _assemble(
    path: Path,
    images: Path,
    content: Annotations,
    boxes: NDArray[np.float32],
    usable: NDArray[np.bool_],
) -> CocoIndex:
    """The index of all images and the usable boxes, with the boxes sorted by image."""
    rows, _ = lookup(content.owners, content.image_ids)
    kept = np.flatnonzero(usable)
    # stable: the boxes of an image stay in file order
    kept = kept[np.argsort(rows[kept], kind="stable")]
    per_box = np.diff(content.label_offsets)[kept]
    label_offsets = _offsets(per_box)
    shift = content.label_offsets[kept] - label_offsets[:-1]
    label_positions = np.arange(label_offsets[-1]) + np.repeat(shift, per_box)
    labels, _ = lookup(content.label_ids[label_positions], content.category_ids)
    return CocoIndex(
        annotations_file=path,
        images_dir=images,
        image_ids=content.image_ids,
        file_names=content.file_names,
        sizes=content.sizes,
        box_offsets=_offsets(np.bincount(rows[kept], minlength=len(content.image_ids))),
        boxes=boxes[kept],
        annotation_ids=content.ids[kept],
        area_replaced=content.area_replaced[kept],
        crowd=content.crowd[kept],
        label_offsets=label_offsets,
        label_values=labels,
        category_ids=content.category_ids,
        category_names=tuple(content.category_names.tolist()),
    )


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the items of each row begin among those of all rows; and the end."""
    return np.cumsum(np.concatenate([[0], counts]), dtype=np.int64)
