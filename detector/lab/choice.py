"""Which trial of a variant is best, by how much, and whether at an edge of what was tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from detector.lab.plan import Trial, Variant
from detector.settings.figures import LOSSES


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
    sign = -1 if metric in LOSSES else 1
    own_first = sorted(variant.trials, key=lambda trial: trial.config != variant.config)
    known = [
        (trial, sign * value) for trial in own_first if (value := values[trial.name]) is not None
    ]
    if not known:
        return Choice(values, None, None, ())
    best, _ = max(known, key=lambda pair: pair[1])
    ranked = sorted((value for _, value in known), reverse=True)
    lead = ranked[0] - ranked[1] if len(ranked) > 1 else None
    return Choice(values, best, lead, _at_edge(variant, best))


def _at_edge(variant: Variant, best: Trial) -> tuple[str, ...]:
    keys = []
    for key, value in best.values.items():
        tried = {trial.values[key] for trial in variant.trials if _is_number(trial.values[key])}
        # of two values each is an edge, which says nothing
        if len(tried) > 2 and value in (min(tried), max(tried)):
            keys.append(key)
    return tuple(keys)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
