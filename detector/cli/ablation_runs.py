"""The runs of an ablation: what trains, tunes and diagnoses each, and how long they will take."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from itertools import islice, product
from pathlib import Path
from statistics import median

import torch

from detector import build
from detector.config import Config
from detector.data.sampling import steps_per_epoch
from detector.data.settings import DataSettings
from detector.engine.meter import Meter
from detector.engine.optim import Schedule
from detector.errors import InputError
from detector.lab.placement import Placement
from detector.lab.plan import Plan
from detector.lab.sweep import STATE, Run, Stage, clock, read_finished
from detector.lab.variants import Trial, Variant, of_seed
from detector.settings.ablation import changing_measure
from detector.training import Assembly

DETECTOR = (sys.executable, "-m", "detector")  # installed or not, wherever the package lies
TIMED = 8  # steps, after one that sets things up


def runs_of(plan: Plan, output: Path, placement: Placement) -> list[Run]:
    """Seed by seed: a sweep that is stopped early then has all variants of its first seeds."""
    runs = []
    for seed in plan.seeds:
        for v in plan.variants:
            directory = output / "runs" / v.name / f"seed{seed}"
            changes = (*of_seed(v.changes, seed), *_loaders(v.config, placement))
            diagnosis = Stage(
                _diagnosis(directory),
                product=directory / "diagnosis" / "last",
                source=directory / "checkpoints" / "last.pt",
            )
            training = Stage(_training(plan, seed, directory, changes))
            runs.append(Run(v.name, seed, directory, (training, diagnosis)))
    return runs


def trials_of(plan: Plan, output: Path, placement: Placement) -> list[Run]:
    """Of the seeds that tuning has for itself; with a share, on what it leaves of the images.

    InputError where the images must be counted and cannot be.
    """
    runs, images = [], dict[DataSettings, int]()
    for v, seed in product(plan.variants, plan.tuning_seeds):
        for trial in v.trials:
            name = trial_name(v, trial)
            directory = output / name / f"seed{seed}"
            own = of_seed((*v.changes, *trial.changes), seed)
            share = _share(plan, own, images)
            changes = (*own, *share, *_loaders(trial.config, placement))
            training = Stage(_training(plan, seed, directory, changes))
            runs.append(Run(name, seed, directory, (training,)))
    return runs


def run_folders(output: Path) -> list[Path]:
    """Those that are there: of the runs, then of the trials."""
    patterns = ("runs/*/seed*", "tuning/*/*/seed*")
    return [folder for pattern in patterns for folder in sorted(output.glob(pattern))]


def _share(
    plan: Plan, changes: tuple[str, ...], images: dict[DataSettings, int]
) -> tuple[str, ...]:
    """What makes a trial leave out images, and yet take as many steps as a run with all of them."""
    if plan.tuning_share is None:
        return ()
    share = f"data.tuning={plan.tuning_share}"
    config = build.load_config(plan.config, changes)
    if config.schedule.steps is not None:
        return (share,)
    whole = _schedule(config, images)
    length = {"epochs": None, "steps": whole.total_steps, "milestones": list(whole.milestones)}
    return (share, *(f"schedule.{key}={json.dumps(value)}" for key, value in length.items()))


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
            keys, share = ", ".join(variant.trials[0].values), plan.tuning_share
            images = "" if share is None else f" on {1 - share:.0%} of the training images"
            lines.append(
                f"    tunes {keys}: {len(variant.trials) * len(plan.tuning_seeds)} runs{images}, "
                f"then up to {len(plan.seeds)} more of {variant.tuned_name}"
            )
            if not any(variant.tuned_name in c.coefficients for c in plan.contrasts):
                lines.append(
                    f"    careful: no contrast has {variant.tuned_name}; give {plan.baseline} the "
                    "same tune, or name it under contrasts"
                )
    lines += [
        f"{one.name}  detections of another detector: {', '.join(map(str, one.files.values()))}"
        for one in plan.external
    ]
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


def forecast(plan: Plan, output: Path, placement: Placement) -> str:
    """The steps of every run and the time of all that is left, or why it cannot be estimated.

    Seconds a step are those of the finished runs in `output`, all their stages included. Without
    any a few steps of the first variant are run here, alone, with as many threads as a run gets.
    """
    try:
        return _forecast(plan, output, placement)
    except InputError as error:
        return f"no estimate of the time: {error}"


def _forecast(plan: Plan, output: Path, placement: Placement) -> str:
    runs, trials = runs_of(plan, output, placement), trials_of(plan, output, placement)
    steps = _steps(plan)
    done = read_finished(output / STATE)
    to_do = [run for run in [*trials, *runs] if run.name not in done and not run.diverged]
    left = sum(steps[run.variant] for run in to_do) / placement.workers  # steps of each worker
    finished = [run for run in [*trials, *runs] if run.name in done]
    if finished:
        # the median: a run that was killed and resumed has only its last part in `done`
        pace = median(done[run.name] / steps[run.variant] for run in finished)
        duration = clock(left * pace)
        source = f"by the {len(finished)} finished runs in {output}"
        if placement.sharing > 1:
            source += f", as if those had also been {placement.sharing} on a GPU"
    else:
        first = plan.variants[0]
        pace = _seconds_a_step(first.config, placement)
        duration = _alone_to_shared(left * pace, placement.sharing)
        source = f"by {1000 * pace:.0f} ms a step of {first.name}, timed now"
        if placement.gpus_per_run > 1:
            source += (
                " on one GPU with its part of a batch; what "
                f"{placement.gpus_per_run} exchange comes on top"
            )
        source += "; starts, validations and diagnoses come on top"
    each = " or ".join(f"{count:,}" for count in sorted(set(steps.values())))
    tuned = {f"{v.tuned_name}, seed {s}" for v in plan.variants if v.trials for s in plan.seeds}
    unknown = len(tuned - set(done)) if to_do or not (output / "results.json").exists() else 0
    more = f"; up to {unknown} runs of tuned variants come on top" if unknown else ""
    return (
        f"{len(trials) + len(runs)} runs of {each} steps, {len(to_do)} of them to do: about "
        f"{duration} with --workers {placement.workers}, {source}{more}"
    )


def _alone_to_shared(seconds: float, sharing: int) -> str:
    """H:MM:SS of runs whose pace alone is known; a range where several share a GPU."""
    if sharing == 1:
        return clock(seconds)
    return (
        f"{clock(seconds)} (if the {sharing} runs on a GPU do not slow each other down) to "
        f"{clock(seconds * sharing)} (if they gain nothing)"
    )


def _steps(plan: Plan) -> dict[str, int]:
    """Optimizer steps of a run by its name without the seed.

    A tuned variant is not known yet and does not count.
    """
    images: dict[DataSettings, int] = {}
    steps: dict[str, int] = {}
    for v in plan.variants:
        for trial in v.trials:
            steps[trial_name(v, trial)] = _schedule(trial.config, images).total_steps
        steps[v.name] = _schedule(v.config, images).total_steps
    return steps


def _schedule(config: Config, images: dict[DataSettings, int]) -> Schedule:
    """In steps; `images` keeps what was counted of each training set."""
    if config.schedule.steps is not None:
        return build.schedule(config, 1)
    if config.data not in images:
        images[config.data] = len(build.data_index(config, "train"))
    return build.schedule(config, steps_per_epoch(images[config.data], config.train.batch_size))


def _seconds_a_step(config: Config, placement: Placement) -> float:
    """Of the first steps of a training, with the images and loader of one of its processes."""
    on = build.device(config)
    part = config.train.batch_size // placement.gpus_per_run
    train = config.train.model_copy(update={"batch_size": part})
    training = Assembly(config.model_copy(update={"train": train}), Path(os.devnull), on)
    training.net.train()
    meter, marks = Meter(on), []
    threads = torch.get_num_threads()
    torch.set_num_threads(placement.threads)
    try:
        loaders = min(config.data.workers, placement.loaders)
        batches = training.load(0, 0, workers=loaders)
        for index, step in enumerate(islice(batches, TIMED + 1)):
            moved = [batch.to(on) for batch in step]
            training.step(moved, meter, rate=training.schedule(index), index=index)
            meter.read()  # waits for the device, whose kernels are queued
            marks.append(time.perf_counter())
    finally:
        torch.set_num_threads(threads)
    if len(marks) < 2:
        raise InputError("an epoch has but one step, and the first one cannot be timed.")
    return (marks[-1] - marks[0]) / (len(marks) - 1)
