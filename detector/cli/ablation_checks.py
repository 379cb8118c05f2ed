"""What must hold before runs of an ablation begin or go on, and would be seen late, or never."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detector import build
from detector.config import Config, flat, parse
from detector.data.settings import DataSettings
from detector.engine.logger import logger_classes
from detector.engine.restore import data_identity
from detector.engine.run import CONFIG, last_state
from detector.errors import InputError
from detector.lab.design import first_difference
from detector.lab.plan import Plan
from detector.lab.records import TrialChoice
from detector.lab.variants import Trial, of_seed
from detector.trained import check_class_of, own_metrics_of

Identities = dict[DataSettings, dict[str, str]]  # what data_identity says of the files of today


def check_data(plan: Plan, output: Path) -> None:
    """InputError where data, own code or the metric's class of a variant are missing or wrong.

    Each run would only find it by itself. Also where a run in `output` had other images or boxes
    in the same files: runs of before and after such a change would be compared as if of one data
    set.
    """
    identities: Identities = {}
    for variant in plan.variants:
        own_metrics_of(variant.config)
        logger_classes(variant.config.train.loggers)
        for seed in (*plan.seeds, *(plan.tuning_seeds if variant.trials else ())):
            config = build.load_config(plan.config, of_seed(variant.changes, seed))
            try:
                now = _identity(config, identities)
            except InputError as error:
                raise InputError(f"{plan.file}: variant {variant.name!r}: {error}") from None
            for name in (variant.name, variant.tuned_name):
                _check_same_data(output / "runs" / name / f"seed{seed}", config, now)
    of_classes = [name for name in (plan.metric, *plan.metrics) if name.startswith("AP/")]
    if of_classes:
        index = build.data_index(plan.variants[0].config, "val")
        for figure in of_classes:
            check_class_of(figure, index, f"{plan.file}: metric")


def _identity(config: Config, identities: Identities) -> dict[str, str]:
    if config.data not in identities:
        train, val = (build.data_index(config, part) for part in ("train", "val"))
        identities[config.data] = data_identity(train, val)
    return identities[config.data]


def _check_same_data(run: Path, config: Config, now: Mapping[str, str]) -> None:
    state = last_state(run)
    before = (state or {}).get("data") or now  # older versions saved none
    for key in now:
        if before[key] != now[key]:
            files = " and ".join(str(f.annotations) for f in (config.data.train, config.data.val))
            raise InputError(
                f"{run}: its data were others (of {key}: {before[key]}) than {files} hold today "
                f"({now[key]}): restore the files, or name another --output."
            )


def check_choices(plan: Plan, choices: Mapping[str, TrialChoice], output: Path) -> None:
    """InputError where a run of NAME_tuned was trained at other values than trials choose today.

    So it is where a trial was deleted and trained again, and another one is the best now.
    """
    for variant in plan.variants:
        choice = choices.get(variant.name)
        if choice is None or choice.trial is None:
            continue
        for file in sorted(output.glob(f"runs/{variant.tuned_name}/seed*/{CONFIG}")):
            config = parse(file.read_text(encoding="utf-8"), str(file))
            before, now = (_tuned(c, choice.trial) for c in (config, choice.trial.config))
            if before != now:
                raise InputError(
                    f"{file}: the trials of {variant.name} choose other values today: "
                    f"{first_difference(before, now)}; delete {file.parents[1]} to train it again."
                )


def _tuned(config: Config, trial: Trial) -> dict[str, Any]:
    """The keys that are tuned, with their values."""
    return {
        key: value
        for key, value in flat(config).items()
        if any(f"{key}.".startswith(f"{tuned}.") for tuned in trial.values)
    }
