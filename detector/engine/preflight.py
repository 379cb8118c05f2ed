"""Checks and descriptions before the first step: data, resources, anchors and initial loss."""

from __future__ import annotations

import math
import resource
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import box_iou

from detector.anchors.class_code import ClassCode
from detector.anchors.generator import AnchorGenerator
from detector.anchors.matching import Assignment
from detector.boxes import centred_inside
from detector.data.batch import SIDE_MULTIPLE, round_up
from detector.data.coco import CocoIndex
from detector.data.defects import NAMED
from detector.data.loader import PREFETCHED, SHARED
from detector.data.transforms import FixedSize, ShorterSide
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
    keys = np.column_stack([_rows_of_boxes(index), index.boxes])
    # unlike any other key, so that a crowd coincides with nothing
    keys[index.crowd, 0] = -1 - np.flatnonzero(index.crowd)
    order = np.lexsort(keys.T)  # stable: equal keys stay in file order
    new = np.ones(len(order), np.bool_)  # where a sorted key differs from the one before
    new[1:] = (keys[order][1:] != keys[order][:-1]).any(axis=1)
    first = np.empty_like(order)
    first[order] = order[new][np.cumsum(new) - 1]
    later = np.flatnonzero(first != np.arange(len(first))).tolist()
    other = [box for box in later if set(_labels(index, box)) != set(_labels(index, first[box]))]
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


def _rows_of_boxes(index: CocoIndex) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(index)), np.diff(index.box_offsets))


def _labels(index: CocoIndex, box: int) -> NDArray[np.int64]:
    return index.label_values[index.label_offsets[box] : index.label_offsets[box + 1]]


class InitialLoss:
    """The classification loss before training: expected from the prior, and measured.

    The two differ where the head is not initialized as its prior demands.
    """

    def __init__(
        self,
        *,
        class_code: ClassCode,
        criterion: DetectionLoss,
        matcher: Assignment,
        anchor_generator: AnchorGenerator,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.class_code = class_code
        self.criterion = criterion
        self.matcher = matcher
        self.anchor_generator = anchor_generator
        self.autocast = autocast

    @torch.inference_mode()
    def expected(self, batches: Sequence[Batch]) -> float:
        """Classification loss if all logits equalled the head's biases (Lin et al. 2017, 4.1)."""
        return self._mean(batches, self._biases)

    @torch.inference_mode()
    def measured(self, batches: Sequence[Batch], model: nn.Module) -> float:
        """Classification loss of `model`, whose training mode is restored."""
        training = model.training
        model.eval()
        with self.autocast():
            loss = self._mean(batches, lambda batch, _: model(batch.images))
        model.train(training)
        return loss

    def _biases(self, batch: Batch, targets: Targets) -> Outputs:
        shape = targets.matches.shape
        bias = self.class_code.bias().to(batch.images.device)
        deltas = torch.zeros(*shape, 4, device=batch.images.device)
        return Outputs(bias.expand(*shape, -1), deltas)

    def _mean(self, batches: Sequence[Batch], run: Callable[[Batch, Targets], Outputs]) -> float:
        tallies: list[Tensor] = []
        for batch in batches:
            height, width = batch.images.shape[-2:]
            anchors = self.anchor_generator(height, width, batch.images.device)
            targets = self.matcher(anchors, batch)
            tallies.append(self.criterion.tally(run(batch, targets), targets))
        return float(self.criterion.means(torch.stack(tallies).sum(0))[0])
