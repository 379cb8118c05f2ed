"""Config -> objects; constructors get plain values, never a config."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import torch

from detector import config as configs
from detector.anchors.box_coder import BoxCoder
from detector.anchors.class_code import ClassCode
from detector.anchors.generator import AUTO, AnchorGenerator
from detector.anchors.matching import Assignment
from detector.config import Config
from detector.data.annotations import COCO, reader
from detector.data.coco import CocoIndex
from detector.data.folds import fold_part
from detector.data.images import Decoding
from detector.data.sampling import tuning_part
from detector.data.transforms import Transform
from detector.engine.optim import Schedule, parameter_groups, with_moments
from detector.errors import InputError, about
from detector.evaluation.predict import Predictor
from detector.imported import calling
from detector.loss import box as boxes
from detector.loss.assemble import NORMALIZERS, classification_loss
from detector.loss.box import BoxLossSettings
from detector.loss.detection import DetectionLoss
from detector.model.initialize import initialize
from detector.model.retinanet import FPN, Head, RetinaNet
from detector.model.timm_backbone import check_setup, make_backbone
from detector.postprocess import Postprocess

Autocast = Callable[[], AbstractContextManager[None]]


def load_config(
    path: Path, overrides: Sequence[str] = (), places: Mapping[str, str] = {}
) -> Config:
    """As config.load; also refuses what cannot work with any data."""
    config = configs.load(path, overrides, places)
    try:
        weights = config.loss.classification.class_weights  # they alone say how many classes
        criterion(config, class_code(config, num_classes=len(weights) if weights else 1))
        if config.anchors != AUTO:
            anchor_generator(config)
        backbone = config.model.backbone
        check_setup(backbone.name, backbone.norm, backbone.frozen_stages, backbone.norm_eps)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    stages, epochs = backbone.frozen_stages, backbone.frozen_epochs
    frozen = stages or epochs or backbone.norm == "frozen_batch"
    if frozen and backbone.weights is None and config.model.weights is None:
        raise InputError(
            f"{path}: model.backbone.frozen_stages is {stages}, frozen_epochs {epochs} and norm "
            f"{backbone.norm}, but with model.backbone.weights and model.weights null nothing is "
            "learned yet: name weights (--set model.weights=FILE), or set 0, 0 and batch or group."
        )
    return config


@about("loss.classification")
def class_code(config: Config, num_classes: int) -> ClassCode:
    """What the class logits mean."""
    loss = config.loss.classification
    return ClassCode(
        num_classes=num_classes,
        activation=loss.activation,
        background=loss.background,
        prior=loss.prior,
    )


def decoding(config: Config) -> Decoding:
    """How image files are read."""
    return Decoding(depth=config.data.depth, megapixels=config.data.megapixels)


def data_index(config: Config, part: Literal["train", "val"]) -> CocoIndex:
    """The index of data.train or data.val, refused if its labels do not fit the class code.

    With data.folds both are parts of the two together; with data.tuning, of the training images.
    """
    folds, share = config.data.folds, config.data.tuning
    own = part if share is None else "train"
    if folds is None:
        index = source_index(config, own)
    else:
        both = source_index(config, "train"), source_index(config, "val")
        index = fold_part(*both, count=folds.count, fold=folds.fold, part=own)
    index = index if share is None else tuning_part(index, share, part)
    if part == "train" and index.crowd.all():
        crowds = f"no boxes but {len(index.crowd)} crowds" if len(index.crowd) else "no boxes"
        raise InputError(
            f"{index.annotations_file}: it holds {crowds}, so there is nothing to learn; expected "
            "a COCO file whose `annotations` list the boxes of its images, some without `iscrowd`."
        )
    several = index.multi_label_annotation()
    if several is not None and not class_code(config, index.num_classes).multi_label:
        raise InputError(
            f"{index.annotations_file}: annotation {several[1]} of image {several[0]} has several "
            "labels, which a softmax over the classes cannot learn: set "
            "loss.classification.activation to sigmoid, or give it one category_id."
        )
    return index


def source_index(config: Config, name: Literal["train", "val"]) -> CocoIndex:
    """All that data.train or data.val names; InputError where it cannot be read."""
    source = config.data.train if name == "train" else config.data.val
    if source.images is None or source.annotations is None:
        raise InputError(
            f"data.{name}: images and annotations are not both set; give a folder and a COCO JSON "
            f"file, e.g. --set data.{name}.images=DIR --set data.{name}.annotations=FILE."
        )
    if source.reader == COCO and source.annotations.is_dir():  # other readers may take a folder
        raise InputError(
            f"{source.annotations}: this is a folder, and data.{name}.annotations is a COCO JSON "
            "file; `detector convert` makes one of Pascal VOC, YOLO, LabelMe or CSV."
        )
    if not source.annotations.exists():
        raise InputError(
            f"{source.annotations}: there is no such file, and data.{name}.annotations names it; "
            f"give yours by --set data.{name}.annotations=FILE data.{name}.images=DIR (digits of "
            "the shipped configs are made by python data/digits.py, others by other data/*.py)."
        )
    with about(f"data.{name}.reader"):
        read = reader(source.reader)
    return CocoIndex.read(
        source.annotations,
        source.images,
        invalid=config.data.invalid,
        decoding=decoding(config),
        reader=read,
    )


@about("data.augment")
def transform(config: Config) -> Transform:
    """The augmentation of training images; `.for_evaluation()` gives that of the others."""
    return Transform(
        resize=config.data.resize.resize(),
        augmentations=[settings.augmentation() for settings in config.data.augment],
    )


def device(config: Config) -> torch.device:
    """train.device, with `auto` the process's own GPU if there is one."""
    name = config.train.device
    gpus = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and gpus == 0):
        return torch.device("cpu")
    number = int(name[5:] if name.startswith("cuda:") else os.environ.get("LOCAL_RANK", "0"))
    if number >= gpus:
        raise InputError(
            f"train.device is {name}: GPU number {number} is wanted, but torch finds {gpus}; set "
            "it to auto or cpu, or start as many processes as there are GPUs."
        )
    if name.startswith("cuda:") and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(f"train.device is {name}, one GPU for several processes; set it to auto.")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def precision(config: Config, on: torch.device) -> torch.dtype:
    """train.precision; `auto` is bfloat16 or float16 on a GPU, float32 elsewhere."""
    name = config.train.precision
    if name == "auto" and on.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    return {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(name, torch.float32)


def autocast(dtype: torch.dtype, on: torch.device) -> Autocast:
    """A context in which convolutions run in `dtype`."""
    return lambda: torch.autocast(on.type, dtype=dtype, enabled=dtype is not torch.float32)


@about("anchors.sizes or anchors.cells")
def anchor_generator(config: Config) -> AnchorGenerator:
    """Anchors at the model's strides; InputError while they are `auto`."""
    if isinstance(config.anchors, str):
        raise InputError("anchors: auto is for training; `detector check` prints the numbers.")
    return config.anchors.generator(FPN.strides)


def matcher(config: Config) -> Assignment:
    """The assignment of anchors."""
    several = class_code(config, num_classes=1).multi_label
    with calling(config.matching, "matching"), about("matching"):
        assign = config.matching.assignment(anchor_generator(config), multi_label=several)
        if not callable(assign):
            raise ValueError(f"assignment() returned {assign!r}; it should be a function")
    return assign


def criterion(
    config: Config, code: ClassCode, boxes_per_class: torch.Tensor | None = None
) -> DetectionLoss:
    """The loss; InputError where the normalizer cannot be known in time.

    boxes_per_class: (K,) of the training data; without it, weights that come from it are NaN until
        a checkpoint of the loss is loaded.
    """
    loss, box = config.loss.classification, config.loss.box
    return DetectionLoss(
        classification_loss(loss, code, boxes_per_class),
        boxes.BoxLoss(compare=_box_loss(box)),
        NORMALIZERS[loss.normalizer](),
        classification_weight=loss.weight,
        box_weight=box.weight,
    )


def _box_loss(settings: BoxLossSettings) -> boxes.Compare:
    if settings.kind == "smooth_l1":
        return boxes.SmoothL1(beta=settings.beta)
    kinds: dict[str, Any] = {"l1": boxes.L1, "giou": boxes.GIoU, "ciou": boxes.CIoU}
    return kinds[settings.kind]()


def model(config: Config, code: ClassCode) -> RetinaNet:
    """The network with its initial weights, on the CPU; nothing is loaded."""
    m, b, seed = config.model, config.model.backbone, config.train.seed
    backbone = make_backbone(b.name, b.norm, b.frozen_stages, norm_eps=b.norm_eps, seed=seed)
    pyramid = FPN(backbone.channels, m.fpn.channels, m.fpn.p6_from)
    cells = anchor_generator(config).anchors_per_cell
    class_head, box_head = (
        Head(
            in_channels=m.fpn.channels,
            channels=m.head.channels or m.fpn.channels,
            convs=m.head.convs,
            norm=m.head.norm,
            out_channels=channels,
            anchors_per_cell=cells,
        )
        for channels in (code.channels, 4)
    )
    net = RetinaNet(backbone, pyramid, class_head, box_head, mean=backbone.mean, std=backbone.std)
    initialize(net, seed=seed, class_bias=code.bias())
    return net.to(memory_format=torch.channels_last) if config.train.channels_last else net


def optimizer(config: Config, net: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimizer; the schedule sets its rate before every step."""
    o = config.optimizer
    groups = parameter_groups(
        net,
        weight_decay=o.weight_decay,
        decay_norms=o.decay_norms,
        backbone_rate=o.backbone_rate,
    )
    if o.name == "sgd":
        return with_moments(torch.optim.SGD(groups, lr=o.lr, momentum=o.momentum, fused=True))
    return with_moments(torch.optim.AdamW(groups, lr=o.lr, fused=True))


def schedule(config: Config, steps_per_epoch: int) -> Schedule:
    """The learning rate of each step; lengths in epochs become steps."""
    s, o, batch = config.schedule, config.optimizer, config.train.batch_size
    unit = 1 if s.steps is not None else steps_per_epoch
    total = (s.steps or s.epochs or 0) * unit
    late = [m for m in s.milestones if m * unit >= total]
    if s.kind == "step" and late:
        raise InputError(
            f"schedule.milestones has {late[0]}, that is step {late[0] * unit}, and the schedule "
            f"ends at step {total}; milestones are in the unit of the length (epochs or steps)."
        )
    return Schedule(
        rate=o.lr * batch / (o.reference_batch or batch),
        total_steps=total,
        kind=s.kind,
        milestones=tuple(m * unit for m in s.milestones),
        factor=s.factor,
        warmup_steps=s.warmup_steps,
        warmup_factor=s.warmup_factor,
    )


def predictor(config: Config, code: ClassCode, on: torch.device) -> Predictor:
    """Runs a network on batches and finds the detections."""
    p = config.postprocess
    return Predictor(
        anchor_generator=anchor_generator(config),
        postprocess=Postprocess(
            code,
            BoxCoder(),
            score=p.score,
            per_level=p.per_level,
            nms=p.nms,
            per_image=p.per_image,
            agnostic=p.agnostic,
        ),
        autocast=autocast(precision(config, on), on),
        device=on,
    )
