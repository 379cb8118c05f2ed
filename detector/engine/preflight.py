"""Checks and descriptions before the first step: data, resources, anchors and initial loss."""

from __future__ import annotations

import math
import resource
import shutil
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import box_iou

from detector.anchors.generator import AnchorGenerator
from detector.anchors.matching import MatchingSettings
from detector.boxes import centred_inside
from detector.data.batch import SIDE_MULTIPLE, round_up
from detector.data.coco import CocoIndex
from detector.data.defects import NAMED
from detector.data.loader import PREFETCHED, SHARED
from detector.data.transforms import FixedSize, ShorterSide
from detector.engine.step import TrainingStep
from detector.errors import InputError
from detector.loss.detection import DetectionLoss
from detector.structures import Batch, Outputs, Targets

Resize = ShorterSide | FixedSize
# open files: pipes and sentinels of each worker; everything else of a process
FILES_OF_A_WORKER, FILES_OF_A_PROCESS = 8, 32


def describe_data(name: str, index: CocoIndex) -> str:
    """Counts of images, boxes, classes and skipped entries of a data set, as lines of text."""
    without = int((index.box_offsets[1:] == index.box_offsets[:-1]).sum())
    counts = zip(index.category_names, index.boxes_per_class.tolist(), strict=True)
    classes = ", ".join(f"{name} {count}" for name, count in counts)
    lines = [
        f"{name}: {len(index.image_ids)} images ({without} without boxes), "
        f"{len(index.boxes)} boxes ({int(index.crowd.sum())} crowds)",
        f"  boxes by class: {classes}",
    ]
    if index.area_replaced.any():
        lines.append(
            f"  area not above 0: {int(index.area_replaced.sum())} boxes; taken as width x height"
        )
    lines += [f"  skipped: {count} {reason}" for reason, count in index.skipped.items()]
    return "\n".join(lines)


def check_batch_norm(
    net: nn.Module, sizes: NDArray[np.int32], resize: Resize, *, images: int
) -> None:
    """InputError if batch normalization would be trained on a single value per channel.

    sizes (I, 2) height, width of the images; images: how many are normalized together. An image of
    SIDE_MULTIPLE pixels a side has a single cell at the backbone's coarsest stride. torch refuses
    to train batch norm on it, but only when that image is drawn, perhaps hours later.
    """
    norms = [m for m in net.train().modules() if isinstance(m, nn.BatchNorm2d | nn.SyncBatchNorm)]
    if images > 1 or not any(norm.training for norm in norms):
        return
    if isinstance(resize, ShorterSide):
        # the smallest size that may be drawn is the one that can fail
        resize = replace(resize, shorter=(min(resize.shorter),))
    for height, width in np.unique(sizes, axis=0).tolist():
        side = max(resize.target(height, width, draw=0.0))
        if side <= SIDE_MULTIPLE:
            raise InputError(
                f"train.batch_size: one image of {width} x {height} pixels, resized to a longer "
                f"side of {side}, has a single value a channel at stride {SIDE_MULTIPLE}, which "
                "batch normalization cannot be trained on: set a larger train.batch_size (for each "
                "process and micro-batch) or data.resize, or model.backbone.norm to group."
            )


def check_worker_resources(
    sizes: NDArray[np.int32], resize: Resize, *, workers: int, batch_size: int, processes: int
) -> None:
    """InputError if the prefetched batches need more shared memory or open files than there are.

    sizes (I, 2) height, width of the images; batch_size: images of a batch of one process;
    processes: how many processes of this machine load images.
    """
    if not workers or not SHARED.is_dir():
        return
    batches, largest = workers * PREFETCHED, resize.for_evaluation()
    shapes = [largest.target(*size, draw=0.0) for size in np.unique(sizes, axis=0).tolist()]
    pixels = max(math.prod(round_up(side, SIDE_MULTIPLE) for side in shape) for shape in shapes)
    needed = processes * batches * batch_size * 3 * pixels
    free = shutil.disk_usage(SHARED).free
    if needed > free:
        raise InputError(
            f"{SHARED}: {free / 1e6:.1f} MB of shared memory are free, but data.workers={workers} "
            f"hold up to {needed / 1e6:.1f} MB of batches ready: give a container more by "
            "--shm-size, or set fewer data.workers (data.workers=0 needs none)."
        )
    # torch hands each tensor of a batch over as one open file in shared memory
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    files = batches * len(fields(Batch)) + workers * FILES_OF_A_WORKER + FILES_OF_A_PROCESS
    if files > limit != resource.RLIM_INFINITY:
        raise InputError(
            f"ulimit -n allows {limit} open files, but data.workers={workers} need up to {files}: "
            "raise it (ulimit -n 4096), or set fewer data.workers (data.workers=0 needs none)."
        )


def describe_anchors(anchor_generator: AnchorGenerator, height: int, width: int) -> str:
    """A line of text: how many anchors an image of height x width has at each stride."""
    lengths = anchor_generator.level_lengths(height, width)
    levels = ", ".join(
        f"{n} at stride {s}" for n, s in zip(lengths, anchor_generator.strides, strict=True)
    )
    return f"anchors: {sum(lengths)} in an image of {height} x {width}: {levels}"


def reached_from(matching: MatchingSettings) -> float:
    """The IoU from which an anchor reaches a box.

    With thresholds of its own for each box, the usual one still says whether anchors fit.
    """
    return float(getattr(matching, "foreground", 0.5))


