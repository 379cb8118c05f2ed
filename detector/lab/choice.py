"""Which of the tuned values of a variant is best, and how much hangs on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from detector.lab.plan import Trial, Variant
from detector.settings.ablation import LOSSES


@dataclass(frozen=True)
class Choice:
    """What the trials of one variant say."""

    values: Mapping[str, float | None]  # of the metric, by trial; None of one that diverged
    trial: Trial | None  # the best; None where all diverged, or where it is not known yet
    lead: float | None  # of the best over the second, in the metric's unit; None: it is alone
    at_edge: tuple[str, ...]  # keys of which a still smaller or larger value may be better


def choose(variant: Variant, values: Mapping[str, float | None], metric: str) -> Choice:
    """The best trial by `values` of the metric; of equal ones the variant's own, else the first.

    A lead below what seeds alone move says that the choice is one of several: each combination is
    run from one seed. At an edge is the smallest and the largest of at least three numbers.
    """
    sign = -1 if metric in LOSSES else 1
    own_first = sorted(variant.trials, key=lambda trial: trial.config != variant.config)
    found = [(trial, values[trial.name]) for trial in own_first]
    known = [(trial, sign * value) for trial, value in found if value is not None]
    if not known:
        return Choice(values, None, None, ())
    best, _ = max(known, key=lambda pair: pair[1])
    first, *others = sorted((value for _, value in known), reverse=True)
    lead = first - others[0] if others else None
    return Choice(values, best, lead, _at_edge(variant, best))


def _at_edge(variant: Variant, best: Trial) -> tuple[str, ...]:
    found = []
    for key, value in best.values.items():
        tried = [trial.values[key] for trial in variant.trials]
        numbers = sorted({number for number in tried if isinstance(number, int | float)})
        if len(numbers) > 2 and value in (numbers[0], numbers[-1]):
            found.append(key)
    return tuple(found)
