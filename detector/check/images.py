"""What is wrong with image files: damaged, turned by their EXIF data, or there more than once.

I images of a split, D bits of a hash.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.check.findings import Case
from detector.check.split import Split
from detector.data.images import Header, read_header, read_image
from detector.errors import InputError

THUMBNAIL = (16, 17)  # height, width: 16 x 16 differences of neighbours
FLAT = 4  # levels: a smaller difference of neighbours is noise, which would make random bits
# 70 images saved anew at JPEG quality 50 or at half the size differed in at most 21 of 256 bits and
# by 4 levels; pairs of 150 other images of BCCD in 71 bits and by 9 levels, or more.
NEAR_BITS, NEAR_LEVELS = 24, 8
CHUNK = 256  # images whose hashes are compared with all others at a time: 120 MB for COCO


@dataclass(frozen=True)
class Look:
    """What one image file is like."""

    fault: str = ""  # why it cannot be read to its end
    digest: bytes = b""  # of the file
    header: Header | None = None  # None with a fault
    thumbnail: Tensor = torch.zeros(THUMBNAIL)  # float32, grey levels


def look_at_images(split: Split) -> list[Look]:
    """Read every usable image to its end; I looks. In threads, with a progress bar."""
    from tqdm import tqdm

    rows = range(len(split.index))
    with ThreadPoolExecutor() as pool:  # decoders let other threads run
        looks = pool.map(partial(_look, split), rows)
        # disable=None: no bar where there is no terminal
        return list(tqdm(looks, total=len(rows), desc=split.name, unit="image", disable=None))


def _look(split: Split, row: int) -> Look:
    index = split.index
    path = index.path(row)
    try:
        image = read_image(path, index.size(row), index.decoding)
        header = read_header(path, index.decoding)
    except InputError as error:
        return Look(fault=str(error))
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    grey = F.adaptive_avg_pool2d(image.float().mean(dim=0, keepdim=True), THUMBNAIL)[0]
    return Look(digest=digest, header=header, thumbnail=grey)


def image_cases(splits: Sequence[Split], looks: Sequence[Sequence[Look]]) -> Iterator[Case]:
    """Cases of the splits' images; `looks` are those of each split."""
    for split, of_split in zip(splits, looks, strict=True):
        yield from _file_cases(split, of_split)
        yield from _twins(split, of_split)
    yield from _shared_files(splits, looks)
    yield from _near_duplicates(splits, looks)


def _file_cases(split: Split, looks: Sequence[Look]) -> Iterator[Case]:
    with_boxes = set(split.content.owners.tolist())
    for row, (image_id, look) in enumerate(zip(split.index.image_ids.tolist(), looks, strict=True)):
        if look.fault:
            yield "image_unreadable", split.of_image(image_id, look.fault)
        if look.header is not None and look.header.orientation != 1:
            annotated = "turned" if look.header.turned == split.index.size(row) else "stored"
            detail = f"EXIF orientation {look.header.orientation}, annotated as {annotated}"
            yield "image_rotated", split.of_image(image_id, detail)
        if image_id not in with_boxes:
            yield "image_without_boxes", split.of_image(image_id)


def _by_content(split: Split, looks: Sequence[Look]) -> dict[bytes, list[int]]:
    """Image ids by the content of their files."""
    ids = defaultdict(list)
    for image_id, look in zip(split.index.image_ids.tolist(), looks, strict=True):
        if look.digest:
            ids[look.digest].append(image_id)
    return ids


def _twins(split: Split, looks: Sequence[Look]) -> Iterator[Case]:
    """Each file with the first one of its content; a file that two images name is one of these."""
    for first, *others in _by_content(split, looks).values():
        for image_id in others:
            detail = f"as image {first}, {split.of_image(first).file_name}"
            yield "image_duplicate", split.of_image(image_id, detail)


def _shared_files(splits: Sequence[Split], looks: Sequence[Sequence[Look]]) -> Iterator[Case]:
    if len(splits) < 2:
        return
    train, val = (_by_content(*pair) for pair in zip(splits, looks, strict=True))
    for digest in (one for one in val if one in train):
        first = splits[0].of_image(train[digest][0])
        for image_id in val[digest]:
            detail = f"as image {first.image_id} of train, {first.file_name}"
            yield "image_in_both_splits", splits[1].of_image(image_id, detail)


def _near_duplicates(splits: Sequence[Split], looks: Sequence[Sequence[Look]]) -> Iterator[Case]:
    """Pairs of other files with nearly the same thumbnail, each image with the first such one."""
    owners = [
        (split, image_id, look)
        for split, of_split in zip(splits, looks, strict=True)
        for image_id, look in zip(split.index.image_ids.tolist(), of_split, strict=True)
        if not look.fault
    ]
    seen = set()
    for first, later in near_pairs([look.thumbnail for *_, look in owners]):
        (one, one_id, look), (other, other_id, again) = owners[first], owners[later]
        if look.digest == again.digest or later in seen:
            continue
        seen.add(later)
        kind = "image_near_duplicate" + ("" if one is other else "_across_splits")
        detail = f"as image {one_id} of {one.name}, {one.of_image(one_id).file_name}"
        yield kind, other.of_image(other_id, detail)


def near_pairs(thumbnails: Sequence[Tensor]) -> Iterator[tuple[int, int]]:
    """Pairs i < j of thumbnails (16, 17) that look the same, by j and i.

    By a difference hash: whether a pixel is brighter than its left neighbour, 256 bits; and by the
    mean difference of the thumbnails, as images without any edges have equal hashes.
    """
    if not thumbnails:
        return
    stacked = torch.stack(list(thumbnails))
    grey, steps = stacked.flatten(1), stacked.diff(dim=2).flatten(1)
    signs = torch.where(steps > FLAT, 1.0, -1.0)  # (I, 256); a product of two is D - 2 * distance
    for start in range(0, len(grey), CHUNK):
        product = signs[start : start + CHUNK] @ signs[: start + CHUNK].T
        later, first = (product >= signs.shape[1] - 2 * NEAR_BITS).nonzero().unbind(1)
        for j, i in zip((later + start).tolist(), first.tolist(), strict=True):
            if i < j and float((grey[i] - grey[j]).abs().mean()) <= NEAR_LEVELS:
                yield i, j
