"""Images with their labels drawn, as JPEG data in the address of an <img>."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.io import encode_jpeg
from torchvision.transforms.v2 import functional as F

from detector.check.findings import Example, Finding
from detector.check.split import Split
from detector.data.images import read_image
from detector.engine.preflight import spread_rows
from detector.errors import InputError
from detector.evaluation.draw import draw_boxes

SAMPLE = 6  # images of each split
DRAWN = 3  # examples of each kind
LONGEST, QUALITY = 420, 75  # pixels to which large images are made smaller; of the JPEG


class Picture(NamedTuple):
    """A drawn image, or why there is none, and what stands below it."""

    address: str  # "" where the file cannot be read
    caption: str


def draw_all(splits: Sequence[Split], findings: Sequence[Finding]) -> dict[str, list[Picture]]:
    """A sample of all images under "sample", and the first examples of each finding by its kind."""
    by_name = {split.name: split for split in splits}
    sample = [
        _draw(split, split.of_image(int(split.index.image_ids[row])))
        for split in splits
        for row in spread_rows(split.index, SAMPLE)
    ]
    pictures = {"sample": sample}
    for finding in findings:
        shown = [one for one in finding.examples if one.image_id is not None][:DRAWN]
        pictures[finding.kind] = [_draw(by_name[one.split], one) for one in shown]
    return pictures


def _read(split: Split, example: Example) -> Tensor:
    """As training reads it: in the frame of the boxes, which may not be turned as EXIF data say."""
    index = split.index
    for row in np.flatnonzero(index.image_ids == example.image_id).tolist():
        return read_image(index.path(row), index.size(row), index.decoding)
    return read_image(index.images_dir / example.file_name, decoding=index.decoding)  # not usable


def _draw(split: Split, example: Example) -> Picture:
    """The image with the boxes of the example; with all of its boxes where it names none."""
    caption = str(example)
    try:
        image = _read(split, example)
    except (InputError, OSError):
        return Picture("", caption)
    content = split.content
    chosen = np.isin(content.ids, example.annotations)
    if not example.annotations:
        chosen = content.owners == example.image_id
    chosen &= np.isfinite(content.boxes).all(axis=1)
    boxes = torch.from_numpy(content.boxes[chosen]).float()
    boxes[:, 2:] += boxes[:, :2]
    ids = content.ids[chosen].tolist()
    factor = min(1.0, LONGEST / max(image.shape[-2:]))
    size = [max(1, round(side * factor)) for side in image.shape[-2:]]
    drawn = draw_boxes(
        F.resize(image, size, antialias=True),
        boxes * factor,
        [int(label) for label in content.label_ids[content.label_offsets[:-1][chosen]]],
        [split.label(annotation) for annotation in ids],
    )
    data = encode_jpeg(drawn, quality=QUALITY).numpy().tobytes()
    return Picture(f"data:image/jpeg;base64,{base64.b64encode(data).decode()}", caption)
