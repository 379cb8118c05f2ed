"""Collation of samples of different sizes into one padded batch.

N samples, g boxes of one sample, G boxes after padding, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detector.structures import Batch

MEAN_COLOUR = (124, 116, 104)  # ImageNet's mean; after normalisation, padding is about 0
SIDE_MULTIPLE = 32  # pixels; the coarsest stride of most backbones
BOX_MULTIPLE = 8  # a compiled step compiles again for every shape, so there should be few


@dataclass(frozen=True)
class Sample:
    """One image and its ground truth."""

    image: Tensor  # uint8 (3, H, W)
    boxes: Tensor  # float32 (g, 4) x1 y1 x2 y2 in pixels of `image`
    labels: Tensor  # bool (g, K), multi-hot
    crowd: Tensor  # bool (g,)
    image_id: int
    original_size: tuple[int, int]  # height, width of the image in its file
    key: int  # random, from (seed, epoch, index) alone; 0 <= key < 2**62

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of `image`."""
        height, width = self.image.shape[1:]
        return height, width


def unlabelled(image: Tensor, *, classes: int, image_id: int = 0) -> Sample:
    """An image, uint8 (3, H, W), without boxes."""
    height, width = image.shape[-2:]
    return Sample(
        image=image,
        boxes=torch.zeros(0, 4),
        labels=torch.zeros(0, classes, dtype=torch.bool),
        crowd=torch.zeros(0, dtype=torch.bool),
        image_id=image_id,
        original_size=(height, width),
        key=0,
    )


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `value`."""
    return -(-value // multiple) * multiple


def filled(height: int, width: int) -> Tensor:
    """uint8 (3, height, width) of the mean colour."""
    colour = torch.tensor(MEAN_COLOUR, dtype=torch.uint8)
    return colour[:, None, None].repeat(1, height, width)


def collate(samples: Sequence[Sample]) -> Batch:
    """A batch whose images are padded at the right and bottom to multiples of SIDE_MULTIPLE.

    G is a positive multiple of BOX_MULTIPLE, even if no sample has a box.
    """
    if not samples:
        raise ValueError("samples is empty; a batch needs at least one.")
    heights, widths = zip(*(sample.size for sample in samples), strict=True)
    height, width = round_up(max(heights), SIDE_MULTIPLE), round_up(max(widths), SIDE_MULTIPLE)
    padded = round_up(max(1, *(len(sample.boxes) for sample in samples)), BOX_MULTIPLE)
    classes = samples[0].labels.shape[1]
    images = filled(height, width).repeat(len(samples), 1, 1, 1)
    boxes = torch.zeros(len(samples), padded, 4)
    labels = torch.zeros(len(samples), padded, classes, dtype=torch.bool)
    present, crowd = torch.zeros(2, len(samples), padded, dtype=torch.bool)
    for row, sample in enumerate(samples):
        count = len(sample.boxes)
        height, width = sample.size
        images[row, :, :height, :width] = sample.image
        boxes[row, :count] = sample.boxes
        labels[row, :count] = sample.labels
        present[row, :count] = True
        crowd[row, :count] = sample.crowd
    return Batch(
        images=images,
        sizes=torch.tensor([sample.size for sample in samples]),
        original_sizes=torch.tensor([sample.original_size for sample in samples]),
        image_ids=torch.tensor([sample.image_id for sample in samples]),
        keys=torch.tensor([sample.key for sample in samples]),
        boxes=boxes,
        labels=labels,
        present=present,
        crowd=crowd,
    )
