"""diagnostics.json, what tools/diagnose.py writes of a trained model: its typed content.

Shares and AP are fractions, 0..1. AP is -1 for a class without boxes; whatever else is undefined is
null. A part that a file lacks is None or empty, and the report's page names it as missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from detector.evaluation.calibration import ReliabilityDiagram
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
class ClassAP:
    """AP of one class."""

    name: str
    training_boxes: int | None  # null where the training set cannot be read
    AP: float


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """The whole file."""

    checkpoint: str = ""
    images: int = 0
    AP: float = -1.0
    AP50: float = -1.0
    # foreground and background: how many anchors of all images the matcher made so
    anchors: Mapping[str, int] = field(default_factory=dict)
    # own, gamma=0, gamma=0.5 … (alpha null) on the same logits -> foreground, background; null
    # without a loss, as of background that is not trained
    loss_distribution: Mapping[str, Mapping[str, Shares | None]] = field(default_factory=dict)
    score_histogram: Histogram | None = None
    calibration: CalibrationReport | None = None  # null with too few detections
    # AP50, and by how much it would rise if one kind of error alone were corrected
    errors: Mapping[str, float | None] = field(default_factory=dict)
    classes: Sequence[ClassAP] = ()


DIAGNOSTICS_FILE = TypeAdapter(Diagnostics)


def read_diagnostics(path: Path) -> Diagnostics | None:
    """The diagnostics in a file; None where there is no file. InputError for one that is broken."""
    if not path.exists():
        return None
    again = "delete it and diagnose again"
    return read_typed(path, DIAGNOSTICS_FILE, "the diagnostics of this version", remedy=again)
