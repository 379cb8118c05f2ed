"""Which trial of a variant is best, by how much, and whether at an edge of what was tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from detector.lab.plan import Trial, Variant
from detector.settings.training import LOSSES


@dataclass(frozen=True)
class Choice:
    """The best trial of one variant."""

    values: Mapping[str, float | None]  # of the metric, by trial; None of one that diverged
    trial: Trial | None  # the best; None where all diverged, or where it is not known yet
    lead: float | None  # of the best over the second, in the metric's unit; None: it is alone
    at_edge: tuple[str, ...]  # keys of which a still smaller or larger value may be better


def choose(variant: Variant, values: Mapping[str, float | None], metric: str) -> Choice:
    """The best trial by `values` of the metric; of equal ones the variant's own, else the first.

    Each trial is run from one seed: a lead below the spread of seeds may be chance. At an edge is
    the smallest and the largest of at least three numbers.
    """
    sign = 1 if metric in LOSSES else -1
    known = [
        (sign * value, trial.config != variant.config, trial)
        for trial in variant.trials
        if (value := values[trial.name]) is not None
    ]
    if not known:
        return Choice(values, None, None, ())
    (first, _, best), *others = sorted(known, key=lambda ranked: ranked[:2])
    lead = others[0][0] - first if others else None
    return Choice(
        values, best, lead, tuple(key for key in best.values if _at_edge(key, variant, best))
    )


def _at_edge(key: str, variant: Variant, best: Trial) -> bool:
    values = [trial.values[key] for trial in variant.trials]
    numbers = {value for value in values if isinstance(value, int | float)}
    # of two values each is an edge, which says nothing
    return len(numbers) > 2 and best.values[key] in (min(numbers), max(numbers))
