"""What must hold before runs of an ablation begin or go on, and would be seen late, or never."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from detector import build
from detector.cli.ablation_runs import run_folders
from detector.config import Config
from detector.data.settings import DataSettings
from detector.engine.checkpoint import load_state
from detector.engine.logger import logger_classes
from detector.engine.restore import data_identity
from detector.engine.run import ENVIRONMENT, resolved_config
from detector.errors import InputError
from detector.files import read_object
from detector.lab.plan import Plan
from detector.lab.records import TrialChoice
from detector.lab.variants import PLACEHOLDER, of_seed
from detector.trained import check_class_of, own_metrics_of


def check_data(plan: Plan) -> None:
    """InputError where data, own code or the metric's class of a variant are missing or wrong.

    Each run would only find it by itself.
    """
    checked: list[DataSettings] = []
    for variant in plan.variants:
        own_metrics_of(variant.config)
        logger_classes(variant.config.train.loggers)
        seeds = {*plan.seeds, *(plan.tuning_seeds if variant.trials else ())}
        for seed in sorted(seeds) if PLACEHOLDER in "".join(variant.changes) else plan.seeds[:1]:
            config = build.load_config(plan.config, of_seed(variant.changes, seed))
            if config.data in checked:
                continue
            checked.append(config.data)
            try:
                build.data_index(config, "train")
                build.data_index(config, "val")
            except InputError as error:
                raise InputError(f"{plan.file}: variant {variant.name!r}: {error}") from None
    of_classes = [name for name in (plan.metric, *plan.metrics) if name.startswith("AP/")]
    if of_classes:
        index = build.data_index(plan.variants[0].config, "val")
        for figure in of_classes:
            check_class_of(figure, index, f"{plan.file}: metric")


def check_unchanged(output: Path) -> None:
    """InputError where the files of a run's data hold other images or boxes than it was trained on.

    Runs of before and after such a change would be compared as if they were of one data set. One
    whose checkpoint is missing, of an older version or cannot be read is passed over.
    """
    identities: dict[str, Mapping[str, str]] = {}
    for run in run_folders(output):
        before = _saved_identity(run)
        if before is None:
            continue
        config = resolved_config(run)
        data = config.data.model_dump_json(exclude={"workers"})
        if data not in identities:
            train, val = (build.data_index(config, part) for part in ("train", "val"))
            identities[data] = data_identity(train, val)
        _check_same(run, config, before, identities[data])


def _saved_identity(run: Path) -> Mapping[str, str] | None:
    try:
        state = load_state(run / "checkpoints" / "last.pt", mmap=True)
    except InputError:  # a run fails by itself, and says why
        return None
    return state.get("data")


def _check_same(
    run: Path, config: Config, before: Mapping[str, str], now: Mapping[str, str]
) -> None:
    data = config.data
    files = {"images": data.train, "boxes": data.train, "validation": data.val}
    for key, source in files.items():
        if before[key] != now[key]:
            raise InputError(
                f"{run}: it was trained with {before[key]}, and {source.annotations} holds "
                f"{now[key]}; restore the file, delete the folder to train the run again, or name "
                "another --output."
            )


def check_choices(plan: Plan, choices: Mapping[str, TrialChoice], output: Path) -> None:
    """InputError where a run of NAME_tuned was trained at other values than trials choose today.

    So it is where a trial was deleted and trained again, and another one is the best now.
    """
    for variant in plan.variants:
        choice = choices.get(variant.name)
        if choice is None or choice.trial is None:
            continue
        for seed in plan.seeds:
            run = output / "runs" / variant.tuned_name / f"seed{seed}"
            if not (run / ENVIRONMENT).is_file():
                continue
            command = read_object(run / ENVIRONMENT, "command")["command"]
            chosen = of_seed(choice.trial.changes, seed)
            if not {*chosen} <= {*command}:
                raise InputError(
                    f"{run}: the trials of {variant.name} choose {', '.join(chosen)} today, and it "
                    f"was trained at other values; delete {run.parent} to train it again."
                )
