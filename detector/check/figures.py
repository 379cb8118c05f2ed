"""How a data set and a config fit: counts, sizes of boxes, anchors, a batch and its memory.

B boxes of all images together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detector import build
from detector.anchors.generator import AnchorsSettings
from detector.check.split import Split
from detector.config import Config
from detector.data.batch import SIDE_MULTIPLE, round_up
from detector.data.coco import CocoIndex
from detector.data.transforms import Resize
from detector.engine import preflight
from detector.structures import Batch

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
SIZES = (0.0, 16.0, 32.0, 64.0, 128.0, 256.0, float("inf"))  # square root of the area, pixels
RATIOS = (0.0, 1 / 3, 2 / 3, 1.5, 3.0, float("inf"))  # height / width
MOST_COMPARED, MOST_MATCHED = 500, 100  # images


@dataclass(frozen=True)
class Counts:
    """What a split holds that can be used."""

    split: str
    images: int
    boxes: int  # without crowds
    crowds: int
    boxes_an_image: tuple[int, float, int]  # least, median, most
    class_names: tuple[str, ...]  # K
    by_class: list[int]  # K, boxes without crowds
    sizes: list[float]  # quantiles of the square root of the area after the resize, in pixels
    ratios: list[float]  # quantiles of height / width after the resize


@dataclass(frozen=True)
class Band:
    """How anchors reach the boxes of one range of sizes or ratios."""

    range: str
    boxes: int
    reached: float  # share with an IoU of matching.foreground or more
    mean_iou: float  # of each box with its best anchor


@dataclass(frozen=True)
class Fit:
    """How anchors reach the training boxes."""

    anchors: str  # YAML
    total: Band
    by_size: list[Band]
    by_ratio: list[Band]


@dataclass(frozen=True)
class BatchFigures:
    """What the assignment makes of training images, and what a batch needs."""

    images: int  # that were matched
    positives: float  # anchors an image
    ignored: float
    negatives: float
    without_positive: int  # boxes that no anchor is trained on
    boxes: int
    initial_loss: float  # expected of an untrained head
    height: int  # of the largest padded image
    width: int
    images_at_a_time: int  # of a forward pass
    weights_mb: float  # weights, gradients, the optimizer's moments and the moving average
    activations_mb: float  # what the backward pass needs of the forward pass, in float32


def count(split: Split, resize: Resize) -> Counts:
    """The figures of one split."""
    index = split.index
    crowd = torch.from_numpy(index.crowd)
    offsets = torch.from_numpy(index.box_offsets)
    rows = torch.arange(len(index)).repeat_interleave(offsets.diff())[~crowd]
    each = torch.bincount(rows, minlength=len(index))
    sides = preflight.resized_sides(index, resize).double()
    return Counts(
        split=split.name,
        images=len(index),
        boxes=len(sides),
        crowds=int(crowd.sum()),
        boxes_an_image=(int(each.min()), float(each.double().quantile(0.5)), int(each.max())),
        class_names=index.category_names,
        by_class=index.boxes_per_class.tolist(),
        sizes=_quantiles(sides.prod(dim=1).sqrt()),
        ratios=_quantiles(sides[:, 1] / sides[:, 0]),
    )


def _quantiles(values: Tensor) -> list[float]:
    if not len(values):
        return []
    ordered = values.sort().values
    # torch.quantile refuses more than 2^24 values
    places = [round(q * (len(ordered) - 1)) for q in QUANTILES]
    return [round(value, 3) for value in ordered[places].tolist()]


def fit_of(config: Config, index: CocoIndex, foreground: float) -> Fit:
    """How its anchors reach the boxes of up to MOST_COMPARED images, evenly spread."""
    rows = preflight.spread_rows(index, MOST_COMPARED)
    generator, resize = build.anchor_generator(config), config.data.resize.resize()
    sides, best = preflight.best_overlaps(index, resize, generator, rows)
    size, ratio = sides.prod(dim=1).sqrt(), sides[:, 1] / sides[:, 0]
    return Fit(
        anchors=_as_yaml(config.anchors),
        total=_band("all", best, foreground),
        by_size=_bands(size, SIZES, best, foreground),
        by_ratio=_bands(ratio, RATIOS, best, foreground),
    )


def _bands(values: Tensor, edges: Sequence[float], best: Tensor, foreground: float) -> list[Band]:
    bands = []
    for low, high in zip(edges, edges[1:], strict=False):
        name = f"{low:.3g} to {high:.3g}" if high < edges[-1] else f"{low:.3g} and more"
        bands.append(_band(name, best[(values >= low) & (values < high)], foreground))
    return [band for band in bands if band.boxes]


def _band(name: str, best: Tensor, foreground: float) -> Band:
    boxes = max(1, len(best))
    reached = int((best >= foreground).sum()) / boxes
    return Band(name, len(best), round(reached, 4), round(float(best.sum()) / boxes, 3))


def _as_yaml(anchors: AnchorsSettings | str) -> str:
    """The section of a config."""
    if isinstance(anchors, str):
        return f"anchors: {anchors}"
    if anchors.cells is not None:
        return f"anchors: {{cells: {[[list(pair) for pair in level] for level in anchors.cells]}}}"
    keys = ("sizes", "scales", "ratios")
    values = ", ".join(f"{key}: {[float(f'{v:g}') for v in getattr(anchors, key)]}" for key in keys)
    return f"anchors: {{{values}}}"


def batch_figures(config: Config, index: CocoIndex) -> BatchFigures:
    """What the config makes of up to MOST_MATCHED training images, evenly spread."""
    resize, generator, matcher = (
        config.data.resize.resize(), build.anchor_generator(config), build.matcher(config)
    )  # fmt: skip
    code = build.class_code(config, index.num_classes)
    criterion = build.criterion(config, code, torch.from_numpy(index.boxes_per_class))
    rows = preflight.spread_rows(index, MOST_MATCHED)
    kinds, tally, boxes, matched = torch.zeros(3).double(), torch.zeros(4).double(), 0, 0
    for row in rows:
        batch = unread_batch(index, resize, row)
        targets = matcher(generator(*batch.images.shape[-2:]), batch)
        tally += preflight.expected_tally(criterion, targets)
        foreground, background = targets.foreground.sum(), targets.background.sum()
        kinds += torch.stack(
            [foreground, targets.matches.numel() - foreground - background, background]
        )
        boxes += int((~batch.crowd).sum())
        matched += len(targets.matches[targets.foreground].unique())
    positives, ignored, negatives = (kinds / len(rows)).tolist()
    height, width = largest_image(index, resize)
    images = config.train.batch_size // config.optimizer.accumulate
    weights, activations = memory(config, index.num_classes, (images, 3, height, width))
    return BatchFigures(
        images=len(rows),
        positives=round(positives, 2),
        ignored=round(ignored, 2),
        negatives=round(negatives, 2),
        without_positive=boxes - matched,
        boxes=boxes,
        initial_loss=round(float(criterion.means(tally)[0]), 4),
        height=height,
        width=width,
        images_at_a_time=images,
        weights_mb=round(weights / 1e6, 1),
        activations_mb=round(activations / 1e6, 1),
    )


def unread_batch(index: CocoIndex, resize: Resize, row: int) -> Batch:
    """A batch of one image with its boxes and padding, as in evaluation; all pixels are 0."""
    boxes, (tall, wide) = preflight.resized_boxes(index, resize, row)
    truth = index.truth(row)
    height, width = (round_up(side, SIDE_MULTIPLE) for side in (tall, wide))
    return Batch(
        images=torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(1, 3, height, width),
        sizes=torch.tensor([[tall, wide]]),
        original_sizes=torch.tensor([index.size(row)]),
        image_ids=torch.tensor([int(index.image_ids[row])]),
        keys=torch.zeros(1, dtype=torch.int64),
        boxes=boxes[None],
        labels=truth.labels[None],
        present=torch.ones(1, len(boxes), dtype=torch.bool),
        crowd=truth.crowd[None],
    )


def largest_image(index: CocoIndex, resize: Resize) -> tuple[int, int]:
    """Height and width of the padded image with the most pixels."""
    target = resize.for_evaluation().target
    sizes = {tuple(size) for size in index.sizes.tolist()}
    targets = (target(height, width, draw=0.0) for height, width in sizes)
    padded = {tuple(round_up(side, SIDE_MULTIPLE) for side in one) for one in targets}
    height, width = max(sorted(padded), key=lambda shape: shape[0] * shape[1])
    return height, width


def memory(config: Config, classes: int, shape: tuple[int, int, int, int]) -> tuple[int, int]:
    """Bytes of all that is kept for each weight, and of what a forward pass keeps for backward.

    shape: of the images of one forward pass. Shapes alone are computed, on torch's meta device, in
    float32. Left out are the loss, workspaces of the kernels, and what the allocator wastes.
    """
    net = build.model(config, build.class_code(config, classes)).to("meta").train()
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    every = sum(t.numel() for t in [*net.parameters(), *net.buffers()])
    moments = 1 if config.optimizer.name == "sgd" else 2
    averaged = every if config.train.ema else 0
    kept: dict[int, int] = {}
    alive = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        alive.append(storage)
        kept.setdefault(storage._cdata, storage.nbytes())
        return tensor

    for parameter in net.parameters():
        kept[parameter.untyped_storage()._cdata] = 0  # counted as weights
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = net(torch.zeros(shape, dtype=torch.uint8, device="meta"))
    del outputs
    return 4 * (every + trained * (1 + moments) + averaged), sum(kept.values())
