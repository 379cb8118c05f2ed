"""Anchor-based object detection with configurable classification losses.

The names in `__all__` are imported when they are first used: torch takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detector.anchors.atss import ATSS
    from detector.anchors.box_coder import BoxCoder
    from detector.anchors.class_code import ClassCode, Terms
    from detector.anchors.generator import AnchorGenerator
    from detector.anchors.matching import Matcher
    from detector.data.augmentation import Augmentation, AugmentationSettings
    from detector.data.augmentations import Flip, Photometric, ScaleJitter
    from detector.data.batch import Sample, collate
    from detector.data.coco_dataset import CocoDataset
    from detector.data.crops import IoUCrop, ZoomOut
    from detector.data.mosaic import Mixup, Mosaic
    from detector.data.transforms import FixedSize, ShorterSide, Transform
    from detector.engine.optim import Schedule
    from detector.engine.step import TrainingStep
    from detector.engine.train import Pace, Trainer
    from detector.errors import InputError
    from detector.library import Detector, Prediction, evaluate, load
    from detector.loss.box import L1, BoxLoss, CIoU, GIoU, SmoothL1
    from detector.loss.classification import ClassificationLoss
    from detector.loss.detection import DetectionLoss
    from detector.loss.elementwise import ElementwiseLoss, ElementwiseSettings
    from detector.loss.focal import Focal
    from detector.loss.normalizer import Positives
    from detector.loss.sampling import OHEM, All, HardNegatives
    from detector.model.retinanet import RetinaNet
    from detector.structures import Batch, Losses, Outputs, Targets

__version__ = "0.1.0"
__all__ = [
    "ATSS",
    "L1",
    "OHEM",
    "All",
    "AnchorGenerator",
    "Augmentation",
    "AugmentationSettings",
    "Batch",
    "BoxCoder",
    "BoxLoss",
    "CIoU",
    "ClassCode",
    "ClassificationLoss",
    "CocoDataset",
    "DetectionLoss",
    "Detector",
    "FixedSize",
    "Flip",
    "Focal",
    "GIoU",
    "HardNegatives",
    "IoUCrop",
    "InputError",
    "ElementwiseLoss",
    "ElementwiseSettings",
    "Losses",
    "Matcher",
    "Mixup",
    "Mosaic",
    "Outputs",
    "Pace",
    "Photometric",
    "Positives",
    "Prediction",
    "RetinaNet",
    "Sample",
    "ScaleJitter",
    "Schedule",
    "ShorterSide",
    "SmoothL1",
    "Targets",
    "Terms",
    "Trainer",
    "TrainingStep",
    "Transform",
    "ZoomOut",
    "__version__",
    "collate",
    "evaluate",
    "load",
]

# where each of them is defined; a test holds this, `__all__` and the imports above together
_HOME = {
    "anchors.atss": ("ATSS",),
    "anchors.box_coder": ("BoxCoder",),
    "anchors.class_code": ("ClassCode", "Terms"),
    "anchors.generator": ("AnchorGenerator",),
    "anchors.matching": ("Matcher",),
    "data.augmentation": ("Augmentation", "AugmentationSettings"),
    "data.augmentations": ("Flip", "Photometric", "ScaleJitter"),
    "data.batch": ("Sample", "collate"),
    "data.coco_dataset": ("CocoDataset",),
    "data.crops": ("IoUCrop", "ZoomOut"),
    "data.mosaic": ("Mixup", "Mosaic"),
    "data.transforms": ("FixedSize", "ShorterSide", "Transform"),
    "engine.optim": ("Schedule",),
    "engine.step": ("TrainingStep",),
    "engine.train": ("Pace", "Trainer"),
    "errors": ("InputError",),
    "library": ("Detector", "Prediction", "evaluate", "load"),
    "loss.box": ("L1", "BoxLoss", "CIoU", "GIoU", "SmoothL1"),
    "loss.classification": ("ClassificationLoss",),
    "loss.detection": ("DetectionLoss",),
    "loss.focal": ("Focal",),
    "loss.elementwise": ("ElementwiseLoss", "ElementwiseSettings"),
    "loss.normalizer": ("Positives",),
    "loss.sampling": ("OHEM", "All", "HardNegatives"),
    "model.retinanet": ("RetinaNet",),
    "structures": ("Batch", "Losses", "Outputs", "Targets"),
}


def __getattr__(name: str) -> Any:
    """The public name, imported now (PEP 562)."""
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"detector.{module}"), name)
    raise AttributeError(f"module 'detector' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
