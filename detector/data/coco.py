"""The index of a data set in COCO format: which image holds which boxes with which labels.

I images, B boxes of all images together, K classes. Boxes turn from x y w h into x1 y1 x2 y2 here
and nowhere else; class k is the k-th category by ascending id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.data.annotations import Annotations, read_annotations
from detector.data.probe import REASONS, Fault, probe
from detector.errors import InputError

NAMED = 5  # ids that a sentence about many of a kind names
LEAST_SIDE = 1e-3  # pixels; the logarithm of a thinner box's side would rule the box loss


class Truth(NamedTuple):
    """What one image holds."""

    boxes: Tensor  # float32 (g, 4) x1 y1 x2 y2 in pixels of the image file
    labels: Tensor  # bool (g, K), multi-hot
    crowd: Tensor  # bool (g,)


class Defect(NamedTuple):
    """Images or annotations that cannot be used, all for one reason."""

    reason: str
    entries: int  # images or annotations
    sentence: str  # without its end


@dataclass(frozen=True, eq=False)
class CocoIndex:
    """Flat arrays, so that forked loader workers share them: there are no objects to count."""

    annotations_file: Path
    images_dir: Path
    image_ids: NDArray[np.int64]  # (I,)
    file_names: NDArray[np.str_]  # (I,) relative to images_dir
    sizes: NDArray[np.int32]  # (I, 2) height, width
    box_offsets: NDArray[
        np.int64
    ]  # (I + 1,) boxes of image i are [box_offsets[i]:box_offsets[i + 1]]
    boxes: NDArray[np.float32]  # (B, 4) x1 y1 x2 y2, clipped to the image
    annotation_ids: NDArray[np.int64]  # (B,)
    crowd: NDArray[np.bool_]  # (B,)
    label_offsets: NDArray[np.int64]  # (B + 1,)
    label_values: NDArray[np.int64]  # labels 0 .. K-1 of all boxes
    category_ids: NDArray[np.int64]  # (K,) ascending
    category_names: tuple[str, ...]  # K
    defects: tuple[Defect, ...]  # what was left out, empty unless invalid="skip"

    @classmethod
    def read(
        cls, annotations: Path, images: Path, *, invalid: Literal["refuse", "skip"] = "refuse"
    ) -> CocoIndex:
        """The index of the annotation file, whose file names are relative to the folder `images`.

        Unusable are: an image whose file is missing, unreadable or of another size; an annotation
        whose image id or category id is not in the file, or whose box is not finite, has no area or
        lies outside its image (partly outside: it is clipped). "refuse" raises an InputError for
        them, "skip" leaves them out and keeps the tally. Images without boxes are kept. A file of
        the wrong form, and a file name that leads out of the folder, is always an InputError.
        """
        found = read_annotations(annotations)
        _check_images(annotations, found)
        if not images.is_dir():
            raise InputError(
                f"{images}: there is no such folder of images; correct data.*.images, which goes "
                f"with {annotations}."
            )
        faults = probe(annotations, images, found.file_names.tolist(), found.sizes)
        boxes, usable, box_defects = _check_boxes(annotations, found)
        defects = (*_image_defects(annotations, found, faults), *box_defects)
        if defects and invalid == "refuse":
            raise InputError(_refusal(defects))
        present = np.ones(len(found.image_ids), np.bool_)
        present[list(faults)] = False
        if not present.any():
            raise InputError(f"{annotations}: not one of its images in {images} can be used.")
        return _assemble(annotations, images, found, boxes, present, usable, defects)

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def num_classes(self) -> int:
        """K"""
        return len(self.category_ids)

    @property
    def skipped(self) -> dict[str, int]:
        """How many images or annotations were left out, by reason."""
        return {defect.reason: defect.entries for defect in self.defects}

    def path(self, row: int) -> Path:
        """The file of the image in this row."""
        return self.images_dir / str(self.file_names[row])

    def size(self, row: int) -> tuple[int, int]:
        """Height and width of the image in this row, as annotated."""
        height, width = self.sizes[row].tolist()
        return height, width

    def truth(self, row: int) -> Truth:
        """Boxes and labels of the image in this row, in the annotation file's order."""
        first, last = self.box_offsets[row : row + 2]
        offsets = self.label_offsets[first : last + 1]
        labels = np.zeros((last - first, self.num_classes), np.bool_)
        labels[
            np.repeat(np.arange(last - first), np.diff(offsets)),
            self.label_values[offsets[0] : offsets[-1]],
        ] = True
        return Truth(
            torch.from_numpy(self.boxes[first:last].copy()),
            torch.from_numpy(labels),
            torch.from_numpy(self.crowd[first:last].copy()),
        )

    def only(self, chosen: NDArray[np.bool_]) -> CocoIndex:
        """The index of some of its images (I,), with their boxes; order and classes stay."""
        per_image, per_box = np.diff(self.box_offsets), np.diff(self.label_offsets)
        boxes = np.repeat(chosen, per_image)
        return replace(
            self,
            image_ids=self.image_ids[chosen],
            file_names=self.file_names[chosen],
            sizes=self.sizes[chosen],
            box_offsets=np.cumsum([0, *per_image[chosen]], dtype=np.int64),
            boxes=self.boxes[boxes],
            annotation_ids=self.annotation_ids[boxes],
            crowd=self.crowd[boxes],
            label_offsets=np.cumsum([0, *per_box[boxes]], dtype=np.int64),
            label_values=self.label_values[np.repeat(boxes, per_box)],
        )

    def multi_label_annotation(self) -> tuple[int, int] | None:
        """Image id and annotation id of the first box that has several labels."""
        several = np.flatnonzero(np.diff(self.label_offsets) > 1)
        if not len(several):
            return None
        row = np.searchsorted(self.box_offsets, several[0], side="right") - 1
        return int(self.image_ids[row]), int(self.annotation_ids[several[0]])


