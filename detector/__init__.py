"""Anchor-based object detection with configurable classification losses.

The names in `__all__` are imported when they are first used: torch takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers, to which `as` says that a name is public
    from detector.anchors.atss import ATSS as ATSS
    from detector.anchors.box_coder import BoxCoder as BoxCoder
    from detector.anchors.class_code import ClassCode as ClassCode
    from detector.anchors.class_code import Terms as Terms
    from detector.anchors.generator import AnchorGenerator as AnchorGenerator
    from detector.anchors.matching import Matcher as Matcher
    from detector.anchors.matching import MatchingSettings as MatchingSettings
    from detector.anchors.matching import crowded as crowded
    from detector.anchors.matching import targets_of as targets_of
    from detector.data.augmentation import Augmentation as Augmentation
    from detector.data.augmentation import AugmentationSettings as AugmentationSettings
    from detector.data.augmentations import Flip as Flip
    from detector.data.augmentations import Photometric as Photometric
    from detector.data.augmentations import ScaleJitter as ScaleJitter
    from detector.data.augmentations import VerticalFlip as VerticalFlip
    from detector.data.batch import Sample as Sample
    from detector.data.batch import collate as collate
    from detector.data.coco_dataset import CocoDataset as CocoDataset
    from detector.data.crops import IoUCrop as IoUCrop
    from detector.data.crops import ZoomOut as ZoomOut
    from detector.data.mosaic import Mixup as Mixup
    from detector.data.mosaic import Mosaic as Mosaic
    from detector.data.transforms import FixedSize as FixedSize
    from detector.data.transforms import ShorterSide as ShorterSide
    from detector.data.transforms import Transform as Transform
    from detector.engine.logger import Logger as Logger
    from detector.engine.optim import Schedule as Schedule
    from detector.engine.step import TrainingStep as TrainingStep
    from detector.engine.train import Pace as Pace
    from detector.engine.train import Trainer as Trainer
    from detector.errors import InputError as InputError
    from detector.library import Detector as Detector
    from detector.library import evaluate as evaluate
    from detector.library import load as load
    from detector.loss.box import L1 as L1
    from detector.loss.box import BoxLoss as BoxLoss
    from detector.loss.box import CIoU as CIoU
    from detector.loss.box import GIoU as GIoU
    from detector.loss.box import SmoothL1 as SmoothL1
    from detector.loss.classification import ClassificationLoss as ClassificationLoss
    from detector.loss.detection import DetectionLoss as DetectionLoss
    from detector.loss.elementwise import ElementwiseLoss as ElementwiseLoss
    from detector.loss.elementwise import ElementwiseSettings as ElementwiseSettings
    from detector.loss.focal import Focal as Focal
    from detector.loss.normalizer import Positives as Positives
    from detector.loss.sampling import OHEM as OHEM
    from detector.loss.sampling import All as All
    from detector.loss.sampling import HardNegatives as HardNegatives
    from detector.loss.sampling import SamplerSettings as SamplerSettings
    from detector.model.retinanet import RetinaNet as RetinaNet
    from detector.prediction import Prediction as Prediction
    from detector.structures import BACKGROUND as BACKGROUND
    from detector.structures import IGNORED as IGNORED
    from detector.structures import Batch as Batch
    from detector.structures import Losses as Losses
    from detector.structures import Outputs as Outputs
    from detector.structures import Targets as Targets

__version__ = "0.1.0"
# where each of them is defined; a test holds this and the imports above together
_HOME = {
    "anchors.atss": ("ATSS",),
    "anchors.box_coder": ("BoxCoder",),
    "anchors.class_code": ("ClassCode", "Terms"),
    "anchors.generator": ("AnchorGenerator",),
    "anchors.matching": ("Matcher", "MatchingSettings", "crowded", "targets_of"),
    "data.augmentation": ("Augmentation", "AugmentationSettings"),
    "data.augmentations": ("Flip", "Photometric", "ScaleJitter", "VerticalFlip"),
    "data.batch": ("Sample", "collate"),
    "data.coco_dataset": ("CocoDataset",),
    "data.crops": ("IoUCrop", "ZoomOut"),
    "data.mosaic": ("Mixup", "Mosaic"),
    "data.transforms": ("FixedSize", "ShorterSide", "Transform"),
    "engine.logger": ("Logger",),
    "engine.optim": ("Schedule",),
    "engine.step": ("TrainingStep",),
    "engine.train": ("Pace", "Trainer"),
    "errors": ("InputError",),
    "library": ("Detector", "evaluate", "load"),
    "loss.box": ("L1", "BoxLoss", "CIoU", "GIoU", "SmoothL1"),
    "loss.classification": ("ClassificationLoss",),
    "loss.detection": ("DetectionLoss",),
    "loss.focal": ("Focal",),
    "loss.elementwise": ("ElementwiseLoss", "ElementwiseSettings"),
    "loss.normalizer": ("Positives",),
    "loss.sampling": ("OHEM", "All", "HardNegatives", "SamplerSettings"),
    "model.retinanet": ("RetinaNet",),
    "prediction": ("Prediction",),
    "structures": ("BACKGROUND", "IGNORED", "Batch", "Losses", "Outputs", "Targets"),
}
__all__ = sorted(["__version__", *(name for names in _HOME.values() for name in names)])


def __getattr__(name: str) -> Any:
    """The public name, imported now (PEP 562)."""
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"detector.{module}"), name)
    raise AttributeError(f"module 'detector' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
