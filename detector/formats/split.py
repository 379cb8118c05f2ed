"""The parts of a data set: those that the source has, or a seeded, stratified split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from tqdm import tqdm

from detector.data.images import BROKEN
from detector.errors import InputError
from detector.formats.document import ConvertedImage

THUMBNAIL = 16  # pixels a side
# gray levels that each pixel of two thumbnails may differ: JPEG quality 60 and half the size change
# photographs of BCCD by 1, and an object of 1 % of the image changes its pixels by tens
ALIKE = 3


def own_parts(images: Sequence[ConvertedImage]) -> dict[str, list[int]]:
    """Indices of the images of each part of the source, or all of them as "annotations".

    Raises InputError where some images are in a part and others in none.
    """
    parts: dict[str, list[int]] = {}
    for index, image in enumerate(images):
        parts.setdefault(image.split, []).append(index)
    if "" not in parts:
        return {name: parts[name] for name in ("train", "val", "test") if name in parts}
    if len(parts) > 1:
        (first, *_), named = parts.pop(""), next(iter(parts))
        raise InputError(
            f"{images[first].file}: this image is in no part of the data, and others are in "
            f"{named}; move it to a folder train, val or test, or give --split 0.2 to mix all."
        )
    return {"annotations": parts[""]}


def groups_of_copies(files: Sequence[Path]) -> list[int]:
    """A number for each image (N), equal for those that look the same.

    The same are files of equal bytes, and images whose thumbnails differ nowhere by more than
    `ALIKE`: another compression or size of one picture, and frames of a video in which nothing
    moves. Not mirrored or cropped ones.
    """
    with ThreadPoolExecutor() as pool:
        progress = tqdm(
            pool.map(_look, files), total=len(files), desc="copies", unit="image", disable=None
        )
        looks = list(progress)
    digests = {digest: index for index, (digest, _) in enumerate(looks)}
    equal = [(index, digests[digest]) for index, (digest, _) in enumerate(looks)]
    edges = np.array([*equal, *_alike([thumbnail for _, thumbnail in looks])])
    graph = coo_array((np.ones(len(edges)), edges.T), shape=(len(files),) * 2)
    return connected_components(graph, directed=False)[1].tolist()


def _alike(thumbnails: Sequence[NDArray[np.float32] | None]) -> list[tuple[int, int]]:
    """Indices of the pairs that differ nowhere by more than ALIKE."""
    present = [index for index, thumbnail in enumerate(thumbnails) if thumbnail is not None]
    if not present:
        return []
    pixels = np.stack([thumbnails[index] for index in present])  # type: ignore[misc]
    # means of 4 x 4 pixels differ no more than pixels do; with all 256 the tree takes 20 x as long
    means = pixels.reshape(-1, 4, THUMBNAIL // 4, 4, THUMBNAIL // 4).mean((2, 4)).reshape(-1, 16)
    pairs = KDTree(means).query_pairs(ALIKE, p=np.inf, output_type="ndarray")
    return [
        (present[first], present[second])
        for first, second in pairs.tolist()
        if np.abs(pixels[first] - pixels[second]).max() <= ALIKE
    ]


def _look(file: Path) -> tuple[str, NDArray[np.float32] | None]:
    """A digest of the file's bytes, and a gray thumbnail; None where there is none."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    try:
        with Image.open(file) as image:
            if image.mode[0] in "IF":  # deep samples, which the conversion would cut off at white
                return digest, None
            image.draft("L", (8 * THUMBNAIL, 8 * THUMBNAIL))  # JPEG: decodes an eighth, 10 x faster
            small = image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    except BROKEN:  # in its middle: training refuses it, not we
        return digest, None
    return digest, np.asarray(small, np.float32)
