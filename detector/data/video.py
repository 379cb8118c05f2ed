"""Frames of videos as uint8 (3, H, W) RGB, and videos of such frames, by PyAV (extra `video`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from detector.data.sources import is_video
from detector.errors import InputError

TICKS = 90_000  # a second, the unit of time of written videos: whole for 24 to 60 and 29.97 Hz
SLACK = 0.5  # seconds that a whole video may be shorter than it says


@dataclass(frozen=True)
class Frame:
    """One picture of a video."""

    image: Tensor  # uint8 (3, H, W) RGB, upright
    index: int  # from 0
    time: float  # seconds after the first frame


class Video:
    """The frames of an open video, to be read once.

    rate: frames a second, on average. seconds: how long it should be, 0 if unknown. read: how many
    frames were read so far. ended: afterwards, a sentence where these are not all.
    """

    def __init__(self, container: Any, path: Path) -> None:
        self._container, self._path = container, path
        self._stream = container.streams.video[0]
        # average_rate is what the container states, which may be the ticks of its clock
        self.rate: Fraction = self._stream.guessed_rate or Fraction(25)
        self.seconds = self._seconds()
        self.read = 0
        self.ended: str | None = None

    def _seconds(self) -> float:
        if self._container.format.name == "avi":  # FFmpeg takes the duration of what is left
            return float(self._stream.frames / self.rate)
        # not the count of frames, which includes those that a phone's trimming only hides
        if self._stream.duration is not None:
            return float(self._stream.duration * self._stream.time_base)
        duration = self._container.duration  # of the longest stream, in microseconds
        return (duration or 0) / 10**6

    def __iter__(self) -> Iterator[Frame]:
        start, end, size = 0.0, 0.0, None
        for frame in self._decoded():
            image = _upright(frame)
            size = size or image.shape
            if image.shape != size:
                self.ended = f"{self._path}: frame {self.read} has another size than those before"
                return
            time = float(self.read / self.rate) if frame.time is None else frame.time
            start = start if self.read else time
            yield Frame(image, self.read, time - start)
            self.read += 1
            end = time - start + float(1 / self.rate)
        if self.ended is None and self.seconds - end > SLACK:
            self.ended = f"{self._path}: it ends after {end:.1f} of {self.seconds:.1f} seconds"

    def _decoded(self) -> Iterator[Any]:
        """PyAV's frames up to the first that is broken."""
        frames, av = self._container.decode(self._stream), pyav(self._path)
        while True:
            try:
                frame = next(frames, None)
            except av.FFmpegError as error:
                self.ended = f"{self._path}: frame {self.read} cannot be read ({error.strerror})"
                return
            if frame is None:
                return
            yield frame


@contextmanager
def opened(path: Path) -> Iterator[Video]:
    """The video in a file; InputError if PyAV is missing, or the file is no readable video."""
    av = pyav(path)
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise InputError(
            f"{path}: this is not a whole, readable video ({error.strerror}); replace or remove it."
        ) from error
    with container:
        if not container.streams.video:
            raise InputError(f"{path}: there are no pictures in it; replace or remove it.")
        yield Video(container, path)


@contextmanager
def written(file: Path, rate: Fraction) -> Iterator[Callable[[Image.Image, float], None]]:
    """A function that adds a frame, in RGB, to a new MP4, to be shown from a time in seconds on.

    All frames have the size of the first, and times ascend.
    """
    av = pyav(file)
    with file.open("wb") as raw, av.open(raw, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.codec_context.time_base = Fraction(1, TICKS)

        def add(image: Image.Image, time: float) -> None:
            frame = av.VideoFrame.from_image(image)
            if not frame_times:
                stream.width, stream.height = frame.width, frame.height
                # colours of 2 x 2 pixels together, as every player has it, need even sides
                even = frame.width % 2 == frame.height % 2 == 0
                stream.pix_fmt = "yuv420p" if even else "yuv444p"
            frame.pts = max(round(time * TICKS), frame_times[-1] + 1 if frame_times else 0)
            frame.time_base = Fraction(1, TICKS)
            frame_times.append(frame.pts)
            container.mux(stream.encode(frame))

        frame_times: list[int] = []
        yield add
        container.mux(stream.encode())


def _upright(frame: Any) -> Tensor:
    """The pixels, turned as the file says: phones hold portraits as lying pictures."""
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()


def check_installed(files: Sequence[Path]) -> None:
    """InputError where a video is among the files, and PyAV is missing."""
    for file in filter(is_video, files):
        pyav(file)


def pyav(path: Path) -> ModuleType:
    """The module `av`; InputError, about the video `path`, where it is missing."""
    try:
        import av
    except ImportError:
        raise InputError(
            f"{path}: videos need PyAV, which is not installed: pip install 'anchorlab[video]'."
        ) from None
    module: ModuleType = av
    return module
