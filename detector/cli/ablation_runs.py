"""The runs of an ablation: what trains, tunes and diagnoses each, and what changes in it."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from detector.config import Config
from detector.lab.placement import Placement
from detector.lab.plan import Plan, Trial, Variant
from detector.lab.sweep import Run, Stage
from detector.settings.ablation import changing_measure

DETECTOR = (sys.executable, "-m", "detector")  # installed or not, wherever the package lies


def runs_of(plan: Plan, output: Path, placement: Placement) -> list[Run]:
    """Seed by seed: a sweep that is stopped early then has all variants of its first seeds."""
    runs = []
    for seed in plan.seeds:
        for v in plan.variants:
            directory = output / "runs" / v.name / f"seed{seed}"
            changes = (*v.changes, *_loaders(v.config, placement))
            diagnosis = Stage(
                _diagnosis(directory),
                product=directory / "diagnosis" / "last",
                source=directory / "checkpoints" / "last.pt",
            )
            training = Stage(_training(plan, seed, directory, changes))
            runs.append(Run(v.name, seed, directory, (training, diagnosis)))
    return runs


def trials_of(plan: Plan, output: Path, placement: Placement) -> list[Run]:
    """Of the first seed, on the part of the training images that tuning leaves."""
    runs, seed, share = [], plan.seeds[0], f"data.tuning={plan.tuning_share}"
    for v in plan.variants:
        for trial in v.trials:
            name = trial_name(v, trial)
            directory = output / name / f"seed{seed}"
            changes = (*v.changes, *trial.changes, share, *_loaders(trial.config, placement))
            training = Stage(_training(plan, seed, directory, changes))
            runs.append(Run(name, seed, directory, (training,)))
    return runs


def trial_name(variant: Variant, trial: Trial) -> str:
    """Of the run of a trial; also that of the folder which holds the run's."""
    return f"tuning/{variant.name}/{trial.name}"


def describe(plan: Plan, output: Path, placement: Placement) -> str:
    """The runs, the differences of the configs, and what runs where, as lines of text."""
    lines = [f"{len(plan.variants)} variants x {len(plan.seeds)} seeds, metric {plan.metric}"]
    changed = {key for v in plan.variants for key in plan.differences(v)}
    if other := ", ".join(changing_measure(plan.metric, changed)):
        lines.append(f"careful: {plan.metric} measures another thing under other values of {other}")
    for variant in plan.variants:
        mark = " (baseline)" if variant.name == plan.baseline else ""
        lines.append(f"{variant.name}{mark}  {variant.question}")
        lines += [
            f"    {key}: {json.dumps(baseline)} -> {json.dumps(value)}"
            for key, (baseline, value) in plan.differences(variant).items()
        ]
        if variant.trials:
            keys, seeds = ", ".join(variant.trials[0].values), len(plan.seeds)
            lines.append(
                f"    tunes {keys}: {len(variant.trials)} runs on {1 - plan.tuning_share:.0%} of "
                f"the training images, then up to {seeds} more of {variant.tuned_name}"
            )
    lines.append(placement.describe())
    runs = [*trials_of(plan, output, placement), *runs_of(plan, output, placement)]
    return "\n".join([*lines, *(shlex.join(run.stages[0].command) for run in runs)])


def _training(plan: Plan, seed: int, directory: Path, changes: tuple[str, ...]) -> tuple[str, ...]:
    """What trains one run; a person can paste it."""
    python, *module = DETECTOR
    k = plan.gpus_per_run
    # standalone: a free port of its own, so that several runs at a time do not meet
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(k))
    return (
        python, *(torchrun if k > 1 else ()), *module, "train", "--config", str(plan.config),
        "--output", str(directory), "--resume", "--set", *changes, f"train.seed={seed}",
    )  # fmt: skip


def _diagnosis(directory: Path) -> tuple[str, ...]:
    return (*DETECTOR, "diagnose", "--run", str(directory), "--checkpoint", "last")


def _loaders(config: Config, placement: Placement) -> tuple[str, ...]:
    """Fewer loader processes than its config says, where it has no cores for them.

    No sample depends on them, and a run goes on under another number.
    """
    too_many = config.data.workers > placement.loaders
    return (f"data.workers={placement.loaders}",) if too_many else ()
