"""Images of a run with the most errors: truth and detections, drawn side by side."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from detector.data.images import read_image
from detector.evaluation.draw import draw_boxes, draw_detections
from detector.report.run_evaluation import ImageErrors, RunEvaluation, worst_images

MOST_IMAGES = 12
LONGEST = 400  # pixels of the longer side
QUALITY = 70  # of JPEG: 24 such pictures, of noise even, have less than 2 MB


@dataclass(frozen=True)
class DrawnImage:
    """One image twice, each in the address of an <img>."""

    file: str
    errors: ImageErrors
    truth: str
    detections: str


def drawn_images(evaluation: RunEvaluation, score: float) -> list[DrawnImage]:
    """The images with the most errors of detections from `score`; InputError for one unreadable."""
    return [
        _drawn(evaluation, errors, score) for errors in worst_images(evaluation, score, MOST_IMAGES)
    ]


def _drawn(evaluation: RunEvaluation, errors: ImageErrors, score: float) -> DrawnImage:
    index = evaluation.index
    row = int(np.flatnonzero(index.image_ids == errors.image_id)[0])
    image = read_image(index.path(row), decoding=index.decoding)
    truth = index.truth(row)
    which, labels = truth.labels[~truth.crowd].nonzero(as_tuple=True)
    boxes = truth.boxes[~truth.crowd][which]
    own = evaluation.rows[
        (evaluation.rows[:, 0] == errors.image_id) & (evaluation.rows[:, 5] >= score)
    ]
    found = torch.from_numpy(own)
    corners = torch.cat([found[:, 1:3], found[:, 1:3] + found[:, 3:5]], dim=1)
    classes = torch.from_numpy(np.searchsorted(index.category_ids, own[:, 6]))
    names = [evaluation.names[label] for label in labels.tolist()]
    drawn = draw_detections(
        image, corners, classes, found[:, 5], names=evaluation.names, threshold=0
    )
    return DrawnImage(
        file=str(index.file_names[row]),
        errors=errors,
        truth=jpeg_address(draw_boxes(image, boxes, labels.tolist(), names)),
        detections=jpeg_address(drawn),
    )


def jpeg_address(picture: Tensor) -> str:
    """A uint8 picture (3, H, W) as a JPEG of at most LONGEST pixels a side."""
    small = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
    small.thumbnail((LONGEST, LONGEST))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
