"""From an ablation's file to the runs that it asks for."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector import shipped
from detector.config import Config, flat, load_as
from detector.errors import InputError
from detector.settings.ablation import Ablation, Published, VariantSettings, changing_measure
from detector.settings.figures import unknown_figure
from detector.yaml_text import KeyPath, YamlDocument

NAME_PATTERN = r"[\w.=,+-]+"
OWNED = {
    "train.seed": "the seeds are those of `seeds`",
    "data.tuning": "what trials are measured on is `tuning_share`",
}  # keys that the ablation itself sets in its runs
SEED = "train.seed=0"  # of the resolved configs: the seeds of the runs are no difference
PLACEHOLDER = "{seed}"  # in a change: the seed of the run, as of a data set drawn anew for each
Load = Callable[[Path, Sequence[str], Mapping[str, str]], Config]


@dataclass(frozen=True)
class Trial:
    """One combination of the values that a variant tunes."""

    name: str
    values: Mapping[str, Any]  # by key
    changes: tuple[str, ...]  # key=value, beside those of the variant
    config: Config  # the variant's with these values


@dataclass(frozen=True)
class Variant:
    """One of the configs that are compared."""

    name: str
    question: str
    changes: tuple[str, ...]  # key=value, those that all variants share included
    published: Published | None
    config: Config  # resolved, with seed 0 and the data of the first seed
    trials: tuple[Trial, ...] = ()  # none where nothing is tuned

    @property
    def tuned_name(self) -> str:
        """The name of the variant with the values of its best trial."""
        return f"{self.name}_tuned"

    @property
    def configs(self) -> list[Config]:
        """Its own, and those of its trials."""
        return [self.config, *(trial.config for trial in self.trials)]

    def tuned(self, trial: Trial) -> Variant:
        """The variant with the values of `trial`."""
        values = ", ".join(_changes(trial.values))
        return Variant(
            name=self.tuned_name,
            question=f"{self.name} at the best of what it tunes: {values}",
            changes=(*self.changes, *trial.changes),
            published=None,
            config=trial.config,
        )


@dataclass(frozen=True)
class Plan:
    """All variants, checked."""

    file: Path  # that describes them
    overrides: tuple[str, ...]  # key=value, of the command line
    config: Path  # the base config
    seeds: tuple[int, ...]
    metric: str
    baseline: str
    variants: tuple[Variant, ...]
    tuning_seeds: tuple[int, ...]
    tuning_share: float | None  # None: trials are measured on data.val of their own seed
    gpus_per_run: int = 1

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str], *, load: Load) -> Plan:
        """The plan of an ablation file; `overrides` (key=value) change all variants.

        They come after the changes of a variant, and only its tuned values come after them. Raises
        InputError for a missing base config, an unknown key, one that the ablation itself sets or
        that is tuned by a metric which it changes, a baseline that is no variant, and two variants
        (or two trials of one) whose names or resolved configs are equal.
        """
        path = shipped.resolve(path)
        ablation, document = load_as(path, Ablation)
        beside = Path(os.path.normpath(path.parent / ablation.config))
        base = shipped.resolve(beside, ablation.config)
        if not base.is_file():
            raise InputError(
                f"{document.origin(('config',))}: config: there is no file {base}; name one "
                f"relative to the folder of this file{shipped.HINT}."
            )
        grid = _combinations(ablation.grid)
        of_grid = [(name, VariantSettings(set=_changes(values))) for name, values in grid]
        variants = []
        for name, settings in [*ablation.variants.items(), *of_grid]:
            changes = (*ablation.set, *settings.set, *overrides)
            origins = _origins(document, ablation, name)
            try:
                variant = _variant(name, settings, changes, base, origins, ablation.seeds[0], load)
                _check_variant(variant, ablation, base)
            except InputError as error:
                raise InputError(f"{path}: variant {name!r}: {error}") from None
            variants.append(variant)
        plan = cls(
            path, tuple(overrides), base, ablation.seeds, ablation.metric, ablation.baseline,
            tuple(variants), ablation.tuning_seeds, ablation.tuning_share, ablation.gpus_per_run,
        )  # fmt: skip
        plan._check(document)
        return plan

    def differences(self, variant: Variant) -> dict[str, tuple[Any, Any]]:
        """Keys in which a config differs from the baseline's -> the baseline's value, its own."""
        (baseline,) = (v for v in self.variants if v.name == self.baseline)
        base, own = flat(baseline.config), flat(variant.config)
        # a kind of loss has keys that another one has not
        keys = [key for key in {**base, **own} if base.get(key) != own.get(key)]
        return {key: (base.get(key), own.get(key)) for key in keys}

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
        """What concerns more than one variant, and the metric."""
        for config in (config for variant in self.variants for config in variant.configs):
            if problem := unknown_figure(self.metric, config.evaluation.metrics):
                raise InputError(f"{document.origin(('metric',))}: metric: {problem}")
        self._check_names()
        names = [variant.name for variant in self.variants]
        if self.baseline not in names:
            origin = document.origin(("baseline",))
            raise InputError(
                f"{origin}: baseline: found {self.baseline!r}, it should be one of the variants: "
                f"{', '.join(names)}."
            )
        self._check_distinct("variants", self.variants)
        for variant in self.variants:
            self._check_distinct(f"trials of {variant.name!r}:", variant.trials)

    def _check_names(self) -> None:
        variants = [v.name for v in self.variants]
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

    def _check_distinct(self, kind: str, items: Sequence[Variant | Trial]) -> None:
        for one, other in itertools.combinations(items, 2):
            if one.config == other.config:
                raise InputError(
                    f"{self.file}: {kind} {one.name!r} and {other.name!r} have the same config in "
                    "every key; change one of them, or leave it out."
                )


def of_seed(changes: Sequence[str], seed: int) -> tuple[str, ...]:
    """The changes of a run with this seed."""
    return tuple(change.replace(PLACEHOLDER, str(seed)) for change in changes)


def _variant(
    name: str,
    settings: VariantSettings,
    changes: tuple[str, ...],
    base: Path,
    origins: Mapping[str, str],
    seed: int,
    load: Load,
) -> Variant:
    keys = [*(change.partition("=")[0] for change in changes), *settings.tune]
    for key in map(str.strip, keys):
        if key in OWNED:
            raise InputError(f"{key} cannot be set or tuned in an ablation: {OWNED[key]}.")
    resolved = of_seed(changes, seed)
    origins = {of_seed((change,), seed)[0]: origin for change, origin in origins.items()}
    config, trials = load(base, (*resolved, SEED), origins), []
    for text, values in _combinations(settings.tune):
        own = _changes(values)
        trials.append(Trial(text, values, own, load(base, (*resolved, *own, SEED), origins)))
    return Variant(name, settings.question, changes, settings.published, config, tuple(trials))


def _check_variant(variant: Variant, ablation: Ablation, base: Path) -> None:
    metric, gpus = ablation.metric, ablation.gpus_per_run
    tuned = variant.trials[0].values if variant.trials else {}
    if keys := changing_measure(metric, tuned):
        raise InputError(
            f"it tunes {', '.join(keys)} by {metric}, which measures another thing under each of "
            "their values; tune by an AP."
        )
    for config in variant.configs:
        images, parts = config.train.batch_size, config.optimizer.accumulate * gpus
        if gpus > 1 and images % parts:
            raise InputError(
                f"train.batch_size is {images}, and gpus_per_run x optimizer.accumulate is "
                f"{parts}; choose a multiple of it."
            )
    if variant.trials and variant.config.data.tuning is not None:
        raise InputError(
            f"data.tuning is {variant.config.data.tuning} in {base}, and a variant that tunes "
            "needs a null there; tuning_share sets images aside."
        )
    val = [c for c in variant.changes if c.startswith("data.val.annotations") and PLACEHOLDER in c]
    if variant.trials and ablation.tuning_share is None and not val:
        raise InputError(
            "tuning_share is null, and data.val.annotations is the same for all seeds, so that its "
            "values would be chosen on the images that are reported; give a share, or a set for "
            f"each seed (data.val.annotations=.../{PLACEHOLDER}/...)."
        )


def _origins(document: YamlDocument, ablation: Ablation, name: str) -> dict[str, str]:
    """Where each change of a variant is written: of all variants, and of its own or of the grid."""
    written: list[tuple[KeyPath, Sequence[str]]] = [(("set",), ablation.set)]
    above: KeyPath = ("grid",)
    values = ablation.grid
    if settings := ablation.variants.get(name):
        written.append((("variants", name, "set"), settings.set))
        above, values = ("variants", name, "tune"), settings.tune
    for key, of_key in values.items():
        written.append(((*above, key), [_change(key, value) for value in of_key]))
    return {
        change: document.origin((*path, index))
        for path, changes in written
        for index, change in enumerate(changes)
    }


def _combinations(grid: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """One value of each key, under a name made of them; none where there are no keys."""
    for chosen in itertools.product(*grid.values()) if grid else ():
        values = dict(zip(grid, chosen, strict=True))
        parts = [f"{key.rsplit('.', 1)[-1]}={json.dumps(value)}" for key, value in values.items()]
        yield ",".join(parts), values


def _changes(values: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(_change(key, value) for key, value in values.items())


def _change(key: str, value: Any) -> str:
    return f"{key}={json.dumps(value)}"
