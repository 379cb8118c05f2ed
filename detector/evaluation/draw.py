"""Detections drawn into images.

D detections, G ground-truth boxes; boxes are x1 y1 x2 y2 in pixels of the image that is drawn on.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from detector import boxes as box_math

LEGIBLE = 384  # a shorter side below this is enlarged, or the text would cover the objects
LARGEST = 4096  # but never beyond this longer side
GAP = 6  # pixels between the images of a contact sheet
GRAY = 40
# Okabe and Ito 2008: told apart with every common colour blindness.
COLORS = [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178),
          (213, 94, 0), (204, 121, 167)]  # fmt: skip

Rectangle = tuple[float, float, float, float]


def draw(
    image: Tensor,
    boxes: Tensor,
    labels: Tensor,
    scores: Tensor,
    *,
    names: Sequence[str],
    threshold: float,
    truth: Tensor | None = None,
) -> Tensor:
    """The image with boxes, names and scores; small images are enlarged by a whole factor.

    `image` uint8 (3, H, W), `boxes` (D, 4), `labels` int (D,) into `names`, `scores` (D,);
    detections below `threshold` are left out. `truth` (G, 4) is drawn as thin dashed white boxes.
    Returns uint8 (3, f H, f W) on the CPU, f the least whole number that
    makes the shorter side 384 pixels or more (while the longer stays within 4096).
    """
    canvas, factor = _canvas(image)
    pen = ImageDraw.Draw(canvas)
    unit = max(1.0, min(canvas.size) / LEGIBLE)
    for rectangle in _rectangles(truth, factor, canvas) if truth is not None else []:
        _dashed(pen, rectangle, unit)
    kept = (scores >= threshold).nonzero().flatten()
    kept = kept[scores[kept].argsort(descending=True, stable=True)].cpu()
    rectangles = _rectangles(boxes.cpu()[kept], factor, canvas)
    chosen = labels.cpu()[kept].tolist()
    for rectangle, label in reversed(list(zip(rectangles, chosen, strict=True))):
        pen.rectangle(rectangle, outline=color(label), width=round(1.5 * unit))
    found = zip(chosen, scores.cpu()[kept].tolist(), strict=True)
    texts = [f"{names[label]} {score:.2f}" for label, score in found]
    _write_labels(pen, rectangles, texts, [color(label) for label in chosen], unit)
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1).contiguous()


def contact_sheet(images: Sequence[Tensor], *, columns: int) -> Tensor:
    """Images uint8 (3, h, w) of any sizes, row by row -> uint8 (3, H, W) on dark gray."""
    assert images and columns >= 1
    height, width = (max(image.shape[side] for image in images) for side in (1, 2))
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    size = (rows * (height + GAP) + GAP, columns * (width + GAP) + GAP)
    sheet = torch.full((3, *size), GRAY, dtype=torch.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top = GAP + row * (height + GAP) + (height - image.shape[1]) // 2
        left = GAP + column * (width + GAP) + (width - image.shape[2]) // 2
        sheet[:, top : top + image.shape[1], left : left + image.shape[2]] = image
    return sheet


def color(label: int) -> tuple[int, int, int]:
    """The class's colour, red green blue 0..255; the first seven are colour-blind safe."""
    if label < len(COLORS):
        return COLORS[label]
    hue = (label * 0.618034) % 1  # the golden ratio keeps neighbours apart
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.6 + 0.4 * (label % 2), 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _canvas(image: Tensor) -> tuple[Image.Image, int]:
    """A PIL image and how many times larger it is."""
    canvas = Image.fromarray(image.cpu().permute(1, 2, 0).contiguous().numpy())
    wanted = math.ceil(LEGIBLE / min(canvas.size))
    factor = max(1, min(wanted, LARGEST // max(canvas.size)))
    size = (canvas.width * factor, canvas.height * factor)
    return canvas.resize(size, Image.Resampling.BICUBIC) if factor > 1 else canvas, factor


def _rectangles(boxes: Tensor, factor: int, canvas: Image.Image) -> list[Rectangle]:
    """Boxes (D, 4) in pixels of the canvas, cut to what can be seen of them."""
    limit = torch.tensor([[canvas.height - 1, canvas.width - 1]])
    inside = box_math.clip(boxes.detach().cpu().float()[None] * factor, limit)[0]
    ordered = torch.cat([inside[:, :2], torch.maximum(inside[:, :2], inside[:, 2:])], dim=1)
    return [tuple(row) for row in ordered.tolist()]


def _dashed(pen: ImageDraw.ImageDraw, rectangle: Rectangle, unit: float) -> None:
    """White dashes on a black line: seen on any ground."""
    x1, y1, x2, y2 = rectangle
    dash, width = 5 * unit, round(unit)
    pen.rectangle(rectangle, outline="black", width=width)
    for start, end in _dashes(x1, x2, dash):
        pen.line([(start, y1), (end, y1)], fill="white", width=width)
        pen.line([(start, y2), (end, y2)], fill="white", width=width)
    for start, end in _dashes(y1, y2, dash):
        pen.line([(x1, start), (x1, end)], fill="white", width=width)
        pen.line([(x2, start), (x2, end)], fill="white", width=width)


def _dashes(start: float, end: float, dash: float) -> Iterator[tuple[float, float]]:
    for index in range(math.ceil((end - start) / (2 * dash))):
        first = start + 2 * dash * index
        yield first, min(first + dash, end)


def _write_labels(
    pen: ImageDraw.ImageDraw,
    rectangles: list[Rectangle],
    texts: list[str],
    colors: list[tuple[int, int, int]],
    unit: float,
) -> None:
    """Best placed first and painted last; none hides a better one while there is another place."""
    font = ImageFont.load_default(size=round(13 * unit))
    margin = round(3 * unit)
    taken: list[Rectangle] = []
    for rectangle, text in zip(rectangles, texts, strict=True):
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        size = (right - left + 2 * margin, bottom - top + 2 * margin)
        places = [_inside(place, size, pen.im.size) for place in _places(rectangle, size)]
        free = (p for p in places if not any(_overlap(p, other) for other in taken))
        taken.append(next(free, places[0]))
    for place, text, background in reversed(list(zip(taken, texts, colors, strict=True))):
        pen.rectangle(place, fill=background)
        left, top, _, _ = pen.textbbox((0, 0), text, font=font)
        ink = "black" if _bright(background) else "white"
        pen.text((place[0] + margin - left, place[1] + margin - top), text, fill=ink, font=font)


def _places(rectangle: Rectangle, size: tuple[float, float]) -> list[tuple[float, float]]:
    """Left top corners: on the box, under it, then inside it at the top and at the bottom."""
    x1, y1, _, y2 = rectangle
    return [(x1, y1 - size[1]), (x1, y2), (x1, y1), (x1, y2 - size[1])]


def _inside(
    corner: tuple[float, float], size: tuple[float, float], canvas: tuple[int, int]
) -> Rectangle:
    """The label's rectangle, moved into the canvas where it can be."""
    left = max(0, min(corner[0], canvas[0] - 1 - size[0]))
    top = max(0, min(corner[1], canvas[1] - 1 - size[1]))
    return left, top, left + size[0], top + size[1]


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _bright(color: tuple[int, int, int]) -> bool:
    """Whether black is easier to read on it than white (luma of ITU-R BT.601)."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 128
