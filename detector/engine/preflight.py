"""Checks and descriptions before the first step: data, resources, anchors and initial loss."""

from __future__ import annotations

import math
import resource
import shutil
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torchvision.ops import box_iou

from detector.anchors.generator import AnchorGenerator
from detector.boxes import centred_inside
from detector.data.batch import SIDE_MULTIPLE, round_up
from detector.data.coco import CocoIndex
from detector.data.defects import NAMED
from detector.data.loader import PREFETCHED, SHARED
from detector.data.transforms import FixedSize, ShorterSide
from detector.engine.step import TrainingStep
from detector.errors import InputError
from detector.structures import Batch, Outputs

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


def count_reachable_boxes(
    index: CocoIndex,
    resize: Resize,
    anchor_generator: AnchorGenerator,
    *,
    foreground: float,
    most: int = 500,
) -> tuple[int, int]:
    """How many boxes some anchor overlaps with an IoU of at least `foreground`, and of how many.

    Crowds are not counted. Looks at up to `most` images, evenly spread over the index, resized as
    in evaluation. Anchors centred outside the image do not count, as in training.
    """
    reached = boxes = 0
    for row in np.unique(np.linspace(0, len(index) - 1, min(most, len(index))).astype(int)):
        truth, (height, width) = index.truth(int(row)), index.size(int(row))
        tall, wide = resize.for_evaluation().target(height, width, draw=0.0)
        usable = truth.boxes[~truth.crowd]
        scaled = usable * torch.tensor([wide / width, tall / height]).repeat(2)
        anchors = anchor_generator(tall, wide)
        inside = centred_inside(anchors, torch.tensor([[tall, wide]]))[0]
        overlaps = box_iou(anchors[inside], scaled)
        reached += int((overlaps >= foreground).any(dim=0).sum())
        boxes += len(usable)
    return reached, boxes


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
    bias = criterion.classification.code.bias()
    tallies = []
    net.eval()
    for batch in batches:
        targets = step.assign(batch)
        logits = bias.to(batch.images.device).expand(*targets.matches.shape, -1)
        constant = Outputs(logits, logits.new_zeros(*targets.matches.shape, 4))
        expected = criterion.tally(constant, targets)
        with step.autocast():
            tallies.append(torch.stack([expected, criterion.tally(net(batch.images), targets)]))
    net.train(training)
    expected, measured = torch.stack(tallies).sum(0)
    return float(criterion.means(expected)[0]), float(criterion.means(measured)[0])
