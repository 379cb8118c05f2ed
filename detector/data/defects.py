"""Unusable images and annotations of a data set, and the sentences that report them.

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

NAMED = 5  # ids that a sentence lists at most
LEAST_SIDE = 1e-3  # pixels; the logarithm of a thinner side would dominate the box loss


class Defect(NamedTuple):
    """Images or annotations that cannot be used, all for one reason."""

    reason: str
    ids: tuple[int, ...]  # of images or annotations
    sentence: str  # without the full stop


def check_images(path: Path, content: Annotations) -> None:
    """InputError if a file name is missing, or leads out of the folder on any operating system."""
    missing = content.file_names == ""
    if missing.any():
        who = _who("image", content.image_ids[missing])
        raise InputError(f"{path}: {who}: there is no 'file_name'; training needs one, add it.")
    for image_id, name in zip(content.image_ids, content.file_names.tolist(), strict=True):
        folders = name.replace("\\", "/").split("/")
        drive = name[1:2] == ":" and name[0].isalpha()
        if folders[0] == "" or ".." in folders or drive or "\0" in name:
            raise InputError(
                f"{path}: image {image_id} has file_name {name!r}, which leads out of the "
                "folder of images and is never followed; give a path inside that folder."
            )


def check_boxes(path: Path, content: Annotations) -> tuple[NDArray, NDArray, list[Defect]]:
    """Clipped boxes (B, 4) x1 y1 x2 y2, which of them are usable (B,), and the defects.

    Boxes of an image without a size are not clipped: its file cannot be read, so it is left out.
    """
    rows, image_known = lookup(content.owners, content.image_ids)
    category_known = np.ones(len(content.ids), np.bool_)
    _, known = lookup(content.label_ids, content.category_ids)
    category_known[content.label_rows[~known]] = False
    # sums may overflow, and a box without numbers is NaN; the tests below refuse both
    with np.errstate(over="ignore", invalid="ignore"):
        last = content.boxes[:, :2] + content.boxes[:, 2:]
        corners = np.hstack([content.boxes[:, :2], last]).astype(np.float32)
        limits = np.where(content.sizes > 0, content.sizes, np.inf)[rows][:, [1, 0, 1, 0]]
        clipped = np.clip(corners, 0, limits).astype(np.float32)
    tests = {
        "unknown image": image_known,
        "unknown category": category_known,
        "no box": ~np.isnan(content.boxes).all(1),
        "box not finite": np.isfinite(content.boxes).all(1) & np.isfinite(corners).all(1),
        "box without area": (content.boxes[:, 2:] > LEAST_SIDE).all(1),
        "box outside the image": (clipped[:, 2:] - clipped[:, :2] > LEAST_SIDE).all(1),
    }
    usable = np.ones(len(content.ids), np.bool_)
    defects = []
    for reason, passed in tests.items():
        failed = np.flatnonzero(
            usable & ~passed
        )  # each annotation counts once, for its first defect
        usable &= passed
        if len(failed):
            defects.append(_defect(path, content, reason, failed))
    return clipped, usable, defects


def _defect(path: Path, content: Annotations, reason: str, failed: NDArray) -> Defect:
    first = failed[0]
    labels = content.label_ids[content.label_offsets[first] : content.label_offsets[first + 1]]
    box = ", ".join(f"{side:g}" for side in content.boxes[first])
    details = {
        "unknown image": f"image_id {content.owners[first]} is not in 'images'",
        "unknown category": f"category {labels.tolist()} is not one of the "
        f"{len(content.category_ids)} in 'categories' ({_listed(content.category_ids)})",
        "no box": f"its bbox in image {content.owners[first]} is null or empty",
    }
    detail = details.get(reason, f"[{box}] as x, y, width, height in image {content.owners[first]}")
    who = _who("annotation", content.ids[failed])
    ids = tuple(content.ids[failed].tolist())
    return Defect(reason, ids, f"{path}: {who}: {reason}: {detail}; correct it")


def image_defects(
    path: Path, content: Annotations, faults: dict[int, ImageFault]
) -> Iterator[Defect]:
    """One defect for each reason among the faults, which are given by image row."""
    for reason in REASONS:
        rows = [row for row, fault in faults.items() if fault.reason == reason]
        if rows:
            ids = content.image_ids[rows]
            sentence = f"{path}: {_who('image', ids)}: {faults[rows[0]].sentence}"
            yield Defect(reason, tuple(ids.tolist()), sentence)


def refusal(defects: tuple[Defect, ...]) -> str:
    """A sentence: the first defect in full, then the counts of the others."""
    sentence = f"{defects[0].sentence}, or set data.invalid to skip"
    others = [f"{defect.reason} ({len(defect.ids)})" for defect in defects[1:]]
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
