"""The tensors that pass between the parts of a training or evaluation step.

N images, A anchors of one image (all levels), G ground-truth boxes (padded), D detections (padded),
K foreground classes, C channels of the classification head (K or K + 1).
Unless stated otherwise, boxes are float32 x1 y1 x2 y2 in pixels of the resized image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from detector.errors import InputError
from detector.settings.figures import is_coco_figure

# in Targets.matches
BACKGROUND = -1  # the anchor matches no box
IGNORED = -2  # the anchor is neither foreground nor background and has no loss


@dataclass(frozen=True)
class Batch:
    """Images and their ground truth, as the loader collates them."""

    images: Tensor  # uint8 (N, 3, H, W), padded at the right and the bottom
    sizes: Tensor  # int64 (N, 2) height, width of the resized image before padding
    original_sizes: Tensor  # int64 (N, 2) height, width of the image in its file
    image_ids: Tensor  # int64 (N,) ids of the annotation file
    keys: Tensor  # int64 (N,) random key of the sample, from (seed, epoch, index) alone
    boxes: Tensor  # float32 (N, G, 4)
    labels: Tensor  # bool (N, G, K), multi-hot
    present: Tensor  # bool (N, G), False for padding
    crowd: Tensor  # bool (N, G), regions of many objects: never matched, only ignored

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`; copies asynchronously from pinned memory."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return replace(self, **moved)

    def pin_memory(self) -> Batch:
        """The same batch in pinned memory; torch's DataLoader calls this method by its name."""
        return replace(self, **{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})

    def __len__(self) -> int:
        return len(self.image_ids)


@dataclass(frozen=True)
class Targets:
    """The assignment of anchors to boxes."""

    anchors: Tensor  # float32 (A, 4)
    matches: Tensor  # int64 (N, A): index of a box in 0 .. G-1, or BACKGROUND or IGNORED
    boxes: Tensor  # float32 (N, G, 4)
    labels: Tensor  # bool (N, G, K), multi-hot
    keys: Tensor  # int64 (N,) random keys of the samples

    @property
    def foreground(self) -> Tensor:
        """bool (N, A): the anchor matches a box."""
        return self.matches >= 0

    @property
    def background(self) -> Tensor:
        """bool (N, A): the anchor matches no box and is not ignored."""
        return self.matches == BACKGROUND


@dataclass(frozen=True)
class Outputs:
    """What the model predicts for every anchor."""

    class_logits: Tensor  # (N, A, C)
    box_deltas: Tensor  # (N, A, 4)


# torch.export traces a network only if it knows the parts of what the network returns
torch.export.register_dataclass(Outputs, serialized_type_name="detector.Outputs")


@dataclass(frozen=True)
class Losses:
    """The losses of one micro-batch, already divided by the divisors of the whole step."""

    classification: Tensor  # scalar
    box: Tensor  # scalar
    by_anchor: Tensor  # (N, A) detached: the term of each anchor in `classification`

    @property
    def total(self) -> Tensor:
        """The scalar to differentiate."""
        return self.classification + self.box


@dataclass(frozen=True)
class Detections:
    """Detected objects, best first, padded to D per image."""

    boxes: Tensor  # float32 (N, D, 4), in pixels of the image of the given `sizes`
    scores: Tensor  # float32 (N, D)
    labels: Tensor  # int64 (N, D) in 0 .. K-1
    present: Tensor  # bool (N, D), False for padding


@dataclass(frozen=True)
class Validation:
    """The result of an evaluation during training."""

    metrics: dict[str, float]  # `AP`, `AP/<class>`: fractions, -1 where undefined; `loss`, ...;
    # and those of a user's own, which may be any number, NaN too
    pictures: list[Tensor]  # drawn images, uint8 (3, H, W)

    def defined(self, name: str) -> float | None:
        """The figure that names the best checkpoint; None where it is undefined.

        Raises InputError where there is no such figure.
        """
        if name not in self.metrics:
            raise InputError(
                f"evaluation.best is {name}, which the validation did not give; name one of "
                f"{', '.join(self.metrics)}."
            )
        value = self.metrics[name]
        undefined = not math.isfinite(value) or (value == -1 and is_coco_figure(name))
        return None if undefined else value
