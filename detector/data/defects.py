"""What of a data set cannot be used for training, and in which words that is said.

I images, B boxes of all images together.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.data.annotations import Annotations, lookup
from detector.data.probe import REASONS, ImageFault
from detector.errors import InputError

NAMED = 5  # ids that a sentence about many of a kind names
LEAST_SIDE = 1e-3  # pixels; the logarithm of a thinner box's side would rule the box loss


class Defect(NamedTuple):
    """Images or annotations that cannot be used, all for one reason."""

    reason: str
    entries: int  # images or annotations
    sentence: str  # without its end


def check_images(path: Path, found: Annotations) -> None:
    """Each needs a name; none may lead out of the folder of images, on any system."""
    missing = found.file_names == ""
    if missing.any():
        who = _who("image", found.image_ids[missing])
        raise InputError(f"{path}: {who}: there is no 'file_name'; training needs one, add it.")
    for image_id, name in zip(found.image_ids, found.file_names.tolist(), strict=True):
        parts = name.replace("\\", "/").split("/")
        drive = name[1:2] == ":" and name[0].isalpha()
        if parts[0] == "" or ".." in parts or drive or "\0" in name:
            raise InputError(
                f"{path}: image {image_id} has file_name {name!r}, which leads out of the "
                "folder of images and is never followed; give a path inside that folder."
            )


def check_boxes(path: Path, found: Annotations) -> tuple[NDArray, NDArray, list[Defect]]:
    """Clipped boxes (B, 4) x1 y1 x2 y2, which are usable (B,), and what the others lack.

    Boxes of an image without a size, which has no readable file, are left unclipped.
    """
    rows, image_known = lookup(found.owners, found.image_ids)
    category_known = np.ones(len(found.ids), np.bool_)
    _, known = lookup(found.label_ids, found.category_ids)
    category_known[found.label_rows[~known]] = False
    with np.errstate(over="ignore", invalid="ignore"):
        last = found.boxes[:, :2] + found.boxes[:, 2:]
        corners = np.hstack([found.boxes[:, :2], last]).astype(np.float32)
        limits = np.where(found.sizes > 0, found.sizes, np.inf)[rows][:, [1, 0, 1, 0]]
        clipped = np.clip(corners, 0, limits).astype(np.float32)
    tests = {
        "unknown image": image_known,
        "unknown category": category_known,
        "no box": ~np.isnan(found.boxes).all(1),
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
        "no box": f"its bbox in image {found.owners[first]} is null or empty",
    }
    detail = details.get(reason, f"[{box}] as x, y, width, height in image {found.owners[first]}")
    who = _who("annotation", found.ids[failed])
    return Defect(reason, len(failed), f"{path}: {who}: {reason}: {detail}; correct it")


def image_defects(
    path: Path, found: Annotations, faults: dict[int, ImageFault]
) -> Iterator[Defect]:
    for reason in REASONS:
        rows = [row for row, fault in faults.items() if fault.reason == reason]
        if rows:
            who = _who("image", found.image_ids[rows])
            yield Defect(reason, len(rows), f"{path}: {who}: {faults[rows[0]].sentence}")


def refusal(defects: tuple[Defect, ...]) -> str:
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
