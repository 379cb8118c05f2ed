"""Made-up data of realistic sizes: batches, matched anchors, annotation files, photographs.

N images, A anchors, G boxes of an image, K classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.io import write_jpeg

from detector.data.batch import Sample, collate
from detector.structures import BACKGROUND, Batch, Targets

PHOTOGRAPH = (480, 640)  # height and width; most of COCO's have these sides
BOXES = 8  # of an image; COCO has 7
FOREGROUND_EVERY = 500  # one anchor in so many is foreground
CLASSES = 80  # of annotation files
FILES = 32  # photographs that are drawn; more images repeat them
# x and y of eight points on the outline of a box of width and height 1
OUTLINE = np.array([(0, 0), (0.5, 0), (1, 0), (1, 0.5), (1, 1), (0.5, 1), (0, 1), (0, 0.5)])


def batch(count: int, height: int, width: int, *, boxes: int, classes: int) -> Batch:
    """`count` images of noise, with random boxes of random classes."""
    random = fixed_generator()
    samples = [
        Sample(
            image=torch.randint(256, (3, height, width), dtype=torch.uint8, generator=random),
            boxes=rectangles(boxes, height, width, random),
            labels=F.one_hot(torch.randint(classes, (boxes,), generator=random), classes).bool(),
            crowd=torch.zeros(boxes, dtype=torch.bool),
            image_id=index,
            original_size=(height, width),
            key=index,
        )
        for index in range(count)
    ]
    return collate(samples)


def rectangles(count: int, height: int, width: int, random: torch.Generator) -> Tensor:
    """(count, 4) x1 y1 x2 y2 in pixels; sides of a hundredth to a fifth of the image's."""
    corner, side = torch.rand(2, count, 2, generator=random)
    corners = torch.cat([0.8 * corner, 0.8 * corner + 0.01 + 0.19 * side], dim=1)
    return corners * torch.tensor([width, height]).repeat(2)


def targets(images: int, anchors: int, *, classes: int, on: torch.device) -> Targets:
    """Background but for every so-many-th anchor; none is ignored."""
    made = batch(images, 1000, 1000, boxes=BOXES, classes=classes).to(on)
    matches = torch.full((images, anchors), BACKGROUND)
    foreground = matches[:, ::FOREGROUND_EVERY]
    foreground[:] = torch.arange(foreground.shape[1]) % BOXES
    places = rectangles(anchors, 1000, 1000, fixed_generator())
    return Targets(places.to(on), matches.to(on), made.boxes, made.labels, made.keys)


def fixed_generator() -> torch.Generator:
    """A CPU generator with seed 0."""
    return torch.Generator().manual_seed(0)


def coco_document(images: int, boxes: int) -> dict[str, Any]:
    """A COCO document: photographs, of which FILES are distinct, with `boxes` spread at random."""
    height, width = PHOTOGRAPH
    owners, corners, classes = _scattered(images, boxes, np.random.default_rng(0))
    # most of the bytes of COCO's files are such outlines
    outlines = (corners[:, None, :2] + OUTLINE * corners[:, None, 2:]).round(2).reshape(-1, 16)
    rows = zip(*(a.tolist() for a in (owners, corners, classes, outlines)), strict=True)
    return {
        "images": [
            {"id": n + 1, "file_name": f"{n % FILES}.jpg", "height": height, "width": width}
            for n in range(images)
        ],
        "categories": [{"id": k + 1, "name": f"class {k + 1}"} for k in range(CLASSES)],
        "annotations": [
            {"id": n + 1, "image_id": owner, "category_id": label, "bbox": box, "iscrowd": 0,
             "area": round(box[2] * box[3], 2), "segmentation": [outline]}
            for n, (owner, box, label, outline) in enumerate(rows)
        ],
    }  # fmt: skip


def write_coco(folder: Path, document: dict[str, Any]) -> Path:
    """The file of a document, in one line, as other programs write them."""
    file = folder / "annotations.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def detections(truth: dict[str, Any], count: int) -> np.ndarray:
    """Rows (count, 7) of evaluation.predict.coco_rows: one near each true box, others anywhere."""
    random = np.random.default_rng(1)
    owners, corners, classes = _scattered(len(truth["images"]), count, random)
    rows = np.column_stack([owners, corners, random.random(count), classes])
    near = truth["annotations"][:count]
    rows[: len(near), :5] = [[a["image_id"], *a["bbox"]] for a in near]
    rows[: len(near), 1:3] += random.normal(0, 3, (len(near), 2))
    rows[: len(near), 6] = [a["category_id"] for a in near]
    return rows


def photographs(folder: Path) -> None:
    """FILES smooth JPEG images of about 100 kB, with the names of `coco_document`."""
    random = fixed_generator()
    for index in range(FILES):
        coarse = 255 * torch.rand(1, 3, 24, 32, generator=random)
        fine = 30 * torch.rand(1, 3, *PHOTOGRAPH, generator=random)
        smooth = F.interpolate(coarse, PHOTOGRAPH, mode="bicubic", align_corners=False)
        image = (smooth + fine - 15).clamp(0, 255).byte()[0]
        write_jpeg(image, str(folder / f"{index}.jpg"), quality=90)


def _scattered(
    images: int, count: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image ids, boxes (count, 4) x y width height in a photograph, and category ids."""
    size = np.array(PHOTOGRAPH[::-1])
    side = 8 + random.random((count, 2)) * size / 4
    corner = random.random((count, 2)) * (size - side)
    owners, classes = random.integers(1, images + 1, count), random.integers(1, CLASSES + 1, count)
    return owners, np.hstack([corner, side]).round(2), classes
