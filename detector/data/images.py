"""Image files of many kinds, and images as users of the library have them, as uint8 (3, H, W) RGB.

torchvision decodes JPEGs (1.6 times faster than Pillow, same pixels), Pillow all other kinds.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from detector.errors import InputError

# Raster formats that Pillow decodes by itself, the commonest first, as it tries them in turn.
# Not EPS, for which it would run a stranger's PostScript in Ghostscript, nor containers of images
# of any format (IPTC). JPEG includes MPO.
FORMATS = (
    "JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "AVIF", "JPEG2000", "PCX", "SGI", "TGA",
)  # fmt: skip

PILLOW_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # of 8 bits
BITS_PER_SAMPLE = 258  # a tag of TIFF
EXIF_ORIENTATION = 0x0112
SWAPS_SIDES = (5, 6, 7, 8)  # EXIF orientations that swap height and width
# dimensions to flip after that swap: rows are 1, columns 2
FLIPS = {2: (2,), 3: (1, 2), 4: (1,), 6: (2,), 7: (1, 2), 8: (1,)}
BACK = {6: 8, 8: 6}  # the orientation that undoes another; the rest undo themselves

# What Pillow and libjpeg raise on a broken file. Catch it only around their calls; TypeError,
# KeyError and IndexError are not included, since they would be bugs of this module.
BROKEN = (
    OSError, RuntimeError, ValueError, SyntaxError, EOFError, struct.error, zlib.error,
)  # fmt: skip
HEAD = 25  # bytes, up to and including the bit depth of a PNG
ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}  # no compressed pixels contain these


ImageInput = str | Path | Image.Image | np.ndarray | Tensor


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Settings for what image files leave open: bit depth, and the largest size."""

    depth: int | None = None  # bits that the samples of 16-bit files use, 8 .. 16; None: refused
    megapixels: int = 179  # largest image, in millions of pixels; it is also Pillow's limit


DEFAULT = Decoding()


class SizeDiffers(InputError):
    """The image has another size than its annotations say."""


def read_image(
    path: Path, size: tuple[int, int] | None = None, decoding: Decoding = DEFAULT
) -> Tensor:
    """uint8 (3, H, W) RGB; grayscale is repeated, transparency dropped, deep samples scaled.

    `size` is height, width as annotated. The EXIF orientation is applied if `size` is None or the
    size of the turned image. It is not applied if only the stored image has that size: the boxes
    were then drawn on the stored image. Raises SizeDiffers if neither has it. Raises InputError for
    a file that is missing, truncated, not an image, too large, or without an 8-bit equivalent, and
    for 16-bit samples without a usable `decoding.depth`. All errors name the file.
    """
    data = _bytes(path)
    header = _open(path, io.BytesIO(data), decoding.megapixels)
    orientation = _orientation(header)
    stored, turned = _sizes(path, header)
    if size is not None and size not in (turned, stored):
        known = f"{stored[1]} x {stored[0]}"
        if turned != stored:
            known += f" (or {turned[1]} x {turned[0]} turned as its EXIF data say)"
        raise SizeDiffers(
            f"{path}: the file is {known}, but the annotations say {size[1]} x {size[0]} "
            "(width x height); correct the one that is wrong."
        )
    image = _decode(path, data, header, decoding.depth)
    upright = header.format == "TIFF"
    if size in (None, turned):
        return image if upright else _turn(image, orientation)
    return _turn(image, BACK.get(orientation, orientation)) if upright else image


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


class Header(NamedTuple):
    """What the first bytes of an image file say."""

    stored: tuple[int, int]  # height, width
    turned: tuple[int, int]  # the same, turned as the EXIF orientation says
    orientation: int  # of EXIF, 1 .. 8; 1 where there is none


def read_header(path: Path, decoding: Decoding = DEFAULT) -> Header:
    """Raises InputError if the file is missing or its header is not an image's."""
    try:
        with path.open("rb") as file:
            header = _open(path, file, decoding.megapixels)
            return Header(*_sizes(path, header), _orientation(header))
    except OSError as error:
        raise InputError(f"{path}: the image cannot be read: {error.strerror}.") from error


def suffixes() -> set[str]:
    """File name suffixes of the formats that are read, in lower case: ".jpg", ".tif", …"""
    kinds = {*FORMATS, "MPO"}
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in kinds}


def seems_whole(path: Path, size: tuple[int, int], decoding: Decoding = DEFAULT) -> bool:
    """Whether the file's head and tail show that `read_image` will succeed, in 1/60 of its time.

    False means only that the image must be decoded to know: another size, a format without a known
    ending, bytes after the ending, or 16-bit samples.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            header = _open(path, file, decoding.megapixels)
            ending = ENDINGS.get(header.format or "")
            if ending is None or _depth(header, head) is None:
                return False
            # the stored size first, since the orientation of a PNG may need a decode
            if size != (header.height, header.width) and size not in _sizes(path, header):
                return False
            file.seek(-len(ending), os.SEEK_END)
            return file.read() == ending
    except (OSError, InputError):
        return False


def _sizes(path: Path, header: Image.Image) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height, width of the stored image, and of the one turned by its EXIF orientation."""
    swapped = _orientation(header) in SWAPS_SIDES
    tiff = header.format == "TIFF"
    if tiff:  # only these does Pillow turn while it loads them, and then the size is the turned one
        with _foreign(path):
            header.load()
    size = header.height, header.width
    other = size[::-1] if swapped else size
    return (other, size) if tiff else (size, other)


