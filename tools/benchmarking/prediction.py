"""Prediction of torchvision's detector and of ours with the same weights, on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights, retinanet_resnet50_fpn

from benchmarking import made_up
from benchmarking.setup import CONFIGS, Setup, changed
from benchmarking.timing import Figures, Work, in_turn, ratio
from detector import build
from detector.config import Config
from detector.engine.checkpoint import load_state
from detector.engine.restore import Classes, load_detector
from detector.structures import Batch, Detections

CATEGORIES = RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
UNUSED = [k for k, name in enumerate(CATEGORIES) if name in ("__background__", "N/A")]
USED = [k for k in range(len(CATEGORIES)) if k not in UNUSED]
EXACT = 128  # torchvision infers the strides of P6 and P7 from shapes: exact at multiples of this
PIXELS, SCORE = 1.0, 0.01  # two detections of one class that differ by less are the same


@torch.inference_mode()
def measure_prediction(setup: Setup) -> Figures:
    """The section `predict`."""
    config = _published(setup)
    batch = _batch(config, setup.on)
    partner_net = _many_detections(batch, setup.on)
    ours = _with_weights_of(partner_net, config).to(setup.on)
    code = build.class_code(config, len(USED))
    predictor = build.predictor(config, code, setup.on)
    exact = build.predictor(changed(config, "train", precision="float32"), code, setup.on)
    images = list(batch.images.float() / 255)
    autocast = build.autocast(setup.precision, setup.on)

    def partner() -> list[dict[str, Tensor]]:
        with autocast():
            return partner_net(images)

    with torch.backends.cudnn.flags(allow_tf32=False):  # rounding would flip close decisions of NMS
        _, detections = exact(ours, batch)
        agreement, count = _agreement(detections, partner_net(images))
    works: dict[str, Work] = {"ours": partial(predictor, ours, batch), "partner": partner}
    for work in works.values():
        work()
    times = in_turn(works, rounds=setup.rounds, on=setup.on)
    return {
        "images": [len(batch), *batch.images.shape[2:]],
        "detections": count,
        "agreement": agreement,
        "images_per_second": len(batch) / min(timing.device for timing in times["ours"]),
        "speed": ratio(times["partner"], times["ours"]),
    }


def _published(setup: Setup) -> Config:
    """configs/torchvision_v1.yaml with the setup's sizes and precision.

    Its batch norms have the epsilon of torchvision's classifiers here: random weights are none of
    the published ones, which were trained with 0.
    """
    config = build.load_config(CONFIGS / "torchvision_v1.yaml", ["model.backbone.norm_eps=1e-5"])
    same = {"train": setup.config.train, "evaluation": setup.config.evaluation}
    return changed(config, "data", resize=setup.config.data.resize).model_copy(update=same)


def _batch(config: Config, on: torch.device) -> Batch:
    resize = build.transform(config).resize.for_evaluation()
    height, width = resize.target(*made_up.PHOTOGRAPH, draw=0.0)
    size = (-(-side // EXACT) * EXACT for side in (height, width))
    count = config.evaluation.batch_size
    return made_up.batch(count, *size, boxes=1, classes=len(USED)).to(on)


def _many_detections(batch: Batch, on: torch.device) -> nn.Module:
    """torchvision's detector with random weights, such that it detects hundreds of objects.

    Batch norms get the statistics of real activations, or fifty layers would overflow float16.
    """
    sides = batch.images.shape[2:]
    torch.manual_seed(0)
    model = retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=len(CATEGORIES),
        min_size=min(sides), max_size=max(sides),
    ).to(on, memory_format=torch.channels_last)  # fmt: skip
    for layer in model.backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    images, _ = model.transform(list(batch.images[:2].float() / 255))
    model.backbone.train()(images.tensors)
    levels = list(model.eval().backbone(images.tensors).values())
    classes, boxes = model.head.classification_head, model.head.regression_head
    nn.init.constant_(classes.cls_logits.bias, 0)
    classes.cls_logits.weight.div_(classes(levels).std())
    boxes.bbox_reg.weight.mul_(0.3 / boxes(levels).std())
    classes.cls_logits.bias.fill_(-6).view(-1, len(CATEGORIES))[:, UNUSED] = -50
    return model


def _with_weights_of(partner_net: nn.Module, config: Config) -> nn.Module:
    """Our network with torchvision's weights, read from a file as a user's would be."""
    classes = Classes([CATEGORIES[k] for k in USED], USED)
    code = build.class_code(config, len(classes))
    net = build.model(config, code)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "torchvision.pth"
        torch.save(partner_net.state_dict(), file)
        load_detector(net, load_state(file), file, classes, code)
    return net.eval()


def _agreement(ours: Detections, partner: Sequence[dict[str, Tensor]]) -> tuple[float, int]:
    """The share of the partner's detections that are also ours, and how many it has."""
    labels = torch.tensor(USED, device=ours.labels.device)[ours.labels]
    matched = []
    for n, image in enumerate(partner):
        near = (image["boxes"][:, None] - ours.boxes[n]).abs().amax(-1) < PIXELS
        same = (image["scores"][:, None] - ours.scores[n]).abs() < SCORE
        alike = near & same & (image["labels"][:, None] == labels[n]) & ours.present[n]
        matched.append(alike.any(1))
    every = torch.cat(matched)
    return every.double().mean().item(), len(every)
