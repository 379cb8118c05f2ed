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
        if given.mode not in PILLOW_MODES:
            raise ValueError(
                f"{name} is a Pillow image of mode {given.mode!r}, which has no 8-bit colours; "
                "scale its values to 0 .. 255 and convert it to 'RGB'."
            )
        given = np.array(ImageOps.exif_transpose(given).convert("RGB"))
    match given:
        case np.ndarray():
            channels, expected = 2, "an array (height, width, 3)"
        case Tensor():
            channels, expected = 0, "a tensor (3, height, width)"
        case _:
            raise ValueError(
                f"{name} is a {type(given).__name__}; it should be a path, a Pillow image, a uint8 "
                "array (height, width, 3) or a uint8 tensor (3, height, width)."
            )
    dtype = str(given.dtype).removeprefix("torch.")
    if dtype != "uint8" or given.ndim != 3 or given.shape[channels] != 3 or 0 in given.shape:
        raise ValueError(
            f"{name} is {dtype} of shape {tuple(given.shape)}; it should be uint8, {expected}, RGB."
        )
    if isinstance(given, Tensor):
        return given.cpu()
    return torch.from_numpy(given.copy()).permute(2, 0, 1).contiguous()
