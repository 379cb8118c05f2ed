"""The fixed size of an exported program's images, and how an image is fitted into it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from detector.data.batch import SIDE_MULTIPLE, collate, round_up, unlabelled
from detector.data.geometry import Area, crop_and_resize
from detector.data.transforms import FixedSize, Resize, ShorterSide
from detector.errors import InputError
from detector.structures import Batch


@dataclass(frozen=True)
class Canvas:
    """Images of height x width, into whose upper left corner each image is resized.

    The resize is that of evaluation, or a smaller one where the image would not fit.
    """

    resize: Resize
    height: int  # pixels
    width: int

    @classmethod
    def of(cls, resize: Resize, size: tuple[int, int] | None) -> Canvas:
        """Of `size` height, width; None: the smallest one into which every resized image fits.

        Raises InputError for a size that the network cannot take, or that the resize forbids.
        """
        match resize:
            case FixedSize():
                fits = resize.height, resize.width
            case ShorterSide():
                fits = resize.longer, resize.longer
            case _:
                raise InputError(
                    f"data.resize is {resize}, which no exported program knows; it should be of "
                    "kind shorter_side or fixed_size."
                )
        whole = round_up(fits[0], SIDE_MULTIPLE), round_up(fits[1], SIDE_MULTIPLE)
        height, width = size or whole
        if height < SIDE_MULTIPLE or width < SIDE_MULTIPLE or (height | width) % SIDE_MULTIPLE:
            raise InputError(
                f"--size {height} {width}: height and width should be multiples of "
                f"{SIDE_MULTIPLE} pixels, the stride of the backbone."
            )
        if isinstance(resize, FixedSize) and (height, width) != whole:
            raise InputError(
                f"--size {height} {width}: the run resizes every image to {resize.height} x "
                f"{resize.width} (height x width), so leave --size out; another size is "
                "--set data.resize={width: W, height: H}."
            )
        return cls(resize.for_evaluation(), height, width)

    @property
    def rule(self) -> dict[str, int]:
        """Pixels for the metadata: of the shorter and the longer side, or of height and width."""
        if isinstance(self.resize, FixedSize):
            return {"height": self.resize.height, "width": self.resize.width}
        return {"shorter": self.resize.shorter[0], "longer": self.resize.longer}

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Height and width to which an image of `height` x `width` is resized."""
        if isinstance(self.resize, FixedSize):
            return self.resize.height, self.resize.width
        scale = min(
            self.resize.shorter[0] / min(height, width),
            self.resize.longer / max(height, width),
            self.height / height,
            self.width / width,
        )
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def batch(self, image: Tensor) -> Batch:
        """One image, uint8 (3, h, w) RGB, on the canvas; detections are in the canvas's pixels."""
        height, width = image.shape[1:]
        target = self.target(height, width)
        window, spot, whole = (
            Area(0, 0, height, width),
            Area(0, 0, *target),
            (self.height, self.width),
        )
        sample = crop_and_resize(unlabelled(image, classes=1), window, spot, whole)
        sizes = torch.tensor([target])
        return replace(collate([sample]), sizes=sizes, original_sizes=sizes)
