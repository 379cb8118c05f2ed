"""Codes, samplers, targets and a memory meter that the loss tests share."""

import torch
from torch import Tensor

from detector.anchors.class_code import ClassCode
from detector.loss.focal import Focal
from detector.loss.sampling import All, HardNegatives, OnlineHard, Random, Sampler
from detector.structures import BACKGROUND, IGNORED, Targets

LEAVES = {
    "cross_entropy": Focal(alpha=None, gamma=0),
    "balanced": Focal(alpha=0.3, gamma=0),
    "root": Focal(alpha=None, gamma=0.5),
    "focal": Focal(alpha=0.25, gamma=2),
    "five": Focal(alpha=0.25, gamma=5),
}
SAMPLERS: dict[str, Sampler] = {
    "all": All(),
    "ohem": OnlineHard(per_image=3),
    "ohem_nms": OnlineHard(per_image=3, nms=0.5),
    "hard_negatives": HardNegatives(ratio=3),
    "random": Random(per_image=4, positive_fraction=0.5),
}
ROWS = ["sigmoid-negatives", "sigmoid-class", "softmax-class", "sigmoid-ignored", "softmax-ignored"]


def code_of(row: str, num_classes: int = 3) -> ClassCode:
    activation, background = row.split("-")
    prior = None if background == "ignored" else 0.01
    return ClassCode(
        num_classes=num_classes, activation=activation, background=background, prior=prior
    )


def make_targets(
    matches: list[list[int]], labels: Tensor, *, anchors: Tensor | None = None
) -> Targets:
    """Targets from matches (N, A) and labels (N, G, K); anchors 10 px apart, boxes 1 px off."""
    matched = torch.tensor(matches)
    images, count = matched.shape
    if anchors is None:
        corner = 10.0 * torch.arange(count)[:, None]
        anchors = torch.cat([corner, corner, corner + 8, corner + 8], dim=1)
    boxes = anchors[: labels.shape[1]].expand(images, -1, 4) + torch.tensor([1.0, 0.0, 1.0, 2.0])
    return Targets(anchors, matched, boxes, labels, 17 * torch.arange(1, images + 1))


def example(num_classes: int = 3) -> Targets:
    """Two images, seven anchors, two boxes: foreground, background and ignored in each image."""
    classes = torch.tensor([[0, num_classes - 1], [num_classes // 2, 0]])
    labels = torch.nn.functional.one_hot(classes, num_classes).bool()
    b, i = BACKGROUND, IGNORED
    return make_targets([[0, b, b, 1, i, b, b], [b, b, i, b, b, 1, b]], labels)


def label_rows(targets: Targets) -> Tensor:
    """bool (N, A, K), by a plain loop."""
    images, anchors = targets.matches.shape
    rows = torch.zeros(images, anchors, targets.labels.shape[2], dtype=torch.bool)
    for n in range(images):
        for a in range(anchors):
            match = int(targets.matches[n, a])
            if match >= 0:
                rows[n, a] = targets.labels[n, match]
    return rows
