"""The page's tables of what AP alone does not show; page.html.j2 calls it.

A row is a name and its cells, each the mean over seeds and a note: the lowest and the highest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from detector.report.diagnostics import Diagnostics
from detector.report.folder import AblationFolder
from detector.report.numbers import NONE, counted, decimal, four_digits

Cell = tuple[str, str]
Rows = list[tuple[str, list[Cell]]]
Measure = Callable[[Diagnostics], float | None]

GROUPS = ("rare", "common", "frequent")  # thirds of the classes
UNLIKE = 3  # how many times as many boxes the most frequent class has, or there are no groups


def _false_positives(recall: str) -> Measure:
    return lambda d: d.froc.at_recall.get(recall) if d.froc else None


MEASURES: dict[str, Measure] = {
    "AP": lambda d: _defined(d.AP),
    "AP50": lambda d: _defined(d.AP50),
    "AR": lambda d: _defined(d.AR100),
    "FP an image, recall 0.5": _false_positives("0.5"),
    "FP an image, recall 0.8": _false_positives("0.8"),
    "optimal LRP error": lambda d: d.lrp.error if d.lrp else None,
    "D-ECE": lambda d: d.calibration.before.d_ece if d.calibration else None,
}


def measured(diagnosis: Diagnostics) -> dict[str, float | None]:
    """The measures of one run, and the AP50 that it loses to each kind of error, by name."""
    gains = {f"AP50 lost to {k}": gain for k, gain in diagnosis.errors.items() if k != "AP50"}
    return {name: measure(diagnosis) for name, measure in MEASURES.items()} | gains


def more_than_ap(ablation: AblationFolder) -> tuple[list[str], Rows]:
    """Head and rows: the measures of each diagnosed variant."""
    rows = [
        (v.name, [_over_runs(measure, v.diagnoses) for measure in MEASURES.values()])
        for v in ablation.diagnosed
    ]
    return ["variant", *MEASURES], rows


def undiagnosed(ablation: AblationFolder) -> int:
    """How many runs that count are not in the means, of variants with a diagnosis."""
    return sum(d is None for v in ablation.diagnosed for d in v.diagnoses)


def other_figures(ablation: AblationFolder) -> tuple[list[str], Rows]:
    """Head and rows: the figures that were to be shown beside the metric; no rows without any."""
    names = list(dict.fromkeys(name for v in ablation.variants for name in v.figures))
    rows = [
        (v.name, [cell([*v.figures.get(name, {}).values()]) for name in names])
        for v in ablation.variants
    ]
    return ["variant", *names], rows if names else []


def diagnosed_before(ablation: AblationFolder) -> int:
    """How many diagnoses are of a version that had AP alone."""
    return sum(d.AR100 is None for v in ablation.diagnosed for d in v.diagnosed)


def class_groups(ablation: AblationFolder) -> tuple[list[str], Rows]:
    """Head and rows: AP of thirds of the classes by their number of training boxes.

    No rows for fewer than three classes, and where their numbers are alike.
    """
    boxes = _training_boxes(ablation)
    ranked = sorted(boxes, key=lambda name: (boxes[name], name))
    if len(ranked) < len(GROUPS) or boxes[ranked[-1]] <= UNLIKE * boxes[ranked[0]]:
        return [], []
    thirds = [list(third) for third in np.array_split(ranked, len(GROUPS))]
    head = [
        f"{group}: {counted(len(third), 'class', 'classes')}, "
        f"{boxes[third[0]]:.0f} to {boxes[third[-1]]:.0f} boxes"
        for group, third in zip(GROUPS, thirds, strict=True)
    ]
    rows = [
        (v.name, [_over_runs(partial(_mean_ap, names=third), v.diagnoses) for third in thirds])
        for v in ablation.diagnosed
    ]
    return ["variant", *head], rows


def _training_boxes(ablation: AblationFolder) -> dict[str, float]:
    """Of each class that has an AP, the mean over the runs, whose training sets may differ."""
    counts = defaultdict(list)
    for entry in (c for v in ablation.diagnosed for d in v.diagnosed for c in d.classes):
        if entry.training_boxes is not None and entry.AP >= 0:
            counts[entry.name].append(entry.training_boxes)
    return {name: float(np.mean(of_runs)) for name, of_runs in counts.items()}


def _mean_ap(diagnosis: Diagnostics, names: Sequence[str]) -> float | None:
    values = [c.AP for c in diagnosis.classes if c.name in names and c.AP >= 0]
    return float(np.mean(values)) if values else None


def _over_runs(measure: Measure, diagnoses: Sequence[Diagnostics | None]) -> Cell:
    return cell([None if diagnosis is None else measure(diagnosis) for diagnosis in diagnoses])


def _defined(value: float | None) -> float | None:
    return None if value == -1 else value


def cell(values: Sequence[float | None]) -> Cell:
    """The mean, where every run has a value: the mean of those that do would flatter the others.

    The note is their lowest and highest.
    """
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return NONE, f"{len(known)} of {len(values)} runs have it" if known else ""
    # false positives an image may be hundreds, where a third decimal says nothing
    write = decimal if max(known) <= 1 else four_digits
    ends = f"{write(min(known))} to {write(max(known))}" if len(known) > 1 else ""
    return write(float(np.mean(known))), ends
