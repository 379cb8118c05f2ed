"""Image files of every kind, written here with Pillow."""

from __future__ import annotations

import os
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, ImageOps, features

from detector.data import images
from detector.data.images import Decoding, SizeDiffers, read_header, read_image, seems_whole
from detector.errors import InputError

ORIENTATION = 0x0112


def corners(height: int = 16, width: int = 32) -> np.ndarray:
    """Black, but red at the top left and blue at the top right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2, 0] = 200
    pixels[: height // 2, width // 2 :, 2] = 200
    return pixels


def oriented(path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(corners()).save(path, exif=exif)
    return path


# What a camera does to the upright picture before it stores it under an orientation (EXIF 2.32).
STORED_AS = {
    1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "jpg": {"quality": 95}, "mpo": {}, "png": {}, "webp": {"lossless": True},
    "avif": {"quality": 100}, "tif": {}, "tiff": {"compression": "tiff_lzw"},
}  # fmt: skip
if not features.check("avif"):  # Pillow before 11.3
    del KINDS["avif"]


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("orientation", STORED_AS)
def test_every_orientation_of_every_kind(tmp_path: Path, orientation: int, suffix: str) -> None:
    """Without a size and with the turned one: the upright picture. With the other: as stored."""
    upright = Image.fromarray(corners())
    method = STORED_AS[orientation]
    stored = upright if method is None else upright.transpose(method)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"a.{suffix}"
    stored.save(path, exif=exif, **KINDS[suffix])
    assert differ(read_image(path), upright) < 8
    assert differ(read_image(path, (16, 32)), upright) < 8
    assert differ(read_image(path), ImageOps.exif_transpose(Image.open(path))) <= 1
    assert read_image(path).is_contiguous()
    if orientation in (5, 6, 7, 8):
        assert differ(read_image(path, (32, 16)), stored) < 8


def differ(image: torch.Tensor, expected: Image.Image) -> float:
    """The mean difference of two images of one size."""
    pixels = torch.from_numpy(np.array(expected)).permute(2, 0, 1)
    assert image.shape == pixels.shape
    return (image.float() - pixels.float()).abs().mean().item()


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 20 10
%%EndComments
newpath showpage
%%EOF
"""


@pytest.mark.parametrize("suffix", ["jpg", "png", "eps"])
def test_no_program_is_started_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Pillow runs the PostScript of an EPS, whatever its name, with the gs on the PATH."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # as in a process that never looked
    path = tmp_path / f"photo.{suffix}"
    path.write_bytes(EPS)
    with pytest.raises(InputError, match=rf"photo\.{suffix}"):
        read_image(path, (10, 20))
    assert not seems_whole(path, (10, 20))
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("value", ["6", (6, 6), 77])
def test_an_orientation_that_is_none(tmp_path: Path, value: object) -> None:
    Image.fromarray(corners()).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as header:
        header.getexif()[ORIENTATION] = value
        orientation = images._orientation(header)
    assert orientation in (1, 77)  # of neither anything is turned or flipped
    assert images._turn(torch.zeros(3, 16, 32), orientation).shape == (3, 16, 32)


def test_boxes_drawn_on_the_stored_image_get_the_stored_image(tmp_path: Path) -> None:
    path = oriented(tmp_path / "a.jpg", 6)  # stored 16 x 32, to be seen as 32 x 16
    stored = read_image(path, (16, 32))
    assert stored.shape == (3, 16, 32)
    assert stored[0, 2, 2] > 150 and stored[2, 2, 30] > 150  # red left, blue right


def test_size_that_neither_has(tmp_path: Path) -> None:
    path = oriented(tmp_path / "a.jpg", 6)
    with pytest.raises(SizeDiffers) as caught:
        read_image(path, (99, 98))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # out of a worker
    assert all(part in str(caught.value) for part in [str(path), "32 x 16", "16 x 32", "98 x 99"])


def test_size_that_only_the_turned_image_has_is_not_its_own(tmp_path: Path) -> None:
    Image.fromarray(corners()).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="the file is 32 x 16, but the annotations say 16 x 32"):
        read_image(tmp_path / "a.png", (32, 16))


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", "jpg"), ("L", "jpg"), ("CMYK", "jpg"), ("YCbCr", "jpg"), ("RGB", "png"), ("L", "png"),
     ("1", "png"), ("P", "png"), ("LA", "png"), ("RGBA", "png"), ("RGB", "bmp"), ("P", "gif"),
     ("RGB", "webp"), ("CMYK", "tiff")],
)  # fmt: skip
def test_modes(tmp_path: Path, mode: str, suffix: str) -> None:
    """White stays white and black stays black in every mode."""
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 16:] = 255
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).convert(mode).save(path)
    image = read_image(path, (16, 32))
    assert image.dtype == torch.uint8 and image.shape == (3, 16, 32)
    assert image[..., :8].max() < 8 and image[..., 24:].min() > 247


