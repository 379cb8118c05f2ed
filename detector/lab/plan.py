"""From an ablation's file to the runs that it asks for."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.config import Config, flat, load_as
from detector.errors import InputError
from detector.settings.ablation import Ablation, Published, VariantSettings
from detector.settings.section import Section

NAME = r"[\w.=,+-]+"
Load = Callable[[Path, Sequence[str]], Config]


@dataclass(frozen=True)
class Variant:
    """One column of the question."""

    name: str
    question: str
    changes: tuple[str, ...]  # key=value, those that all variants share included
    published: Published | None
    config: Config  # resolved, with the seed of the base config


@dataclass(frozen=True)
class Plan:
    """All variants, checked."""

    config: Path  # the base config
    seeds: tuple[int, ...]
    metric: str
    baseline: str
    variants: tuple[Variant, ...]

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str], *, load: Load) -> Plan:
        """The plan of an ablation file; `overrides` (key=value) change all variants, and come last.

        Raises InputError for an unknown key, a baseline that is no variant, and two variants whose
        resolved configs are equal.
        """
        ablation = load_as(path, Ablation)
        base = Path(os.path.normpath(path.parent / ablation.config))
        variants = []
        for name, variant in [*ablation.variants.items(), *_grid(ablation.grid)]:
            changes = (*ablation.set, *variant.set, *overrides)
            try:
                config = load(base, changes)
            except InputError as error:
                raise InputError(f"{path}: variant {name!r}: {error}") from None
            variants.append(Variant(name, variant.question, changes, variant.published, config))
        plan = cls(base, ablation.seeds, ablation.metric, ablation.baseline, tuple(variants))
        plan._check(path)
        return plan

    def differences(self, variant: Variant) -> dict[str, tuple[Any, Any]]:
        """Keys in which a variant's config differs from the baseline's: theirs, then its own."""
        (baseline,) = (v for v in self.variants if v.name == self.baseline)
        theirs, own = flat(baseline.config), flat(variant.config)
        return {key: (theirs[key], own[key]) for key in own if theirs[key] != own[key]}

    def digest(self) -> str:
        """Changes whenever a run of the plan would, but not by more seeds or new default keys."""
        defaults = flat(Config())
        content = {
            v.name: {k: value for k, value in flat(v.config).items() if defaults.get(k) != value}
            for v in self.variants
        }
        text = json.dumps([self.metric, self.baseline, content], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _check(self, path: Path) -> None:
        names = [variant.name for variant in self.variants]
        for name in names:
            if not re.fullmatch(NAME, name) or name.startswith("."):
                raise InputError(
                    f"{path}: variants: {name!r} cannot be the name of a folder; use letters, "
                    "digits and _ - . = , + only, and no dot in front."
                )
        if self.baseline not in names:
            raise InputError(
                f"{path}: baseline: found {self.baseline!r}, it should be one of the variants: "
                f"{', '.join(names)}."
            )
        for one, other in itertools.combinations(self.variants, 2):
            if one.config == other.config:
                raise InputError(
                    f"{path}: variants {one.name!r} and {other.name!r} have the same config in "
                    "every key; change one of them, or leave it out."
                )


def _stated(section: Section) -> dict[str, Any]:
    """What differs from the defaults; `kind` is kept, for it says whose defaults those are."""
    values = {name: getattr(section, name) for name in type(section).model_fields}
    return {
        name: _stated(value) if isinstance(value, Section) else value
        for name, value in values.items()
        if name == "kind" or value != type(section).model_fields[name].default
    }


def _grid(grid: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, VariantSettings]]:
    """Every combination of the values, under a name of them; none where there are no keys."""
    for values in itertools.product(*grid.values()) if grid else ():
        pairs = [(key, json.dumps(value)) for key, value in zip(grid, values, strict=True)]
        name = ",".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in pairs)
        yield name, VariantSettings(set=tuple(f"{key}={value}" for key, value in pairs))
