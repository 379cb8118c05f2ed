"""A detector of one weight, whose losses and gradients a person can redo.

Every logit is the weight w, every delta 0: an anchor costs ln(1 + e^w) where it is background and
ln(1 + e^-w) where it is foreground, ln 2 at w = 0, where each pulls at w by one half. The image is
64 high and 32 wide, with two anchors: [8 8 24 24] and [8 40 24 56].
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from detector.anchors.box_coder import BoxCoder
from detector.anchors.class_code import ClassCode
from detector.anchors.generator import AnchorGenerator
from detector.anchors.matching import Matcher
from detector.data.batch import Sample, collate
from detector.engine.optim import with_moments
from detector.engine.step import TrainingStep
from detector.loss.box import L1, BoxLoss
from detector.loss.classification import ClassificationLoss
from detector.loss.detection import DetectionLoss
from detector.loss.focal import Focal
from detector.loss.normalizer import Normalizer, Positives
from detector.loss.sampling import All
from detector.structures import Batch, Outputs

ANCHORS = [[8.0, 8, 24, 24], [8, 40, 24, 56]]


class OneWeight(nn.Module):
    """Remembers in which mode it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Outputs:
        self.modes.append(self.training)
        count, (height, width) = len(images), images.shape[-2:]
        anchors = (height // 32) * (width // 32)
        return Outputs(self.weight.expand(count, anchors, 1), torch.zeros(count, anchors, 4))


def loss(*, weight: float = 1.0, normalizer: Normalizer | None = None) -> DetectionLoss:
    """Cross entropy of all anchors."""
    code = ClassCode(num_classes=1, prior=None)
    classification = ClassificationLoss(
        code=code, elementwise=Focal(alpha=None, gamma=0), sampler=All()
    )
    return DetectionLoss(
        classification,
        BoxLoss(compare=L1(box_coder=BoxCoder())),
        normalizer or Positives(),
        classification_weight=weight,
    )


def image(
    boxes: list[list[float]], *, height: int = 64, width: int = 32, number: int = 1, **changes: Any
) -> Sample:
    """A black image with boxes of the only class."""
    values: dict[str, Any] = {
        "image": torch.zeros(3, height, width, dtype=torch.uint8),
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.ones(len(boxes), 1, dtype=torch.bool),
        "crowd": torch.zeros(len(boxes), dtype=torch.bool),
        "image_id": number,
        "original_size": (height, width),
        "key": 0,
    }
    return Sample(**{**values, **changes})


def batch(*boxes: list[float]) -> Batch:
    """One image."""
    return collate([image(list(boxes))])


def anchor_generator() -> AnchorGenerator:
    """Cells of 32 x 32 pixels, an anchor of 16 x 16 in the middle of each."""
    return AnchorGenerator([32], [[(16, 16)]])


def matcher() -> Matcher:
    """The thresholds of the paper."""
    return Matcher(foreground=0.5, background=0.4, low_quality=True)


def make_step(
    *,
    weight: float = 1.0,
    momentum: float = 0.0,
    normalizer: Normalizer | None = None,
    **changes: Any,
) -> TrainingStep:
    """Plain descent; `weight` is that of the classification loss."""
    model = changes.pop("model", None) or OneWeight()
    optimizer = torch.optim.SGD(model.parameters(), lr=123.0, momentum=momentum, fused=True)
    values: dict[str, Any] = {
        "model": model,
        "criterion": loss(weight=weight, normalizer=normalizer),
        "matcher": matcher(),
        "anchor_generator": anchor_generator(),
        "optimizer": with_moments(optimizer),
        "scaler": torch.amp.GradScaler("cpu", enabled=False),
        "autocast": nullcontext,
        "clip_norm": None,
        "ema": None,
        "diagnose_every": None,
    }
    return TrainingStep(**{**values, **changes})
