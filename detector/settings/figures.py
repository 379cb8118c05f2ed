"""Names of the figures that a validation gives, its own and a user's."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

COCO_FIGURES = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
LOSSES = ("loss", "loss/classification", "loss/box")  # these alone are better the lower they are
# keys of metrics.json, which a figure of a user's own cannot have
RESERVED = {
    *COCO_FIGURES, "loss", "per_class", "boxes", "images", "detections", "engine", "ground_truth",
    "areas_replaced", "weights", "folds", "tuning", "result_file",
}  # fmt: skip


def is_coco_figure(name: str) -> bool:
    """Whether it is a fraction, -1 where it is undefined: one of the twelve, or AP/CLASS."""
    return name in COCO_FIGURES or name.removeprefix("AP/") not in {"", name}


def worst_value(name: str) -> float | None:
    """What a run that diverged counts with: 0 of an AP or AR; None of what has no worst value."""
    return 0.0 if is_coco_figure(name) else None


def figure_of(metric: str) -> str:
    """The name of the figure of a metric "module:function"."""
    return metric.partition(":")[2]


def unknown_figure(name: str, metrics: Iterable[str], losses: tuple[str, ...] = LOSSES) -> str:
    """What is wrong with a name that no figure of a validation has; empty if nothing is.

    metrics: those of one's own, "module:function". What these return is not known: the part of the
        name before a "/" is looked at.
    """
    own = sorted({figure_of(metric) for metric in metrics})
    if is_coco_figure(name) or name in losses or name.partition("/")[0] in own:
        return ""
    known = (*COCO_FIGURES, *losses, *own)
    near = difflib.get_close_matches(name, known, n=3)
    near.sort(key=lambda one: _edits(one, name))  # to difflib, AP75 is as near to AP5O as AP50 is
    return (
        f"found {name!r}, it should be a figure that validation writes: {', '.join(known)}, or "
        f"AP/CLASS{f'; did you mean {near[0]!r}?' if near else ''}"
    )


def _edits(first: str, second: str) -> int:
    """How many letters must be put in, taken out or changed to make one of the other."""
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, start=1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, start=1):
            changed = diagonal + (letter != other)
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, changed)
    return row[-1]


def check_metrics(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names "module:function"; ValueError where a figure would have another one's name."""
    for name in names:
        if not re.fullmatch(r"[^:\s]+:[^\W\d]\w*", name):
            raise ValueError(f"found {name!r}, it should be module:function")
        if figure_of(name) in RESERVED:
            raise ValueError(
                f"found {name!r}, and metrics.json has {figure_of(name)} already; give the "
                "function another name"
            )
    figures = [figure_of(name) for name in names]
    if twice := [name for name in figures if figures.count(name) > 1]:
        raise ValueError(f"found {twice[0]} of several modules; give each function its own name")
    return names
