"""diagnostics.json, what `detector diagnose` writes: its typed content.

Shares, AP and AR are fractions, 0..1. AP and AR are -1 without boxes; whatever else is undefined is
null. A part that a file lacks, as those of older versions do, is None or empty, and the report's
page names it as missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from detector.evaluation.calibration import ReliabilityDiagram
from detector.evaluation.froc import Froc
from detector.evaluation.lrp import Lrp
from detector.lab.distribution import Shares
from detector.lab.results import read_typed

OWN = "own"  # the loss that the model was trained with, without its sampler
SCALINGS = ("before", "temperature", "platt")
ERRORS = ("classification", "localisation", "both", "duplicate", "background", "missed")


@dataclass(frozen=True)
class Histogram:
    """Anchors by score: of the true class in the foreground, the highest in the background."""

    edges: Sequence[float]  # of equal bins
    foreground: Sequence[float]  # anchors in each bin
    background: Sequence[float]


@dataclass(frozen=True)
class TemperatureScaled(ReliabilityDiagram):
    """After temperature scaling."""

    temperature: float  # 0.01 .. 100


@dataclass(frozen=True)
class PlattScaled(ReliabilityDiagram):
    """After Platt scaling."""

    slope: float  # 0.01 .. 100
    intercept: float


@dataclass(frozen=True)
class CalibrationReport:
    """Of the half of the images on which no scaling was fitted."""

    iou: float  # at which a detection is right
    bins_edges: Sequence[float]
    before: ReliabilityDiagram
    temperature: TemperatureScaled
    platt: PlattScaled


@dataclass(frozen=True)
class ClassDiagnosis:
    """AP and LRP error of one class."""

    name: str
    training_boxes: int | None  # null where the training set cannot be read
    AP: float
    lrp: Lrp | None = None  # null without boxes


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """The whole file. That of a COCO result file lacks what needs the model: its anchors."""

    checkpoint: str = ""  # or the result file
    images: int = 0
    AP: float = -1.0
    AP50: float = -1.0
    AP75: float | None = None
    AR100: float | None = None  # COCO's average recall with 100 detections an image
    lrp: Lrp | None = None  # mean over the classes with boxes
    froc: Froc | None = None  # null without boxes
    # foreground and background: how many anchors of all images the matcher made so
    anchors: Mapping[str, int] = field(default_factory=dict)
    # own, gamma=0, gamma=0.5 … (alpha null) on the same logits -> foreground, background; null
    # without a loss, as of background that is not trained
    loss_distribution: Mapping[str, Mapping[str, Shares | None]] = field(default_factory=dict)
    score_histogram: Histogram | None = None
    calibration: CalibrationReport | None = None  # null with too few detections
    # AP50, and by how much it would rise if one kind of error alone were corrected
    errors: Mapping[str, float | None] = field(default_factory=dict)
    classes: Sequence[ClassDiagnosis] = ()


DIAGNOSTICS = Path("diagnosis", "last", "diagnostics.json")  # in the folder of an ablation's run
DIAGNOSTICS_FILE = TypeAdapter(Diagnostics)


def read_diagnostics(path: Path) -> Diagnostics | None:
    """The diagnostics in a file; None where there is no file. InputError for one that is broken."""
    if not path.exists():
        return None
    again = "delete it and diagnose again"
    return read_typed(path, DIAGNOSTICS_FILE, "the diagnostics of this version", remedy=again)
