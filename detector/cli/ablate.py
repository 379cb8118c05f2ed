"""Train every variant of an ablation from every seed, and compare them."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from detector import build
from detector.cli.ablation_results import bootstraps, collect_results, results_table
from detector.cli.ablation_runs import describe, forecast, runs_of, trial_name, trials_of
from detector.command_line import add_set, program
from detector.data.settings import DataSettings
from detector.engine.logger import logger_classes
from detector.errors import InputError
from detector.files import locked, make_directory, occupied, read_object, write_json
from detector.lab.placement import Placement, visible_gpus
from detector.lab.plan import Plan
from detector.lab.records import TrialChoice, choose, last_metric
from detector.lab.results import Results, RunnerTime, read_results, write_results
from detector.lab.sweep import Outcome, Run, Sweep
from detector.lab.variants import PLACEHOLDER, of_seed
from detector.report.page import write_report
from detector.trained import check_class_of, own_metrics_of

MARK = "ablation.json"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the words after the command's name; None: those of this process."""
    parser = argparse.ArgumentParser(prog=program("ablate"), description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="ablation YAML")
    parser.add_argument(
        "--output", type=Path, metavar="DIR",
        help="gets runs/, tuning/, results.json and report.html; goes on with what is there "
        "(runs/NAME OF THE CONFIG)",
    )  # fmt: skip
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="runs at the same time (%(default)s), dealt to the GPUs in turn, so that more than "
        "there are GPUs share them; on CPUs they share the cores, unless OMP_NUM_THREADS is set; "
        "another number of threads rounds otherwise",
    )
    add_set(parser, "change keys of every variant")
    parser.add_argument(
        "--dry-run", action="store_true", help="only say what would be run, and how long it takes"
    )
    return parser.parse_args(argv)


def say(text: str) -> None:
    """A line that appears at once, also in a file."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # nobody listens any more, and the sweep goes on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ablation; the exit code."""
    options = arguments(argv)
    if options.workers < 1:
        raise InputError(f"--workers is {options.workers}; at least one run goes on at a time.")
    plan = Plan.read(options.config, options.set, load=build.load_config)
    placement = Placement.of(plan, visible_gpus(), workers=options.workers)
    output = options.output or Path("runs") / options.config.stem
    if options.dry_run:
        refuse_other(plan, output)
        say(describe(plan, output, placement))
        check_data(plan)
        say(forecast(plan, output, placement))
        return 0
    return ablate(plan, output, placement=placement, say=say)


def ablate(plan: Plan, output: Path, *, placement: Placement, say: Callable[[str], None]) -> int:
    """Do what is not done yet and write results.json; the exit code.

    0; 1 if a run failed; 128 + signal if one ended the sweep, which the same call goes on with.
    InputError where another process does the same.
    """
    with locked(output):
        return _ablate(plan, output, placement, say)


def _ablate(plan: Plan, output: Path, placement: Placement, say: Callable[[str], None]) -> int:
    refuse_other(plan, output)
    check_data(plan)
    _claim(plan, output)
    sweep = Sweep(output, environments=placement.environments(), say=say)
    trials = trials_of(plan, output, placement)
    # one sweep for both: the runs start on workers that the last trials leave free
    todo = [run for run in trials if not run.diverged]
    outcomes = {run: Outcome(1, None) for run in trials if run.diverged}
    outcomes |= sweep([*todo, *runs_of(plan, output, placement)])
    choices = _choices(plan, trials, outcomes)
    plan = _with_tuned(plan, choices)
    if sweep.received is None:
        tuned = [run for run in runs_of(plan, output, placement) if run not in outcomes]
        outcomes |= sweep(tuned)
    if sweep.received is not None:
        say("stopped by a signal, with the runs in progress saved; the same command goes on")
        return 128 + sweep.received
    spent = sweep.runner_time()
    results = collect_results(plan, outcomes, choices, _last_busy(output, spent))
    _write(output, results, outcomes, say)
    if (overhead := spent.overhead) is not None:
        say(f"runner overhead while runs were in progress {100 * overhead:.1f} % of their time")
    diverged_trials = {run for run in trials if run.diverged}
    failed = [run for run in outcomes if outcomes[run].code != 0 and run not in diverged_trials]
    for run in failed:
        say(f"failed: {run.name}; see {run.log}")
    if failed:
        say("the same command goes on from their checkpoints; without their folders, from nothing")
    return 1 if failed else 0


