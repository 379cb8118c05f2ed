"""The variants of an ablation and their trials: what is declared, as resolved configs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.config import Config
from detector.errors import InputError
from detector.settings.ablation import Ablation, Published, VariantSettings, changing_measure
from detector.yaml_text import KeyPath, YamlDocument

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


def of_seed(changes: Sequence[str], seed: int) -> tuple[str, ...]:
    """The changes of a run with this seed."""
    return tuple(change.replace(PLACEHOLDER, str(seed)) for change in changes)


def read_variants(
    path: Path,
    ablation: Ablation,
    document: YamlDocument,
    base: Path,
    overrides: Sequence[str],
    load: Load,
) -> tuple[Variant, ...]:
    """Those under `variants` of the file `path`, then those of the grid.

    InputError names the variant that is wrong."""
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
    return tuple(variants)


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
    thawing = [c for c in variant.configs if c.model.backbone.frozen_epochs]
    if variant.trials and ablation.tuning_share is not None and thawing:
        raise InputError(
            f"model.backbone.frozen_epochs is {thawing[0].model.backbone.frozen_epochs}, and an "
            "epoch of a trial is shorter by tuning_share, so that its backbone would be trained "
            "from an earlier step on than that of a run; set it to 0 where something is tuned."
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