def _bytes(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe or a device may never end
            raise InputError(f"{path}: this is no regular file; an image is expected, remove it.")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: the image cannot be read: {error.strerror}.") from error


@contextmanager
def _foreign(path: Path) -> Iterator[None]:
    """Turn what Pillow and torchvision raise into InputError; use it around their calls only."""
    try:
        yield
    except BROKEN as error:
        reason = f"({str(error).rsplit(', ', 1)[-1]})"  # torchvision puts its source path in front
        if isinstance(error, UnidentifiedImageError):
            reason = "of a known kind"
        raise InputError(
            f"{path}: this is not a whole, readable image {reason}; replace or remove it."
        ) from error


def _open(path: Path, file: BinaryIO, megapixels: int) -> Image.Image:
    """The file's header; InputError for a format that is not read, and for too large an image."""
    Image.init()
    known = [kind for kind in FORMATS if kind in Image.OPEN]  # AVIF came with Pillow 11.3
    Image.MAX_IMAGE_PIXELS = None  # Pillow's own check warns at half its limit, and names no key
    with _foreign(path):
        header = Image.open(file, formats=known)
    if header.width * header.height > megapixels * 10**6:
        raise InputError(
            f"{path}: the image has {header.width} x {header.height} pixels, more than the "
            f"{megapixels} million of data.megapixels; make it smaller, or that key larger."
        )
    return header


def _decode(path: Path, data: bytes, header: Image.Image, depth: int | None) -> Tensor:
    if header.format == "JPEG" and header.mode in ("L", "RGB"):
        stream = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        with _foreign(path):
            return decode_jpeg(stream, mode=ImageReadMode.RGB)
    if header.mode == "F":
        raise InputError(f"{path}: the image has floating-point pixels; save it with 8 or 16 bits.")
    said = _depth(header, data)
    gray = header.mode.startswith("I")
    with _foreign(path):
        pixels = np.array(header if gray else header.convert("RGB"))
    if gray:
        pixels = _eight_bits(path, pixels, depth if said is None else said)
    elif said is None and depth != 16:
        raise InputError(
            f"{path}: the image has 16-bit colours, of which the upper 8 bits are read; set "
            "data.depth=16 if all 16 are used, or save it with 8."
        )
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _depth(header: Image.Image, data: bytes) -> int | None:
    """Bits that the samples use; None for 16-bit samples, of which a file may use fewer."""
    match header.format:
        case "PNG":
            bits = data[24]  # of the IHDR chunk, which comes first
        case "TIFF":
            bits = max(header.tag_v2.get(BITS_PER_SAMPLE, (1,)))  # type: ignore[attr-defined]
        case "JPEG2000":
            bits = 16 if header.mode.startswith("I") else 8
        case _:
            return 16  # Pillow scales by the largest value that a PGM declares
    return bits if bits < 16 else None


def _eight_bits(path: Path, pixels: np.ndarray, depth: int | None) -> np.ndarray:
    """Gray 0 .. 2^depth - 1 (H, W) -> gray 0 .. 255 (H, W, 3)"""
    brightest = int(pixels.max())
    if pixels.min() < 0 or brightest > 65535:
        raise InputError(f"{path}: the image has 32-bit pixels; save it with 8 or 16 bits.")
    if depth is None or brightest >= 2**depth:
        raise InputError(
            f"{path}: the image has 16-bit pixels, the brightest of them {brightest}, and "
            f"data.depth is {'null' if depth is None else depth}; set it to the bits that such "
            "images use, as data.depth=12 for 0 to 4095, or 16 for 0 to 65535."
        )
    white = 2**depth - 1
    # int64: 65535 * 255 would overflow 16 bits; + white // 2 rounds to nearest
    levels = ((pixels.astype(np.int64) * 255 + white // 2) // white).astype(np.uint8)
    return np.repeat(levels[:, :, None], 3, axis=2)


def _orientation(header: Image.Image) -> int:
    """The EXIF orientation 1 .. 8; 1, as stored, where the file has none."""
    try:
        orientation = header.getexif().get(EXIF_ORIENTATION)
    except BROKEN:
        return 1  # a broken EXIF block says nothing of the orientation; the pixels may be whole
    return orientation if isinstance(orientation, int) else 1


def _turn(image: Tensor, orientation: int) -> Tensor:
    """The image (3, H, W) turned as its EXIF orientation 1 .. 8 says."""
    if orientation in SWAPS_SIDES:
        image = image.transpose(1, 2)
    return image.flip(FLIPS.get(orientation, ())).contiguous()
