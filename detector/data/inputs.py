"""Images as the users of the library have them -> uint8 tensors (3, H, W) RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from detector.data.images import DEFAULT, Decoding, read_image

ImageInput = str | Path | Image.Image | np.ndarray | Tensor
PILLOW_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # of 8 bits


def to_image(given: ImageInput, name: str, decoding: Decoding = DEFAULT) -> Tensor:
    """uint8 (3, H, W) RGB of a file, a Pillow image, an array (H, W, 3) or a tensor (3, H, W).

    Files and Pillow images are turned as their EXIF data say. `name` is what errors call it.
    Raises ValueError for another type, dtype or shape, InputError for a file that is no image.
    """
    if isinstance(given, str | Path):
        return read_image(Path(given), decoding=decoding)
    if isinstance(given, Image.Image):
        return _of_pillow(given, name)
    if isinstance(given, np.ndarray):
        _check(given.dtype == np.uint8 and given.ndim == 3 and given.shape[2:] == (3,), given, name)
        return torch.from_numpy(given.copy()).permute(2, 0, 1).contiguous()
    if isinstance(given, Tensor):
        _check(given.dtype == torch.uint8 and given.ndim == 3 and given.shape[0] == 3, given, name)
        return given.cpu()
    raise ValueError(
        f"{name} is a {type(given).__name__}; it should be a path, a Pillow image, a uint8 array "
        "(height, width, 3) or a uint8 tensor (3, height, width)."
    )


def _of_pillow(given: Image.Image, name: str) -> Tensor:
    if given.mode not in PILLOW_MODES:
        raise ValueError(
            f"{name} is a Pillow image of mode {given.mode!r}, which has no 8-bit colours; scale "
            "its values to 0 .. 255 and convert it to 'RGB'."
        )
    return to_image(np.array(ImageOps.exif_transpose(given).convert("RGB")), name)


def _check(fits: bool, given: np.ndarray | Tensor, name: str) -> None:  # noqa: FBT001
    expected = "a tensor (3, height, width)"
    if isinstance(given, np.ndarray):
        expected = "an array (height, width, 3)"
    if not fits or 0 in given.shape:
        dtype = str(given.dtype).removeprefix("torch.")
        raise ValueError(
            f"{name} is {dtype} of shape {tuple(given.shape)}; it should be uint8, {expected}, RGB."
        )
