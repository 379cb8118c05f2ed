"""What a trained model was found to do: diagnostics.json, read into names.

A part that the file lacks is None or empty; the page then says that it is missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.errors import InputError

OWN = "own"  # the loss that the model was trained with
STAGES = ("before", "temperature", "platt")
ERRORS = ("classification", "localisation", "both", "duplicate", "background", "missed")


@dataclass(frozen=True)
class Share:
    """How the loss of foreground or of background anchors is spread over them."""

    anchors: tuple[float, ...]  # cumulative share of the anchors, easy to hard, 0..1
    loss: tuple[float, ...]  # cumulative share of their loss, 0..1
    hardest: Mapping[float, float]  # share of the anchors -> share of the loss that is theirs


@dataclass(frozen=True)
class Bin:
    """Detections of one range of scores."""

    count: float
    score: float | None  # mean; None where there is no detection
    precision: float | None  # share of them that find a box


@dataclass(frozen=True)
class Reliability:
    """Scores against precision at one IoU."""

    d_ece: float
    detections: int
    bins: tuple[Bin, ...]
    fitted: Mapping[str, float]  # temperature, or slope and intercept


@dataclass(frozen=True)
class Histogram:
    """Anchors by score: of the true class in the foreground, the highest in the background."""

    edges: tuple[float, ...]
    foreground: tuple[float, ...]
    background: tuple[float, ...]


@dataclass(frozen=True)
class ClassFigure:
    """AP of a class."""

    name: str
    training_boxes: int | None
    average_precision: float


@dataclass(frozen=True)
class Diagnosis:
    """One run's diagnostics.json."""

    losses: Mapping[str, Mapping[str, Share | None]]  # own, gamma=0 … -> foreground, background
    histogram: Histogram | None
    calibration: Mapping[str, Reliability]  # by STAGES; empty where there is none
    edges: tuple[float, ...]  # of the calibration's bins
    errors: Mapping[str, float]  # AP50 lost to each of ERRORS; empty where there is none
    classes: tuple[ClassFigure, ...]


def read_diagnosis(path: Path) -> Diagnosis | None:
    """The diagnosis in a file; None where there is no file. InputError for one that is broken."""
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_bytes())
        return _diagnosis(found)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: it is not whole JSON ({error}); delete it and diagnose again."
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path}: is no diagnosis of this version ({error!r}); delete it and diagnose again."
        ) from error


def _diagnosis(found: Mapping[str, Any]) -> Diagnosis:
    calibration = found.get("calibration") or {}
    errors = found.get("errors") or {}
    histogram = found.get("score_histogram")
    return Diagnosis(
        losses={
            term: {side: _share(sides.get(side)) for side in ("foreground", "background")}
            for term, sides in (found.get("loss_distribution") or {}).items()
        },
        histogram=_histogram(histogram) if histogram else None,
        calibration={s: _reliability(calibration[s]) for s in STAGES if calibration.get(s)},
        edges=tuple(calibration.get("bins_edges", ())),
        errors={name: float(errors[name]) for name in ERRORS if errors.get(name) is not None},
        classes=tuple(
            ClassFigure(entry["name"], entry.get("training_boxes"), float(entry["AP"]))
            for entry in found.get("classes") or ()
        ),
    )


def _share(found: Mapping[str, Any] | None) -> Share | None:
    if found is None:
        return None
    hardest = {float(part): float(share) for part, share in found["hardest"].items()}
    return Share(tuple(found["anchors"]), tuple(found["loss"]), hardest)


def _reliability(found: Mapping[str, Any]) -> Reliability:
    bins = tuple(Bin(one["count"], one["score"], one["precision"]) for one in found["bins"])
    fitted = {k: float(found[k]) for k in ("temperature", "slope", "intercept") if k in found}
    return Reliability(float(found["d_ece"]), found["detections"], bins, fitted)


def _histogram(found: Mapping[str, Any]) -> Histogram:
    return Histogram(*(tuple(found[k]) for k in ("edges", "foreground", "background")))
