"""Files that are whole, cut, replaced or gone, and which of them are opened again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.data import probe as probing
from detector.data.images import EXIF_ORIENTATION, Decoding, read_image, seems_whole
from detector.data.probe import ImageFault, probe
from detector.errors import InputError

NAMES = ["a.jpg", "b.jpg", "c.png", "d.jpg", "e.bmp"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


def noise(height: int = 48, width: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Five whole images of 64 x 48."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in NAMES:
        noise().save(folder / name)
    return folder


def look(images: Path, *, height: int = 48) -> dict[int, ImageFault]:
    sizes = np.array([(height, 64)] * len(NAMES), np.int32)
    return faults_of(images.parent / "boxes.json", images, NAMES, sizes)


def faults_of(*arguments: Any) -> dict[int, ImageFault]:
    sizes, faults = probe(*arguments)
    assert sizes.tolist() == arguments[3].tolist()  # annotated sizes stay as they are
    return faults


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all files that the probe has opened since it was last emptied."""
    names: list[str] = []

    def seen(path: Path, size: tuple[int, int], decoding: Decoding) -> bool:
        names.append(path.name)
        return seems_whole(path, size, decoding)

    monkeypatch.setattr(probing, "seems_whole", seen)
    return names


def halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_whole_images_pass_and_no_jpeg_or_png_is_decoded(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    monkeypatch.setattr(probing, "read_image", lambda path, *_: decoded.append(path.name))
    assert look(images) == {}
    assert decoded == ["e.bmp"]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_there_but_not_read(
    images: Path, opened: list[str], make: Callable[[Path], None]
) -> None:
    (images / "a.jpg").unlink()
    make(images / "a.jpg")
    (fault,) = look(images).values()
    assert fault.reason == "unreadable image" and str(images / "a.jpg") in fault.sentence
    assert "pipe" in fault.sentence and "a.jpg" not in opened


@pytest.mark.parametrize("chunk", [1, 2, 64])
def test_each_fault_is_its_own_rows(
    images: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(probing, "CHUNK", chunk)
    (images / "a.jpg").unlink()
    halve(images / "b.jpg")
    (images / "c.png").write_text("hello")
    noise(32, 64).save(images / "d.jpg")
    faults = look(images)
    assert {row: fault.reason for row, fault in faults.items()} == {
        0: "missing image", 1: "unreadable image", 2: "unreadable image", 3: "size differs",
    }  # fmt: skip
    assert str(images / "b.jpg") in faults[1].sentence and str(images) in faults[0].sentence
    assert "64 x 32" in faults[3].sentence and "64 x 48" in faults[3].sentence


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "webp", "tiff"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_every_cut_is_found(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    noise(200, 200).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    (fault,) = faults_of(
        tmp_path / "x.json", tmp_path, [path.name], np.array([(200, 200)])
    ).values()
    assert fault.reason == "unreadable image"


def test_a_progressive_jpeg_is_whole_only_to_its_last_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    noise(16, 24).save(path, progressive=True)
    whole = path.read_bytes()
    assert seems_whole(path, (16, 24))
    for kept in range(len(whole)):
        path.write_bytes(whole[:kept])
        assert not seems_whole(path, (16, 24)), kept


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("tail", [b"\0" * 100, b"\xff\xd8 more", b"\n"])
def test_bytes_after_the_end_do_no_harm(tmp_path: Path, suffix: str, tail: bytes) -> None:
    path = tmp_path / f"a.{suffix}"
    noise().save(path)
    path.write_bytes(path.read_bytes() + tail)
    assert read_image(path, (48, 64)).shape == (3, 48, 64)
    assert faults_of(tmp_path / "x.json", tmp_path, [path.name], np.array([(48, 64)])) == {}


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("size", [(48, 64), (64, 48), (48, 48)])
def test_what_read_image_accepts_passes_and_nothing_else(
    tmp_path: Path, suffix: str, orientation: int, size: tuple[int, int]
) -> None:
    """Stored 48 x 64; turned 64 x 48 by orientation 6 alone."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    path = tmp_path / f"a.{suffix}"
    noise().save(path, exif=exif)
    accepted = size == (48, 64) or (size == (64, 48) and orientation == 6)
    try:
        read_image(path, size)
        assert accepted
    except InputError:
        assert not accepted
    faults = faults_of(tmp_path / "x.json", tmp_path, [path.name], np.array([size]))
    assert [fault.reason for fault in faults.values()] == ([] if accepted else ["size differs"])


def test_what_passed_at_one_depth_does_not_pass_at_another(tmp_path: Path) -> None:
    Image.fromarray(np.full((48, 64), 4095, np.uint16)).save(tmp_path / "a.png")
    for depth, reasons in ((12, []), (11, ["unreadable image"]), (None, ["unreadable image"])):
        sizes = np.array([(48, 64)], np.int32)
        actual = faults_of(tmp_path / "x.json", tmp_path, ["a.png"], sizes, Decoding(depth=depth))
        assert [fault.reason for fault in actual.values()] == reasons


def test_a_second_look_opens_nothing(images: Path, opened: list[str]) -> None:
    look(images)
    assert sorted(opened) == NAMES
    opened.clear()
    assert look(images) == {} and opened == []
    (images / "b.jpg").unlink()
    assert look(images)[1].reason == "missing image" and opened == []


def test_a_replaced_file_is_opened_again(images: Path, opened: list[str]) -> None:
    """Another length under the old time; the old length under another time."""
    look(images)
    opened.clear()
    before = (images / "b.jpg").stat()
    halve(images / "b.jpg")
    os.utime(images / "b.jpg", ns=(before.st_atime_ns, before.st_mtime_ns))
    (images / "d.jpg").write_bytes(bytes((images / "d.jpg").stat().st_size))
    os.utime(images / "d.jpg", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert {row: fault.reason for row, fault in look(images).items()} == {
        1: "unreadable image", 3: "unreadable image",
    }  # fmt: skip
    assert sorted(opened) == ["b.jpg", "d.jpg"]


def test_another_annotated_size_opens_all_again(images: Path, opened: list[str]) -> None:
    look(images)
    assert {fault.reason for fault in look(images, height=47).values()} == {"size differs"}
    assert len(opened) == 10


def test_only_what_passed_is_remembered(images: Path, opened: list[str]) -> None:
    """A file that failed may have failed for another reason than its bytes: it is opened again."""
    halve(images / "b.jpg")
    assert list(look(images)) == [1]
    opened.clear()
    assert list(look(images)) == [1] and opened == ["b.jpg"]
    noise().save(images / "b.jpg")
    opened.clear()
    assert look(images) == {} and opened == ["b.jpg"]
    opened.clear()
    assert look(images) == {} and opened == []


def test_two_folders_under_one_annotation_file(
    images: Path, tmp_path: Path, opened: list[str]
) -> None:
    """Same names, same stamps; one file of the other folder is broken."""
    other = tmp_path / "other"
    other.mkdir()
    for name in NAMES:
        content = (images / name).read_bytes()
        (other / name).write_bytes(bytes(len(content)) if name == "b.jpg" else content)
        stamp = (images / name).stat()
        os.utime(other / name, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert (list(look(images)), list(look(other))) == ([], [1])
    opened.clear()
    assert (list(look(images)), list(look(other))) == ([], [1])
    assert opened == ["b.jpg"]


@pytest.mark.parametrize("keep", [0, 100, 600])
def test_half_a_cache_is_no_cache(images: Path, opened: list[str], keep: int) -> None:
    look(images)
    (cache,) = images.parent.glob(".boxes.images-*.npz")
    cache.write_bytes(cache.read_bytes()[:keep])
    opened.clear()
    assert look(images) == {} and sorted(opened) == NAMES


def test_without_a_place_for_the_cache_all_is_opened_every_time(
    images: Path, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(os, "replace", lambda draft, place: (_ for _ in ()).throw(OSError()))
    assert look(images) == {} and look(images) == {}
    assert len(opened) == 10
    assert not list(tmp_path.glob(".*"))


def test_no_file_at_all_leaves_no_cache(tmp_path: Path) -> None:
    assert len(look(tmp_path / "images")) == 5
    assert not list(tmp_path.glob(".*"))