def _check_images(path: Path, found: Annotations) -> None:
    """Each needs a name and a size; no name may lead out of the folder of images, on any system."""
    height, width = found.sizes.T
    absent = {"file_name": found.file_names == "", "height": height == 0, "width": width == 0}
    for key, missing in absent.items():
        if missing.any():
            who = _who("image", found.image_ids[missing])
            raise InputError(f"{path}: {who}: there is no '{key}'; training needs one, add it.")
    for image_id, name in zip(found.image_ids, found.file_names.tolist(), strict=True):
        parts = name.replace("\\", "/").split("/")
        drive = name[1:2] == ":" and name[0].isalpha()
        if parts[0] == "" or ".." in parts or drive or "\0" in name:
            raise InputError(
                f"{path}: image {image_id} has file_name {name!r}, which leads out of the "
                "folder of images and is never followed; give a path inside that folder."
            )


def _lookup(ids: NDArray[np.int64], among: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """Where each id stands in `among` (any row if nowhere), and whether it does."""
    order = np.argsort(among)
    places = np.searchsorted(among, ids, sorter=order).clip(max=len(among) - 1)
    rows = order[places]
    return rows, among[rows] == ids


def _check_boxes(path: Path, found: Annotations) -> tuple[NDArray, NDArray, list[Defect]]:
    """Clipped boxes (B, 4) x1 y1 x2 y2, which are usable (B,), and what the others lack."""
    rows, image_known = _lookup(found.owners, found.image_ids)
    category_known = np.ones(len(found.ids), np.bool_)
    _, known = _lookup(found.label_ids, found.category_ids)
    category_known[found.label_rows[~known]] = False
    with np.errstate(over="ignore", invalid="ignore"):
        last = found.boxes[:, :2] + found.boxes[:, 2:]
        corners = np.hstack([found.boxes[:, :2], last]).astype(np.float32)
        clipped = np.clip(corners, 0, found.sizes[rows][:, [1, 0, 1, 0]]).astype(np.float32)
    tests = {
        "unknown image": image_known,
        "unknown category": category_known,
        "box not finite": np.isfinite(found.boxes).all(1) & np.isfinite(corners).all(1),
        "box without area": (found.boxes[:, 2:] > LEAST_SIDE).all(1),
        "box outside the image": (clipped[:, 2:] - clipped[:, :2] > LEAST_SIDE).all(1),
    }
    usable = np.ones(len(found.ids), np.bool_)
    defects = []
    for reason, passed in tests.items():
        failed = np.flatnonzero(usable & ~passed)  # each annotation counts once, under the first
        usable &= passed
        if len(failed):
            defects.append(_defect(path, found, reason, failed))
    return clipped, usable, defects


def _defect(path: Path, found: Annotations, reason: str, failed: NDArray) -> Defect:
    first = failed[0]
    labels = found.label_ids[found.label_offsets[first] : found.label_offsets[first + 1]]
    box = ", ".join(f"{side:g}" for side in found.boxes[first])
    details = {
        "unknown image": f"image_id {found.owners[first]} is not in 'images'",
        "unknown category": f"category {labels.tolist()} is not one of the "
        f"{len(found.category_ids)} in 'categories' ({_listed(found.category_ids)})",
    }
    detail = details.get(reason, f"[{box}] as x, y, width, height in image {found.owners[first]}")
    who = _who("annotation", found.ids[failed])
    return Defect(reason, len(failed), f"{path}: {who}: {reason}: {detail}; correct it")


def _image_defects(path: Path, found: Annotations, faults: dict[int, Fault]) -> Iterator[Defect]:
    for reason in REASONS:
        rows = [row for row, fault in faults.items() if fault.reason == reason]
        if rows:
            who = _who("image", found.image_ids[rows])
            yield Defect(reason, len(rows), f"{path}: {who}: {faults[rows[0]].sentence}")


def _refusal(defects: tuple[Defect, ...]) -> str:
    """The first defect in full, the other kinds by number."""
    sentence = f"{defects[0].sentence}, or set data.invalid to skip"
    others = [f"{defect.reason} ({defect.entries})" for defect in defects[1:]]
    if others:
        kinds = "kind" if len(others) == 1 else "kinds"
        sentence += f"; {len(others)} more {kinds} of defect: {', '.join(others)}"
    return f"{sentence}."


def _who(kind: str, ids: NDArray[np.int64]) -> str:
    """ "annotation 7", or "3 annotations (7, 8, 9), the first"."""
    return (
        f"{kind} {ids[0]}" if len(ids) == 1 else f"{len(ids)} {kind}s ({_listed(ids)}), the first"
    )


def _listed(ids: NDArray[np.int64]) -> str:
    return ", ".join(str(i) for i in ids[:NAMED]) + (", …" if len(ids) > NAMED else "")


def _assemble(
    path: Path,
    images: Path,
    found: Annotations,
    boxes: NDArray[np.float32],
    present: NDArray[np.bool_],
    usable: NDArray[np.bool_],
    defects: tuple[Defect, ...],
) -> CocoIndex:
    """The index of what is left, its boxes sorted by image."""
    rows, known = _lookup(found.owners, found.image_ids[present])
    kept = np.flatnonzero(usable & known)
    kept = kept[np.argsort(rows[kept], kind="stable")]
    per_image = np.bincount(rows[kept], minlength=int(present.sum()))
    per_box = np.diff(found.label_offsets)[kept]
    label_offsets = np.cumsum([0, *per_box], dtype=np.int64)
    shift = found.label_offsets[kept] - label_offsets[:-1]
    label_places = np.arange(label_offsets[-1]) + np.repeat(shift, per_box)
    labels, _ = _lookup(found.label_ids[label_places], found.category_ids)
    return CocoIndex(
        annotations_file=path,
        images_dir=images,
        image_ids=found.image_ids[present],
        file_names=found.file_names[present],
        sizes=found.sizes[present],
        box_offsets=np.cumsum([0, *per_image], dtype=np.int64),
        boxes=boxes[kept],
        annotation_ids=found.ids[kept],
        crowd=found.crowd[kept],
        label_offsets=label_offsets,
        label_values=labels,
        category_ids=found.category_ids,
        category_names=tuple(found.category_names.tolist()),
        defects=defects,
    )
