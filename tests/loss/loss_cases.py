"""Codes, leaves, samplers, targets and the plain formula that the loss tests share."""

import torch
from torch import Tensor

from detector.anchors.class_code import ClassCode
from detector.loss.assemble import CLASSIFICATION_LOSSES
from detector.loss.by_class import ClassWeighted, Equalized
from detector.loss.classification import trainable
from detector.loss.elementwise import ElementwiseLoss
from detector.loss.focal import Focal, Poly1, QualityFocal, Smoothed, Varifocal
from detector.loss.ghm import GHMC
from detector.loss.sampling import OHEM, All, HardNegatives, Random, Sampler
from detector.structures import BACKGROUND, IGNORED, Targets

KINDS = CLASSIFICATION_LOSSES.kinds
ELEMENTWISE = {
    "cross_entropy": Focal(alpha=None, gamma=0),
    "balanced": Focal(alpha=0.3, gamma=0),
    "root": Focal(alpha=None, gamma=0.5),
    "focal": Focal(alpha=0.25, gamma=2),
    "five": Focal(alpha=0.25, gamma=5),
}


def family(num_classes: int = 3) -> dict[str, ElementwiseLoss]:
    """One of each member, some of them twice."""
    weights = torch.linspace(0.5, 3, num_classes)
    ghm = GHMC(bins=4)
    ghm.shares.copy_(torch.tensor([0.6, 0.0, 0.3, 0.1]))
    return {
        **{kind: settings().elementwise() for kind, settings in KINDS.items()},
        "poly_cross_entropy": Poly1(epsilon=2),
        "poly_focal": Poly1(epsilon=-1, alpha=0.25, gamma=2),
        "smoothed_cross_entropy": Smoothed(elementwise=Focal(alpha=None, gamma=0), epsilon=0.1),
        "smoothed_root": Smoothed(elementwise=Focal(alpha=0.25, gamma=0.5), epsilon=0.1),
        "weighted": ClassWeighted(Focal(), weights),
        "ghm": ghm,
        "quality_focal": QualityFocal(),
        "quality_root": QualityFocal(alpha=0.25, gamma=0.5),
        "soft_cross_entropy": QualityFocal(gamma=0),
        "varifocal": Varifocal(),
        "weighted_varifocal_root": ClassWeighted(Varifocal(alpha=None, gamma=0.5), weights),
        "equalized": Equalized(Focal(), (weights < 1).float()),
    }


def takes_softmax(kind: str) -> bool:
    try:
        return bool(KINDS[kind](activation="softmax", background="class"))
    except ValueError:
        return False


FAMILY = family()
SAMPLERS: dict[str, Sampler] = {
    "all": All(),
    "ohem": OHEM(per_image=3),
    "ohem_nms": OHEM(per_image=3, nms=0.5),
    "hard_negatives": HardNegatives(ratio=3),
    "random": Random(per_image=4, positive_fraction=0.5),
}
ROWS = ["sigmoid-negatives", "sigmoid-class", "softmax-class", "sigmoid-ignored", "softmax-ignored"]
SIGMOID_ONLY = {"quality_root", "soft_cross_entropy", "weighted_varifocal_root", "equalized"}
SIGMOID_ONLY |= {kind for kind in KINDS if not takes_softmax(kind)}
PAIRS = [(r, n) for r in ROWS for n in FAMILY if r.startswith("sigmoid") or n not in SIGMOID_ONLY]


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


def logits_for(
    targets: Targets, code: ClassCode, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """(N, A, C), three times standard normal."""
    generator = torch.Generator().manual_seed(0)
    shape = (*targets.matches.shape, code.channels)
    return 3 * torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def quality_of(targets: Targets) -> Tensor:
    """float32 (N, A): some IoU on the foreground, 0 at one anchor, and 1 elsewhere."""
    some = torch.linspace(0, 1, targets.matches.numel()).view(targets.matches.shape)
    return torch.where(targets.foreground, some, 1.0)


def plain(
    logits: Tensor,
    targets: Targets,
    quality: Tensor | None = None,
    *,
    code: ClassCode,
    elementwise: ElementwiseLoss,
) -> Tensor:
    """The reference: the formula over everything, under autograd."""
    fits = None if quality is None else quality[..., None]
    loss = elementwise(code.terms(logits, label_rows(targets), fits)).sum(-1)
    return torch.where(trainable(targets.matches, code=code), loss, 0.0)