def _choices(
    plan: Plan, trials: list[Run], outcomes: Mapping[Run, Outcome]
) -> dict[str, TrialChoice]:
    """Of the variants all of whose trials were finished or diverged."""
    choices = {}
    for v in plan.variants:
        names = {trial_name(v, trial): trial.name for trial in v.trials}
        runs = [run for run in trials if run.variant in names]
        if runs and all(run.diverged or outcomes[run].code == 0 for run in runs):
            metrics: dict[str, list[float | None]] = {name: [] for name in names.values()}
            for run in runs:
                value = None if run.diverged else last_metric(run.directory, plan.metric)
                metrics[names[run.variant]].append(value)
            means = {name: _mean(of_seeds) for name, of_seeds in metrics.items()}
            choices[v.name] = choose(v, means, plan.metric)
    return choices


def _mean(values: Sequence[float | None]) -> float | None:
    """None where one of them is: a combination that diverges from some seed is not chosen."""
    known = [value for value in values if value is not None]
    return mean(known) if len(known) == len(values) else None


def _with_tuned(plan: Plan, choices: Mapping[str, TrialChoice]) -> Plan:
    """The plan with one more variant for each whose best values are not its own."""
    tuned = [
        v.tuned(trial)
        for v in plan.variants
        if v.name in choices and (trial := choices[v.name].trial) and trial.config != v.config
    ]
    return replace(plan, variants=(*plan.variants, *tuned))


def _last_busy(output: Path, spent: RunnerTime) -> RunnerTime:
    """The time of an earlier call where this one had nothing to run, and so says nothing."""
    earlier = output / "results.json"
    return spent if spent.busy or not earlier.exists() else read_results(earlier).runner


def _write(
    output: Path, results: Results, outcomes: Mapping[Run, Outcome], say: Callable[[str], None]
) -> None:
    """results.json, also before the bootstrap, which may take long; the page and the table."""
    write_results(output / "results.json", results)
    names = {variant.name for variant in results.variants}
    directories = {
        (run.variant, run.seed): run.directory
        for run, outcome in outcomes.items()
        if outcome.code == 0 and run.variant in names
    }
    say("comparing by bootstrap over images")
    results = replace(results, bootstrap=tuple(bootstraps(directories, results.baseline, say)))
    write_results(output / "results.json", results)
    say(results_table(results))
    say(f"report: {write_report(output)}")


def refuse_other(plan: Plan, output: Path) -> None:
    """InputError if the folder is there and not this ablation's."""
    mark = output / MARK
    if not mark.exists():
        if occupied(output):
            raise InputError(f"{output}: it holds something else; name another --output.")
        return
    before, identity = read_object(mark, "ablation", "command", "identity"), plan.identity()
    if before["identity"] != identity:
        raise InputError(
            f"{output}: it holds other runs, of {before['ablation']}: "
            f"{_first_difference(before['identity'], identity)}; go on with "
            f"{shlex.join(before['command'])}, or name another --output."
        )


def _first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Between two identities of plans, which hold no key that has its default."""
    there, here = ({k: json.dumps(v) for k, v in keys.items()} for keys in (before, now))
    key, *others = (key for key in {**there, **here} if there.get(key) != here.get(key))
    more = f" (and {len(others)} more)" if others else ""
    default = "the default"
    return f"{key} is {there.get(key, default)} there and {here.get(key, default)} here{more}"


def _claim(plan: Plan, output: Path) -> None:
    """Mark the folder as this ablation's."""
    if (output / MARK).exists():
        return
    make_directory(output)
    command = ["detector", "ablate", "--config", str(plan.file), "--output", str(output)]
    content = {
        "ablation": str(plan.file),
        "command": command + (["--set", *plan.overrides] if plan.overrides else []),
        "config": str(plan.config),
        "identity": plan.identity(),
    }
    write_json(output / MARK, content)


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
    if plan.metric.startswith("AP/"):
        index = build.data_index(plan.variants[0].config, "val")
        check_class_of(plan.metric, index, f"{plan.file}: metric")
