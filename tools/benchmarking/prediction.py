"""Prediction of torchvision's detector and of ours with the same weights, on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights, retinanet_resnet50_fpn

from benchmarking import made_up
from benchmarking.setup import Figures, Setup
from benchmarking.timing import Ratio, Work, in_turn
from detector import build
from detector.engine.restore import Classes, load_detector
from detector.evaluation.predict import Predictor
from detector.structures import Batch, Detections

CATEGORIES = RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
UNUSED = [k for k, name in enumerate(CATEGORIES) if name in ("__background__", "N/A")]
USED = [k for k in range(len(CATEGORIES)) if k not in UNUSED]
EXACT = 128  # torchvision infers the strides of P6 and P7 from shapes: exact at multiples of this
PIXELS, SCORE = 1.0, 0.01  # two detections of one class that differ by less are the same


@torch.inference_mode()
def measure_prediction(setup: Setup) -> Figures:
    """The section `predict`."""
    batch = _batch(setup)
    partner_net = _many_detections(batch, setup.on)
    ours, predictor = _ours(partner_net, setup), _predictor(setup, setup.precision)
    images = list(batch.images.float() / 255)
    autocast = build.autocast(setup.precision, setup.on)

    def partner() -> list[dict[str, Tensor]]:
        with autocast():
            return partner_net(images)

    with torch.backends.cudnn.flags(allow_tf32=False):  # rounding would flip close decisions of NMS
        _, detections = _predictor(setup, torch.float32)(ours, batch)
        agreement, count = _agreement(detections, partner_net(images))
    works: dict[str, Work] = {"ours": partial(predictor, ours, batch), "partner": partner}
    for work in works.values():
        work()
    times = in_turn(works, rounds=setup.counts.rounds, on=setup.on)
    return {
        "images": [len(batch), *batch.images.shape[2:]],
        "detections": count,
        "agreement": agreement,
        "images_per_second": len(batch) / min(timing.device for timing in times["ours"]),
        "speed": asdict(Ratio.of_times(times["partner"], times["ours"])),
    }


def _batch(setup: Setup) -> Batch:
    resize = build.transform(setup.published).resize.for_evaluation()
    height, width = resize.target(*made_up.PHOTOGRAPH, draw=0.0)
    size = (-(-side // EXACT) * EXACT for side in (height, width))
    count = setup.published.evaluation.batch_size
    return made_up.batch(count, *size, boxes=1, classes=len(USED)).to(setup.on)


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


def _ours(partner_net: nn.Module, setup: Setup) -> nn.Module:
    classes = Classes([CATEGORIES[k] for k in USED], USED)
    norm = setup.published.model.backbone.model_copy(update={"norm_eps": 1e-5})
    model = setup.published.model.model_copy(update={"backbone": norm})
    config = setup.published.model_copy(update={"model": model})
    net = build.model(config, build.class_code(config, len(classes)))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "torchvision.pth"
        torch.save(partner_net.state_dict(), file)
        load_detector(net, file, classes)
    return net.to(setup.on).eval()


def _predictor(setup: Setup, dtype: torch.dtype) -> Predictor:
    name = str(dtype).removeprefix("torch.")
    train = setup.published.train.model_copy(update={"precision": name})
    config = setup.published.model_copy(update={"train": train})
    return build.predictor(config, build.class_code(config, len(USED)), setup.on)


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
