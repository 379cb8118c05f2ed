"""Checking all image files before training.

Files that passed are cached with their length in bytes and the time of their last change, so that a
second start opens only new, changed and failed files.
"""

from __future__ import annotations

import hashlib
import os
import stat
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache as remembering
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from detector.data.cache import Cache
from detector.data.images import (
    DEFAULT,
    Decoding,
    SizeDiffers,
    read_header,
    read_image,
    seems_whole,
)
from detector.errors import InputError

CACHE_VERSION = 2  # raise it whenever Stamp changes, or which files pass
CHUNK = 64  # files of a task: to start a task takes as long as to open a file

Item = TypeVar("Item")
Result = TypeVar("Result")
Size = tuple[int, int]  # height, width


class ImageFault(NamedTuple):
    """Why the file of one image cannot be used."""

    reason: str  # one of REASONS
    sentence: str  # names the file and says what to do; no full stop


REASONS = ("missing image", "unreadable image", "size differs")


class Stamp(NamedTuple):
    """Identifies the state in which a file passed; in any other state it is checked again."""

    name: str
    height: int  # as annotated
    width: int
    length: int  # bytes, -1 where there is no regular file
    changed: int  # nanoseconds


def probe(
    annotations: Path,
    images: Path,
    names: Sequence[str],
    sizes: NDArray[np.int32],
    decoding: Decoding = DEFAULT,
) -> tuple[NDArray[np.int32], dict[int, ImageFault]]:
    """Sizes (I, 2) and the faults, by row, of the files `names` in the folder `images`.

    Zeros of the annotated `sizes` (I, 2) are replaced by the size of the file, turned as EXIF says;
    they stay 0 for a file that cannot be read. A file has a fault if it is missing, if `read_image`
    refuses it, or if its height and width are others. Damage in the middle of a JPEG or PNG file is
    not detected. The cache lies beside the file `annotations`; each folder of images and each
    `decoding` has its own.
    """
    cache = _cache(annotations, images, decoding)
    passed = _remembered(cache)
    stamps = _in_threads(partial(_stamp, images), list(zip(names, sizes.tolist(), strict=True)))
    unsized = np.flatnonzero((sizes == 0).any(1)).tolist()
    if unsized:
        known = {(stamp.name, *stamp[3:]): (stamp.height, stamp.width) for stamp in passed}
        sized = _in_threads(
            partial(_sized, images, decoding, known), [stamps[row] for row in unsized]
        )
        sizes = sizes.copy()
        for row, stamp in zip(unsized, sized, strict=True):
            stamps[row], sizes[row] = stamp, (stamp.height, stamp.width)
    unknown = [row for row, stamp in enumerate(stamps) if stamp not in passed]
    results = _in_threads(partial(_fault, images, decoding), [stamps[row] for row in unknown])
    faults = {row: fault for row, fault in zip(unknown, results, strict=True) if fault is not None}
    if len(faults) < len(unknown):  # some files passed for the first time
        _remember(cache, [stamp for row, stamp in enumerate(stamps) if row not in faults])
    return sizes, faults


def _in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The result of each item, in order; threads, because network file systems make one wait."""
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda chunk: [function(item) for item in chunk], chunks)
        return [result for chunk in results for result in chunk]


def _stamp(images: Path, image: tuple[str, Sequence[int]]) -> Stamp:
    name, (height, width) = image
    try:
        status = os.stat(images / name)
    except (OSError, ValueError):  # ValueError: a name that no file system can have
        return Stamp(name, height, width, -1, -1)
    length = status.st_size if stat.S_ISREG(status.st_mode) else -1
    return Stamp(name, height, width, length, status.st_mtime_ns)


def _sized(images: Path, decoding: Decoding, known: Mapping[Any, Size], stamp: Stamp) -> Stamp:
    """The stamp with the height and width of the file where none are annotated."""
    if stamp.length < 0:
        return stamp
    try:
        path = images / stamp.name
        height, width = known.get((stamp.name, *stamp[3:])) or read_header(path, decoding).turned
    except InputError:
        return stamp
    return stamp._replace(height=stamp.height or height, width=stamp.width or width)


def _fault(images: Path, decoding: Decoding, stamp: Stamp) -> ImageFault | None:
    path, size = images / stamp.name, (stamp.height, stamp.width)
    if stamp.length < 0 and os.path.exists(path):
        sentence = f"{path} is a folder, a pipe or a device; put an image file there"
        return ImageFault("unreadable image", sentence)
    if stamp.length < 0:
        return ImageFault(
            "missing image", f"file {stamp.name!r} is not in {images}; bring it or correct its name"
        )
    if seems_whole(path, size, decoding):
        return None
    try:
        read_image(path, size, decoding)
    except SizeDiffers as error:
        return ImageFault("size differs", str(error).removesuffix("."))
    except InputError as error:
        return ImageFault("unreadable image", str(error).removesuffix("."))
    return None


def _cache(annotations: Path, images: Path, decoding: Decoding) -> Cache:
    """The cache of these three; no two folders of images or annotation files share one."""
    paths = [os.fsencode(path.resolve()) for path in (annotations, images)]
    digest = hashlib.sha256(b"\0".join([*paths, repr(decoding).encode()])).hexdigest()
    return Cache.beside(annotations, f"images-{digest[:8]}", f"{CACHE_VERSION}-{digest}")


def _remembered(cache: Cache) -> set[Stamp]:
    arrays = cache.load()
    if arrays is None:
        return set()
    pairs = zip(arrays["names"].tolist(), arrays["numbers"].tolist(), strict=True)
    return {Stamp(name, *numbers) for name, numbers in pairs}


def _remember(cache: Cache, stamps: Iterable[Stamp]) -> None:
    names, *numbers = zip(*stamps, strict=True)
    cache.save(names=np.array(names), numbers=np.array(numbers, np.int64).T)


def names_on_disk(images: Path, names: Sequence[str]) -> list[str]:
    """`names` as the folder `images` spells them: é may be one character, or e and an accent.

    macOS and Linux differ in this. A name that the folder has in neither spelling is unchanged.
    """
    listed = remembering(_composed_names)
    return [_on_disk(images, name, listed) for name in names]


def _on_disk(images: Path, name: str, listed: Callable[[Path], dict[str, str]]) -> str:
    if name.isascii() or os.path.lexists(images / name):
        return name
    path = images
    for folder in Path(name).parts:
        path /= listed(path).get(unicodedata.normalize("NFC", folder), folder)
    return str(path.relative_to(images))


def _composed_names(folder: Path) -> dict[str, str]:
    """The entries of a folder, by their names with composed accents (NFC)."""
    try:
        return {unicodedata.normalize("NFC", entry): entry for entry in os.listdir(folder)}
    except OSError:  # missing or unreadable folder: `probe` reports its files
        return {}
