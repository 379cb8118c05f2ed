"""From an ablation's file to the runs that it asks for, and what is to be compared."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detector import shipped
from detector.config import Config, flat, load_as
from detector.config.merging import read_file
from detector.config.messages import nearest
from detector.errors import InputError
from detector.lab.contrasts import Contrast, default_contrasts
from detector.lab.variants import PLACEHOLDER, Load, Trial, Variant, read_variants
from detector.settings.ablation import Ablation, ContrastNames
from detector.settings.figures import unknown_figure
from detector.yaml_text import KeyPath, YamlDocument

NAME_PATTERN = r"[\w.=,+-]+"


@dataclass(frozen=True)
class External:
    """Detections of another detector, which count as a variant that is not trained."""

    name: str
    files: Mapping[int, Path]  # COCO result files by seed, on data.val of that seed


@dataclass(frozen=True)
class Plan:
    """All variants, checked."""

    file: Path  # that describes them
    overrides: tuple[str, ...]  # key=value, of the command line
    config: Path  # the base config
    shared: tuple[str, ...]  # key=value, changes of all variants, those of the command line last
    seeds: tuple[int, ...]
    metric: str
    metrics: tuple[str, ...]  # to be shown beside it
    baseline: str
    contrasts: tuple[Contrast, ...]
    margin: float | None  # of equivalence, in the unit of the metric
    variants: tuple[Variant, ...]
    external: tuple[External, ...]
    tuning_seeds: tuple[int, ...]
    tuning_share: float | None  # None: trials are measured on data.val of their own seed
    gpus_per_run: int = 1

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str], *, load: Load) -> Plan:
        """The plan of an ablation file; `overrides` (key=value) change all variants.

        They come after the changes of a variant, and only its tuned values come after them. Raises
        InputError for a missing base config, an unknown key, one that the ablation itself sets or
        that is tuned by a metric which it changes, a baseline or a side of a contrast that is no
        variant, and two variants (or two trials of one) whose names or resolved configs are equal.
        """
        path = shipped.resolve(path)
        _refuse_training(path)
        ablation, document = load_as(path, Ablation)
        base = _base(path, ablation, document)
        variants = read_variants(path, ablation, document, base, overrides, load)
        external = tuple(
            External(name, dict(zip(ablation.seeds, files, strict=True)))
            for name, files in ablation.external.items()
        )
        baseline = ablation.baseline or variants[0].name
        pairs: Sequence[ContrastNames] | None = ablation.contrasts
        if pairs is None:
            tuned = {v.name: v.tuned_name for v in variants if v.trials}
            names = [*(v.name for v in variants), *ablation.external]
            pairs = default_contrasts(names, baseline, tuned)
        plan = cls(
            file=path,
            overrides=tuple(overrides),
            config=base,
            shared=(*ablation.set, *overrides),
            seeds=ablation.seeds,
            metric=ablation.metric,
            metrics=ablation.metrics,
            baseline=baseline,
            contrasts=tuple(map(Contrast.of, pairs)),
            margin=ablation.margin,
            variants=variants,
            external=external,
            tuning_seeds=ablation.tuning_seeds,
            tuning_share=ablation.tuning_share,
            gpus_per_run=ablation.gpus_per_run,
        )
        plan._check(document)
        plan._check_contrasts(pairs, document)
        return plan

    @property
    def names(self) -> list[str]:
        """Of all variants, the external ones last."""
        return [*(v.name for v in self.variants), *(one.name for one in self.external)]

    @property
    def by_seed(self) -> tuple[str, ...]:
        """The changes of any variant, key=value, in which {seed} stands for that of the run."""
        changes = [change for v in self.variants for change in v.changes if PLACEHOLDER in change]
        return tuple(dict.fromkeys(changes))

    def differences(self, variant: Variant) -> dict[str, tuple[Any, Any]]:
        """Keys in which a config differs from the baseline's -> the baseline's value, its own."""
        (baseline,) = (v for v in self.variants if v.name == self.baseline)
        base, own = flat(baseline.config), flat(variant.config)
        # a kind of loss has keys that another one has not
        keys = [key for key in {**base, **own} if base.get(key) != own.get(key)]
        return {key: (base.get(key), own.get(key)) for key in keys}

    def with_best(self, best: Mapping[str, Trial]) -> Plan:
        """With one more variant for each whose best trial has other values than its own.

        Where the best values are a variant's own, contrasts of NAME_tuned are of NAME; those that
        then compare a variant with itself, or say what another one says, are left out.

        best: by name of the variant.
        """
        tuning = [v for v in self.variants if v.name in best]
        tuned = [v.tuned(best[v.name]) for v in tuning if best[v.name].config != v.config]
        same = {v.tuned_name: v.name for v in tuning if best[v.name].config == v.config}
        renamed = [contrast.renamed(same) for contrast in self.contrasts]
        # of equal ones the first that was planned: a later addition must not take its test away
        by_rank = sorted(reversed(renamed), key=lambda contrast: contrast.planned)
        distinct = {c.question: c for c in by_rank}
        kept = tuple(c for c in renamed if c.coefficients and c in distinct.values())
        return replace(self, variants=(*self.variants, *tuned), contrasts=kept)

    def identity(self) -> dict[str, Any]:
        """What its runs are; it changes whenever one would, but not by seeds or new default keys.

        Values by "VARIANT: key", without those that are the default. Where something is tuned the
        metric chooses what is run, and so belongs to it; several GPUs of a run round otherwise.
        """
        defaults = flat(Config())
        identity = {
            f"{v.name}: {key}": value
            for v in self.variants
            for key, value in flat(v.config).items()
            if defaults.get(key) != value
        }
        if self.gpus_per_run > 1:
            identity["gpus_per_run"] = self.gpus_per_run
        tuned = {
            f"{v.name}: tune": [list(trial.changes) for trial in v.trials]
            for v in self.variants
            if v.trials
        }
        if tuned:
            chosen_by = {"tuning_seeds": [*self.tuning_seeds], "tuning_share": self.tuning_share}
            identity |= {**tuned, "metric": self.metric, **chosen_by}
        # the configs are those of one seed: what the others replace is not in them
        identity |= {
            f"{v.name}: {PLACEHOLDER}": by_seed
            for v in self.variants
            if (by_seed := [change for change in v.changes if PLACEHOLDER in change])
        }
        return identity

    def _check(self, document: YamlDocument) -> None:
        """What concerns more than one variant, and the figures."""
        figures: list[tuple[KeyPath, str]] = [(("metric",), self.metric)]
        figures += [(("metrics", index), name) for index, name in enumerate(self.metrics)]
        for config in (config for variant in self.variants for config in variant.configs):
            for path, figure in figures:
                if problem := unknown_figure(figure, config.evaluation.metrics):
                    raise InputError(f"{document.origin(path)}: {path[0]}: {problem}")
        self._check_names()
        names = [variant.name for variant in self.variants]
        if self.baseline not in names:
            origin = document.origin(("baseline",))
            raise InputError(
                f"{origin}: baseline: found {self.baseline!r}, it should be one of the variants: "
                f"{', '.join(names)}{nearest(self.baseline, names)}."
            )
        self._check_external(document)
        self._check_distinct("variants", self.variants)
        for variant in self.variants:
            self._check_distinct(f"trials of {variant.name!r}:", variant.trials)

    def _check_external(self, document: YamlDocument) -> None:
        """Their ids are those of data.val, which in folds may be raised."""
        for config in (variant.config for variant in self.variants):
            if self.external and config.data.folds is not None:
                raise InputError(
                    f"{document.origin(('external',))}: external: detections from elsewhere are "
                    "measured on data.val, which data.folds mixes with data.train; leave out one."
                )

    def _check_names(self) -> None:
        variants = self.names
        tuned = [v.tuned_name for v in self.variants if v.trials]
        trials = [trial.name for v in self.variants for trial in v.trials]
        for name in [*variants, *trials]:
            if not re.fullmatch(NAME_PATTERN, name) or name.startswith("."):
                raise InputError(
                    f"{self.file}: variants: {name!r} cannot be the name of a folder; use letters, "
                    "digits and _ - . = , + only, and no dot in front."
                )
        (name, count), *_ = Counter([*variants, *tuned]).most_common(1)
        if count > 1:
            raise InputError(
                f"{self.file}: {count} variants have the name {name!r} (a grid names its own after "
                "their values, and a tuned one is NAME_tuned); rename one, or leave it out."
            )

    def _check_contrasts(self, pairs: Sequence[ContrastNames], document: YamlDocument) -> None:
        names = [*self.names, *(v.tuned_name for v in self.variants if v.trials)]
        before: dict[frozenset[tuple[str, float]], str] = {}
        for index, (contrast, own) in enumerate(zip(self.contrasts, pairs, strict=True)):
            where = f"{document.origin(('contrasts', index))}: contrasts:"
            for name in [name for pair in own for name in pair if name not in names]:
                raise InputError(
                    f"{where} found {name!r}, it should be one of the variants: "
                    f"{', '.join(names)}{nearest(name, names)}."
                )
            if not contrast.coefficients:
                raise InputError(f"{where} {contrast.name} is 0 whatever is found; leave it out.")
            if contrast.question in before:
                raise InputError(
                    f"{where} {contrast.name} tests the same as {before[contrast.question]}, and "
                    "each more test makes the others weaker; leave one out."
                )
            before[contrast.question] = contrast.name

    def _check_distinct(self, kind: str, items: Sequence[Variant | Trial]) -> None:
        for one, other in itertools.combinations(items, 2):
            if one.config == other.config:
                raise InputError(
                    f"{self.file}: {kind} {one.name!r} and {other.name!r} have the same config in "
                    "every key; change one of them, or leave it out."
                )


def _refuse_training(path: Path) -> None:
    """InputError for a training config, whose keys would each be unknown to an ablation."""
    keys = read_file(path).values.keys()
    if keys <= {"base", *Config.model_fields} and not keys <= set(Ablation.model_fields):
        raise InputError(
            f"{path}: this is a training config; ablate takes an ablation, a file that names such "
            "a config under config: and what to compare under variants: (see "
            "configs/ablations/gamma.yaml)."
        )


def _base(path: Path, ablation: Ablation, document: YamlDocument) -> Path:
    """The config that all variants change; InputError where it is missing."""
    beside = Path(os.path.normpath(path.parent / ablation.config))
    base = shipped.resolve(beside, ablation.config)
    if not base.is_file():
        raise InputError(
            f"{document.origin(('config',))}: config: there is no file {base}; name one "
            f"relative to the folder of this file{shipped.HINT}."
        )
    return base
