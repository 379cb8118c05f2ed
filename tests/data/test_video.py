"""Frames of videos that PyAV writes, whole and broken."""

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from videos import remuxed

from detector.data.video import Video, check_installed, opened, written
from detector.errors import InputError

RATE = Fraction(30000, 1001)
MOV = {"mp4": {"movflags": "faststart"}}


def picture(number: int, size: tuple[int, int]) -> Image.Image:
    """Gray that grows by 6 a frame, its left quarter white."""
    image = Image.new("RGB", size, (6 * number,) * 3)
    image.paste("white", (0, 0, size[0] // 4, size[1]))
    return image


def noise(_: int, size: tuple[int, int]) -> Image.Image:
    """What takes many bytes, so that every part of a file is of frames."""
    return Image.effect_noise(size, 99).convert("RGB")


def write(
    file: Path,
    frames: int = 40,
    *,
    size: tuple[int, int] = (64, 48),
    time: Callable[[int], float] = lambda number: number / RATE,
    picture: Callable[[int, tuple[int, int]], Image.Image] = picture,
) -> Path:
    with written(file, RATE) as add:
        for number in range(frames):
            add(picture(number, size), float(time(number)))
    return file


def cut(file: Path, share: float) -> Path:
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    return file


def read(file: Path) -> tuple[Video, list[float], list[int]]:
    """The video, and time and gray of the lower right corner of each frame."""
    with opened(file) as video:
        frames = list(video)
    assert [frame.index for frame in frames] == list(range(video.read))
    times, grays = [f.time for f in frames], [int(f.image[0, -1, -1]) for f in frames]
    return video, times, grays


@pytest.mark.parametrize("size", [(64, 48), (63, 48), (64, 47)])
def test_what_is_written_is_read(tmp_path: Path, size: tuple[int, int]) -> None:
    """Sides that are odd, too: the pictures have their size, rate and order."""
    video, times, grays = read(write(tmp_path / "a.mp4", size=size))
    assert (video.rate, round(video.seconds * RATE), video.read, video.ended) == (
        RATE,
        40,
        40,
        None,
    )
    assert times == pytest.approx([number / RATE for number in range(40)], abs=1e-4)
    assert grays == pytest.approx([6 * number for number in range(40)], abs=4)
    with opened(tmp_path / "a.mp4") as again:
        image = next(iter(again)).image
    assert image.shape == (3, size[1], size[0])
    assert image[:, :, : size[0] // 4 - 2].min() > 240 and image[:, :, size[0] // 4 + 2 :].max() < 9


def test_frames_keep_their_times(tmp_path: Path) -> None:
    """Of a phone that drops frames in the dark: a rate alone would shift all that follows."""
    file = write(tmp_path / "a.mp4", 6, time=lambda number: number / 30 + (number > 2))
    assert read(file)[1] == pytest.approx([0, 1 / 30, 2 / 30, 1.1, 1.1333, 1.1667], abs=1e-3)


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    """A transport stream begins at any time."""
    file = remuxed(write(tmp_path / "a.mp4"), tmp_path / "a.ts")
    video, times, _ = read(file)
    assert times == pytest.approx([number / RATE for number in range(40)], abs=1e-4)
    assert video.ended is None


def turned(file: Path, matrix: tuple[int, ...]) -> Path:
    """The file with a display matrix (a, b, c, d) in its track header, as phones write it."""
    data = file.read_bytes()
    one, whole = (1 << 16).to_bytes(4, "big"), (1 << 30).to_bytes(4, "big")
    zero = bytes(4)
    before = one + zero * 3 + one + zero * 3 + whole
    a, b, c, d = (value << 16 for value in matrix)
    rows = [(a, b, 0), (c, d, 0), (0, 0, 1 << 30)]
    after = b"".join(v.to_bytes(4, "big", signed=True) for row in rows for v in row)
    begin = data.index(before, data.index(b"tkhd"))
    file.write_bytes(data[:begin] + after + data[begin + len(before) :])
    return file


@pytest.mark.parametrize(
    "matrix, white",
    {(0, 1, -1, 0): np.s_[:16], (0, -1, 1, 0): np.s_[48:], (-1, 0, 0, -1): np.s_[:, 48:]}.items(),
)
def test_videos_of_phones_are_turned(
    tmp_path: Path, matrix: tuple[int, ...], white: tuple[slice, ...]
) -> None:
    """By a quarter clockwise, counterclockwise, and by a half; the left of the pixels is white.

    A point x, y is shown at x' = a x + c y, y' = b x + d y: with 0, 1, -1, 0 the left, x = 0, is
    at the top, y' = 0.
    """
    with opened(turned(write(tmp_path / "a.mp4", 3), matrix)) as video:
        image = next(iter(video)).image[0].numpy()
    assert image.shape == ((48, 64) if matrix[0] else (64, 48))
    mask = np.zeros(image.shape, bool)
    mask[white] = True
    assert image[mask].mean() > 240 and image[~mask].mean() < 9


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_a_video_that_ends_early_says_so(tmp_path: Path, kind: str) -> None:
    """About 90 * 0.6 frames come before the end; Matroska's reader says nothing there."""
    whole = write(tmp_path / "whole.mp4", 90, picture=noise)
    file = remuxed(whole, tmp_path / f"a.{kind}", **MOV.get(kind, {}))
    assert read(file)[0].ended is None
    video, times, _ = read(cut(file, 0.6))
    assert 40 < video.read < 60
    assert times == pytest.approx([number / RATE for number in range(video.read)], abs=2e-3)
    assert video.ended is not None and video.ended.startswith(f"{file}: ")
    end = (
        f"{float(video.read / RATE):.1f} of 3.0 seconds"
        if kind == "mkv"
        else f"frame {video.read} "
    )
    assert end in video.ended


def test_an_avi_that_ends_early_says_so(tmp_path: Path) -> None:
    """Its head counts the frames; the duration that FFmpeg gives is of the bytes that are left."""
    file = tmp_path / "a.avi"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(90):
            container.mux(stream.encode(av.VideoFrame.from_image(noise(number, (64, 48)))))
        container.mux(stream.encode(None))
    assert read(file)[0].ended is None
    video, _, _ = read(cut(file, 0.6))
    assert 40 < video.read < 60
    assert video.ended == f"{file}: it ends after {float(video.read / RATE):.1f} of 3.0 seconds"


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    file = cut(write(tmp_path / "a.mp4", picture=noise), 0.6)  # its index was at the end
    (tmp_path / "b.mp4").write_text("not a video")
    with av.open(str(tmp_path / "c.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    for name, words in {
        file.name: "a.mp4: this is not a whole, readable video .*; replace or remove it",
        "b.mp4": "b.mp4: this is not a whole, readable video",
        "c.mkv": "c.mkv: there are no pictures in it",
        "none.mp4": "none.mp4: .*No such file",
    }.items():
        with pytest.raises(InputError, match=words), opened(tmp_path / name):
            pass


def test_a_video_without_pyav_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    check_installed([Path("a.jpg")])
    with pytest.raises(InputError, match=r"b.MP4: .* pip install 'anchorlab\[video\]'"):
        check_installed([Path("a.jpg"), Path("b.MP4")])