def test_transparency_is_dropped(tmp_path: Path) -> None:
    pixels = np.full((4, 4, 4), 90, np.uint8)
    pixels[..., 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == 90).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(
    ("depth", "values"),
    # v * 255 / (2^depth - 1), rounded: 257 -> 1, 32768 -> 127.502 -> 128, 65535 -> 255 of 16 bits
    [(16, {0: 0, 257: 1, 32768: 128, 65535: 255}), (12, {0: 0, 16: 1, 2048: 128, 4095: 255}),
     (8, {0: 0, 77: 77, 254: 254, 255: 255})],
)  # fmt: skip
def test_sixteen_bits(tmp_path: Path, depth: int, values: dict[int, int], suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.array([list(values)], np.uint16)).save(path)
    image = read_image(path, (1, 4), Decoding(depth=depth))
    assert image[0].tolist() == image[2].tolist() == [list(values.values())]


@pytest.mark.parametrize("depth", [None, 11])
def test_sixteen_bits_of_another_depth_are_refused(tmp_path: Path, depth: int | None) -> None:
    """Never the darkest of the levels, and never cut: the sentence says how bright they are."""
    Image.fromarray(np.array([[0, 2048]], np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: .*16-bit .* 2048.*data\.depth"):
        read_image(tmp_path / "a.png", (1, 2), Decoding(depth=depth))
    assert not seems_whole(tmp_path / "a.png", (1, 2))


def deep_colour(path: Path) -> Path:
    """A PNG of one pixel with 16 bits a channel, which Pillow cannot write: 0, 32768, 65535."""
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + struct.pack(">HHH", 0, 32768, 65535))
    chunks = [(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ))  # fmt: skip
    return path


def test_sixteen_bits_of_each_colour(tmp_path: Path) -> None:
    path = deep_colour(tmp_path / "a.png")
    assert read_image(path, decoding=Decoding(depth=16)).flatten().tolist() == [0, 128, 255]
    for depth in (None, 12):
        with pytest.raises(InputError, match=r"a\.png: .*data\.depth=16"):
            read_image(path, decoding=Decoding(depth=depth))
    assert not seems_whole(path, (1, 1))


def test_a_depth_that_the_file_says_needs_no_key(tmp_path: Path) -> None:
    """PGM names its largest value, 4095; 2048 is half of it."""
    pixels = np.array([0, 2048, 4095], ">u2").tobytes()
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 4095\n" + pixels)
    for depth in (None, 8):
        image = read_image(tmp_path / "a.pgm", decoding=Decoding(depth=depth))
        assert image[1].tolist() == [[0, 128, 255]]


@pytest.mark.parametrize(
    ("pixels", "word"),
    [(np.full((4, 4), 70000, np.int32), "32-bit"), (np.ones((4, 4), np.float32), "floating-point")],
)
def test_depths_without_an_equivalent(tmp_path: Path, pixels: np.ndarray, word: str) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.tiff")
    with pytest.raises(InputError, match=rf"a\.tiff: .*{word}"):
        read_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_the_largest_image(tmp_path: Path, suffix: str) -> None:
    """2,000 x 1,001 pixels are 2.002 million."""
    path = tmp_path / f"a.{suffix}"
    Image.new("L", (2000, 1001)).save(path)
    with pytest.raises(InputError, match=rf"a\.{suffix}: .*2000 x 1001.* 2 .*data\.megapixels"):
        read_image(path, decoding=Decoding(megapixels=2))
    assert not seems_whole(path, (1001, 2000), Decoding(megapixels=2))
    assert read_image(path, decoding=Decoding(megapixels=3)).shape == (3, 1001, 2000)


@pytest.mark.filterwarnings("error")
def test_no_warning_of_pillows_and_no_limit_but_ours(tmp_path: Path) -> None:
    """200 and 100 million pixels, of which the header alone is looked at."""
    for height in (20_000, 10_000):
        Image.new("1", (10_000, height)).save(tmp_path / "a.png")
        assert seems_whole(tmp_path / "a.png", (height, 10_000), Decoding(megapixels=200))


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.9])
def test_truncated(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match=rf"cut\.{suffix}: this is not a whole, readable image"):
        read_image(path, (64, 64))


def test_not_an_image_and_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("hello")
    with pytest.raises(InputError, match=r"a\.jpg: this is not"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"b\.jpg: the image cannot be read"):
        read_image(tmp_path / "b.jpg")


@pytest.mark.parametrize("mistake", [ValueError, KeyError, TypeError])
def test_a_mistake_of_ours_is_not_taken_for_a_broken_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise mistake("ours")

    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "a.png")
    for name in ("_eight_bits", "_turn"):
        with monkeypatch.context() as patched:
            patched.setattr(images, name, fail)
            with pytest.raises(mistake, match="ours") as caught:
                read_image(tmp_path / "a.png", decoding=Decoding(depth=16))
        assert not isinstance(caught.value, InputError)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["tif", "jpg", "png"])
def test_the_size_of_a_head_is_that_of_the_image(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    """31 x 20 as stored; orientations 5 to 8 swap the sides, in every kind alike."""
    image, path = Image.new("RGB", (31, 20)), tmp_path / f"a.{kind}"
    exif = Image.Exif()
    exif[274] = orientation
    image.save(path, **({"tiffinfo": {274: orientation}} if kind == "tif" else {"exif": exif}))
    expected = (31, 20) if orientation >= 5 else (20, 31)
    assert read_header(path).turned == expected == tuple(read_image(path).shape[1:])