def count_reachable_boxes(
    index: CocoIndex,
    resize: Resize,
    anchor_generator: AnchorGenerator,
    *,
    foreground: float,
    most: int = 500,
) -> tuple[int, int]:
    """How many boxes some anchor overlaps with an IoU of at least `foreground`, and of how many.

    Crowds are not counted. Looks at up to `most` images, evenly spread over the index.
    """
    _, overlaps = best_overlaps(index, resize, anchor_generator, spread_rows(index, most))
    return int((overlaps >= foreground).sum()), len(overlaps)


def spread_rows(index: CocoIndex, most: int) -> list[int]:
    """Up to `most` rows of images, evenly spread over the index."""
    rows = np.linspace(0, len(index) - 1, min(most, len(index))).astype(int)
    return [int(row) for row in np.unique(rows)]


def best_overlaps(
    index: CocoIndex, resize: Resize, anchor_generator: AnchorGenerator, rows: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Width and height (B, 2) of the boxes of some images, and each one's best IoU (B,).

    Images are resized as in evaluation. Crowds do not count, nor do anchors centred outside the
    image, as in training.
    """
    sides, best = [torch.zeros(0, 2)], [torch.zeros(0)]
    for row in rows:
        boxes, (tall, wide) = resized_boxes(index, resize, row)
        usable = boxes[~index.truth(row).crowd]
        anchors = anchor_generator(tall, wide)
        inside = centred_inside(anchors, torch.tensor([[tall, wide]]))[0]
        # a row of zeros, for an image so thin that no anchor is centred in it has no maximum
        overlaps = F.pad(box_iou(anchors[inside], usable), (0, 0, 0, 1))
        sides.append(usable[:, 2:] - usable[:, :2])
        best.append(overlaps.amax(dim=0))
    return torch.cat(sides), torch.cat(best)


def resized_boxes(index: CocoIndex, resize: Resize, row: int) -> tuple[Tensor, tuple[int, int]]:
    """Boxes (g, 4) of an image resized as in evaluation, crowds too, and its height and width."""
    height, width = index.size(row)
    tall, wide = resize.for_evaluation().target(height, width, draw=0.0)
    factors = torch.tensor([wide / width, tall / height]).repeat(2)
    return index.truth(row).boxes * factors, (tall, wide)


def resized_sides(index: CocoIndex, resize: Resize) -> Tensor:
    """float32 (B, 2): width and height of all boxes but crowds, resized as in evaluation."""
    target = resize.for_evaluation().target
    targets = np.array([target(*size, draw=0.0) for size in index.sizes.tolist()])
    factors = np.repeat((targets / index.sizes)[:, ::-1], np.diff(index.box_offsets), axis=0)
    sides = (index.boxes[:, 2:] - index.boxes[:, :2]) * factors
    return torch.from_numpy(sides[~index.crowd].astype(np.float32))


def describe_coinciding_boxes(index: CocoIndex, *, multi_label: bool) -> str | None:
    """A sentence on boxes that coincide exactly with another box of their image, but not in labels.

    Crowds are not counted; None if there is no such box.
    """
    usable = np.flatnonzero(~index.crowd)
    images = np.repeat(np.arange(len(index)), np.diff(index.box_offsets))
    keys = np.column_stack([images, index.boxes])[usable]
    _, firsts, places = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    first_there = usable[firsts[places.reshape(-1)]]  # some versions of numpy shape them (B, 1)
    later = usable != first_there
    pairs = zip(usable[later].tolist(), first_there[later].tolist(), strict=True)
    other = [box for box, first in pairs if set(_labels(index, box)) != set(_labels(index, first))]
    if not other:
        return None
    ids = ", ".join(str(index.annotation_ids[box]) for box in other[:NAMED])
    what = (
        "anchors there learn the labels of all"
        if multi_label
        else "a softmax teaches their anchors the label of the first alone; set "
        "loss.classification.activation to sigmoid, or correct them"
    )
    return (
        f"boxes at exactly the place of another, with another label: {len(other)} (annotations "
        f"{ids}{', …' if len(other) > NAMED else ''}): {what}"
    )


def _labels(index: CocoIndex, box: int) -> NDArray[np.int64]:
    return index.label_values[index.label_offsets[box] : index.label_offsets[box + 1]]


@torch.inference_mode()
def initial_loss(
    step: TrainingStep, net: nn.Module, batches: Sequence[Batch]
) -> tuple[float, float]:
    """The classification loss before training: expected from the prior, and measured of `net`.

    Expected is that of logits which all equal the head's biases (Lin et al. 2017, 4.1). The two
    differ where the head is not initialized as its prior demands.
    """
    criterion, training = step.criterion, net.training
    tallies = []
    net.eval()
    for batch in batches:
        targets = step.assign(batch)
        expected = expected_tally(criterion, targets)
        with step.autocast():
            tallies.append(torch.stack([expected, criterion.tally(net(batch.images), targets)]))
    net.train(training)
    expected, measured = torch.stack(tallies).sum(0)
    return float(criterion.means(expected)[0]), float(criterion.means(measured)[0])


def expected_tally(criterion: DetectionLoss, targets: Targets) -> Tensor:
    """What an untrained head is expected to lose, as of `DetectionLoss.tally`.

    Its logits all equal the head's biases, and its predicted boxes are the anchors.
    """
    shape = targets.matches.shape
    logits = criterion.classification.code.bias().to(targets.matches.device).expand(*shape, -1)
    return criterion.tally(Outputs(logits, logits.new_zeros(*shape, 4)), targets)
