"""Drawing detections into images.

D detections, G ground-truth boxes; boxes are x1 y1 x2 y2 in pixels of the image that is drawn on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from detector import boxes as box_math
from detector.evaluation.palette import Color, color

LEGIBLE = 384  # images are enlarged to this shorter side, or labels would cover the objects
LARGEST = 4096  # the longer side to which images may be enlarged
GRAY = 40
LABELLED = 0.15  # share of an image that labels may cover, beside the best detection's

Rectangle = tuple[float, float, float, float]


def draw_detections(
    image: Tensor,
    boxes: Tensor,
    labels: Tensor,
    scores: Tensor,
    *,
    names: Sequence[str] | Mapping[int, str],
    threshold: float,
    truth: Tensor | None = None,
    shorter: int = LEGIBLE,
) -> Tensor:
    """The image with boxes, names and scores; small images are enlarged by a whole factor.

    `image` uint8 (3, H, W), `boxes` (D, 4), `labels` int (D,) into `names`, `scores` (D,);
    detections below `threshold` are left out. Higher scores are drawn on top. A detection has no
    label, and a thinner box, if its label would overlap that of a higher score, or if labels would
    cover more than 15 % of the image. `truth` (G, 4) is drawn as white dashes with
    a dark edge, and a caption of some 20 rows under the image says so; with None there is none.
    Returns uint8 (3, f H [+ caption], f W) on the CPU, f the least whole number that makes the
    shorter side `shorter` pixels or more (while the longer stays within 4096).
    """
    canvas, factor = _canvas(image, shorter)
    kept = (scores >= threshold).nonzero().flatten()
    kept = kept[scores[kept].argsort(descending=True, stable=True)].cpu()
    rectangles = _rectangles(boxes.cpu()[kept], factor, canvas)
    dashed = _rectangles(truth, factor, canvas) if truth is not None else []
    chosen = labels.cpu()[kept].tolist()
    scored = zip(chosen, scores.cpu()[kept].tolist(), strict=True)
    texts = [f"{names[label]} {score:.2f}" for label, score in scored]
    _draw(canvas, rectangles, texts, [color(label) for label in chosen], dashed)
    return _tensor(canvas if truth is None else _captioned(canvas, len(truth), _unit(canvas)))


def draw_boxes(image: Tensor, boxes: Tensor, labels: Sequence[int], texts: Sequence[str]) -> Tensor:
    """The image with boxes (g, 4), each in the colour of its label and with its text.

    Enlarged, and without some of the texts, as by `draw_detections`; the first are drawn on top.
    """
    canvas, factor = _canvas(image, LEGIBLE)
    _draw(canvas, _rectangles(boxes, factor, canvas), texts, [color(label) for label in labels], [])
    return _tensor(canvas)


def _draw(
    canvas: Image.Image,
    rectangles: list[Rectangle],
    texts: Sequence[str],
    colors: Sequence[Color],
    dashed: Sequence[Rectangle],
) -> None:
    pen, unit = ImageDraw.Draw(canvas), _unit(canvas)
    labelled = _label_positions(pen, rectangles, texts, unit)
    shown = list(zip(rectangles, labelled, texts, colors, strict=True))
    for rectangle, label_box, _, outline in reversed(shown):
        width = round(1.5 * unit) if label_box else math.ceil(0.5 * unit)
        pen.rectangle(rectangle, outline=outline, width=width)
    for rectangle in dashed:
        _dashed(pen, rectangle, unit)
    # after all boxes, so that no line crosses a label
    for _, label_box, text, background in shown:
        if label_box:
            _write(pen, label_box, text, background, unit)


def _unit(canvas: Image.Image) -> float:
    """Pixels that stand for one of an image of LEGIBLE pixels."""
    return max(1.0, min(canvas.size) / LEGIBLE)


def _tensor(canvas: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1).contiguous()


def _canvas(image: Tensor, shorter: int) -> tuple[Image.Image, int]:
    """A PIL image, and the whole factor by which it was enlarged."""
    canvas = Image.fromarray(image.cpu().permute(1, 2, 0).contiguous().numpy())
    wanted = math.ceil(shorter / min(canvas.size))
    factor = max(1, min(wanted, LARGEST // max(canvas.size)))
    size = (canvas.width * factor, canvas.height * factor)
    return canvas.resize(size, Image.Resampling.BICUBIC) if factor > 1 else canvas, factor


def _rectangles(boxes: Tensor, factor: int, canvas: Image.Image) -> list[Rectangle]:
    """Boxes (D, 4) in pixels of the canvas, clipped to it."""
    limit = torch.tensor([[canvas.height - 1, canvas.width - 1]])
    inside = box_math.clip(boxes.detach().cpu().float()[None] * factor, limit)[0]
    # Pillow refuses a rectangle whose right side is left of its left side
    ordered = torch.cat([inside[:, :2], torch.maximum(inside[:, :2], inside[:, 2:])], dim=1)
    return [tuple(row) for row in ordered.tolist()]


def _dashed(pen: ImageDraw.ImageDraw, rectangle: Rectangle, unit: float) -> None:
    """White dashes with a dark edge, visible on any background."""
    x1, y1, x2, y2 = rectangle
    sides = [(x1, y1, x2, y1), (x1, y2, x2, y2), (x1, y1, x1, y2), (x2, y1, x2, y2)]
    dashes = [dash for side in sides for dash in _dashes(side, 8 * unit)]
    for grow, ink in ((round(unit), "black"), (0, "white")):
        reach = grow + round(unit) // 2
        for left, top, right, bottom in dashes:
            pen.rectangle((left - reach, top - reach, right + reach, bottom + reach), fill=ink)


def _dashes(side: Rectangle, dash: float) -> list[Rectangle]:
    """The dashes of a horizontal or vertical line, which begins and ends with a dash."""
    x1, y1, x2, y2 = side
    pieces = 2 * round(max(x2 - x1, y2 - y1) / (2 * dash)) + 1  # odd: dash, gap, …, dash
    across, down = (x2 - x1) / pieces, (y2 - y1) / pieces
    return [
        (x1 + k * across, y1 + k * down, x1 + (k + 1) * across, y1 + (k + 1) * down)
        for k in range(0, pieces, 2)
    ]


def _captioned(canvas: Image.Image, count: int, unit: float) -> Image.Image:
    """The picture with a strip below that explains how the `count` ground-truth boxes are drawn."""
    font = _font(unit)
    height, margin = round(20 * unit), round(6 * unit)
    strip = Image.new("RGB", (canvas.width, canvas.height + height), (GRAY, GRAY, GRAY))
    strip.paste(canvas)
    pen = ImageDraw.Draw(strip)
    middle = canvas.height + height // 2
    text = "no ground truth here"
    left = margin
    if count:
        right = margin + round(40 * unit)
        _dashed(pen, (margin, middle, right, middle), unit)
        text, left = "ground truth, dashed", right + margin
    pen.text((left, middle), text, fill="white", font=font, anchor="lm")
    return strip


@lru_cache(maxsize=16)
def _font(unit: float) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: Pillow's own font has only the English letters."""
    from matplotlib import get_data_path  # takes .1 s, and training may draw nothing

    return ImageFont.truetype(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"), round(13 * unit))


def _label_positions(
    pen: ImageDraw.ImageDraw, rectangles: list[Rectangle], texts: Sequence[str], unit: float
) -> list[Rectangle | None]:
    """The rectangle of each label, best detection first; None if there is no room for it."""
    font, margin = _font(unit), round(3 * unit)
    budget = LABELLED * pen.im.size[0] * pen.im.size[1]
    taken: list[Rectangle] = []
    chosen: list[Rectangle | None] = []
    for rectangle, text in zip(rectangles, texts, strict=True):
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        size = (right - left + 2 * margin, bottom - top + 2 * margin)
        options = _candidates(rectangle, size, pen.im.size)
        free = (option for option in options if not any(_overlap(option, other) for other in taken))
        room = budget >= size[0] * size[1] or not taken
        chosen.append(next(free, None) if room else None)
        if chosen[-1]:
            taken.append(chosen[-1])
            budget -= size[0] * size[1]
    return chosen


def _write(
    pen: ImageDraw.ImageDraw, label_box: Rectangle, text: str, background: Color, unit: float
) -> None:
    font, margin = _font(unit), round(3 * unit)
    pen.rectangle(label_box, fill=background)
    left, top, _, _ = pen.textbbox((0, 0), text, font=font)
    red, green, blue = background
    bright = 0.299 * red + 0.587 * green + 0.114 * blue > 128  # luma of ITU-R BT.601
    ink = "black" if bright else "white"
    pen.text((label_box[0] + margin - left, label_box[1] + margin - top), text, fill=ink, font=font)


def _candidates(
    rectangle: Rectangle, size: tuple[float, float], canvas: tuple[int, int]
) -> list[Rectangle]:
    """Places of a label, moved into the canvas: above, below, inside top and bottom of a rectangle;
    then the same right-aligned."""
    x1, y1, x2, y2 = rectangle
    width, height = size
    corners = [
        (max(0, min(x, canvas[0] - 1 - width)), max(0, min(y, canvas[1] - 1 - height)))
        for x in (x1, x2 - width)
        for y in (y1 - height, y2, y1, y2 - height)
    ]
    return [(left, top, left + width, top + height) for left, top in corners]


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
