"""Train every variant of an ablation from every seed, and compare them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from detector import build
from detector.cli.ablation_checks import check_choices, check_data, check_unchanged
from detector.cli.ablation_external import external_run, measure_external, read_sources
from detector.cli.ablation_merge import merge
from detector.cli.ablation_results import bootstraps, collect_results
from detector.cli.ablation_runs import describe, forecast, runs_of, trial_name, trials_of
from detector.command_line import add_set, program
from detector.engine.run import revision
from detector.errors import InputError
from detector.files import locked
from detector.lab.design import declared
from detector.lab.placement import ALL, Placement, Shard, visible_gpus
from detector.lab.plan import Plan
from detector.lab.records import TrialChoice, choose, last_metric
from detector.lab.results import Amendment, Results, RunnerTime, read_results, write_results
from detector.lab.statistics import complete_mean
from detector.lab.sweep import STATE, Outcome, Run, Sweep, read_finished
from detector.report.folder import read_folder
from detector.report.markdown import results_table
from detector.report.page import write_ablation_page
from detector.report.paper import write_paper


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the words after the command's name; None: those of this process."""
    parser = argparse.ArgumentParser(prog=program("ablate"), description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="ablation YAML")
    parser.add_argument(
        "--output", type=Path, metavar="DIR",
        help="gets runs/, tuning/, results.json, report.html and paper/; goes on with what is "
        "there (runs/NAME OF THE CONFIG)",
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
    parser.add_argument(
        "--shard", default="1/1", metavar="K/N",
        help="do only every N-th run, from the K-th on, and no results: a part for one of N "
        "machines, each with an --output of its own",
    )  # fmt: skip
    parser.add_argument(
        "--merge", type=Path, nargs="+", default=[], metavar="DIR",
        help="first take in the finished runs of these folders of the same ablation",
    )  # fmt: skip
    parser.add_argument(
        "--amend", metavar="REASON",
        help="change seeds, metric or margin, or leave out contrasts, though runs are finished; it "
        "is shown in the results",
    )  # fmt: skip
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
    shard = Shard.parse(options.shard)
    plan = Plan.read(options.config, options.set, load=build.load_config)
    placement = Placement.of(plan, visible_gpus(), workers=options.workers)
    output = options.output or Path("runs") / options.config.stem
    if options.dry_run:
        declared(plan, output, options.amend)
        say(describe(plan, output, placement))
        check_data(plan)
        read_sources(plan)
        check_unchanged(output)
        say(forecast(plan, output, placement))
        return 0
    return ablate(
        plan, output, placement=placement, say=say,
        shard=shard, sources=options.merge, amend=options.amend,
    )  # fmt: skip


def ablate(
    plan: Plan,
    output: Path,
    *,
    placement: Placement,
    say: Callable[[str], None],
    shard: Shard = ALL,
    sources: Sequence[Path] = (),
    amend: str | None = None,
) -> int:
    """Do what is not done yet and, unless it is a shard, write results.json; the exit code.

    0, also if runs diverged, which is an outcome; 1 if one failed otherwise, or what was merged is
    not all; 128 + signal if one ended the sweep, which the same call goes on with. InputError where
    another process does the same.

    sources: folders whose runs are taken in first. amend: why the design changes, if it does.
    """
    with locked(output):
        record = declared(plan, output, amend)
        check_data(plan)
        read_sources(plan)
        if sources:
            record = merge(plan, record, sources, output, say)
        check_unchanged(output)
        record.write(output)
        plan = record.planned(plan)
        if shard != ALL:
            return _run_shard(plan, output, placement, say, shard)
        if sources and (missing := _missing(plan, output, placement)):
            say(
                f"not done: {len(missing)} runs, the first {missing[0].name}; the same command "
                "without --merge does them here, with --shard K/N a part of them; then the results"
            )
            return 1
        return _run_all(plan, output, placement, say, record.amendments)


def _run_shard(
    plan: Plan, output: Path, placement: Placement, say: Callable[[str], None], shard: Shard
) -> int:
    if (revision() or "").endswith("+"):
        say("careful: files of the checkout are changed; --merge will refuse runs of unknown code")
    runs = shard.of(_known_runs(plan, output, placement))
    sweep = Sweep(output, environments=placement.environments(), say=say)
    outcomes = sweep(runs)
    if sweep.received is not None:
        return _stopped(sweep.received, say)
    say(f"{len(runs)} runs of shard {shard}; --merge of all shards' folders makes the results")
    return _report_unfinished([run for run in outcomes if outcomes[run].code != 0], say)


def _known_runs(plan: Plan, output: Path, placement: Placement) -> list[Run]:
    """All that can be listed: those of tuned variants come last, once all trials have ended."""
    trials, own = trials_of(plan, output, placement), runs_of(plan, output, placement)
    tuned = _with_best(plan, _choices(plan, trials, _finished(trials, output)))
    return [*trials, *own, *(run for run in runs_of(tuned, output, placement) if run not in own)]


def _missing(plan: Plan, output: Path, placement: Placement) -> list[Run]:
    runs = _known_runs(plan, output, placement)
    finished = _finished(runs, output)
    return [run for run in runs if run.name not in finished and not run.diverged]


def _finished(runs: Sequence[Run], output: Path) -> set[str]:
    """Names of those that are trained and were not deleted since."""
    finished = read_finished(output / STATE)
    return {run.name for run in runs if run.name in finished and run.directory.is_dir()}


def _run_all(
    plan: Plan,
    output: Path,
    placement: Placement,
    say: Callable[[str], None],
    amendments: Sequence[Amendment],
) -> int:
    measure_external(plan, output)  # first: a file may be wrong
    sweep = Sweep(output, environments=placement.environments(), say=say)
    trials = trials_of(plan, output, placement)
    # one sweep for both: the runs start on workers that the last trials leave free
    outcomes = sweep([*trials, *runs_of(plan, output, placement)])
    choices = _choices(plan, trials, {run.name for run in outcomes if outcomes[run].code == 0})
    plan = _with_best(plan, choices)
    if sweep.received is None:
        check_choices(plan, choices, output)
        tuned = [run for run in runs_of(plan, output, placement) if run not in outcomes]
        outcomes |= sweep(tuned)
    if sweep.received is not None:
        return _stopped(sweep.received, say)
    check_unchanged(output)  # again: a run may have met other files while the others went on
    spent = sweep.runner_time()
    runner = _last_busy(output, spent)
    results = collect_results(plan, output, outcomes, choices, runner, amendments)
    _write(plan, output, results, outcomes, say)
    if (overhead := spent.overhead) is not None:
        say(f"runner overhead while runs were in progress {100 * overhead:.1f} % of their time")
    return _report_unfinished([run for run in outcomes if outcomes[run].code != 0], say)


def _stopped(signum: int, say: Callable[[str], None]) -> int:
    say("stopped by a signal, with the runs in progress saved; the same command goes on")
    return 128 + signum


def _report_unfinished(runs: Sequence[Run], say: Callable[[str], None]) -> int:
    failed = [run for run in runs if not run.diverged]
    for run in runs:
        what = "failed" if run in failed else "diverged, an outcome that is not tried again"
        say(f"{what}: {run.name}; see {run.log}")
    if failed:
        say("the same command goes on from their checkpoints; without their folders, from nothing")
    return 1 if failed else 0


def _choices(plan: Plan, trials: list[Run], finished: Collection[str]) -> dict[str, TrialChoice]:
    """Of the variants all of whose trials were finished or diverged."""
    choices = {}
    for v in plan.variants:
        names = {trial_name(v, trial): trial.name for trial in v.trials}
        runs = [run for run in trials if run.variant in names]
        if runs and all(run.diverged or run.name in finished for run in runs):
            metrics: dict[str, list[float | None]] = {name: [] for name in names.values()}
            for run in runs:
                value = None if run.diverged else last_metric(run.directory, plan.metric)
                metrics[names[run.variant]].append(value)
            # a combination that diverges from some seed is not chosen
            means = {name: complete_mean(of_seeds) for name, of_seeds in metrics.items()}
            choices[v.name] = choose(v, means, plan.metric)
    return choices


def _with_best(plan: Plan, choices: Mapping[str, TrialChoice]) -> Plan:
    return plan.with_best({name: c.trial for name, c in choices.items() if c.trial is not None})


def _last_busy(output: Path, spent: RunnerTime) -> RunnerTime:
    """The time of an earlier call where this one had nothing to run, and so says nothing."""
    earlier = output / "results.json"
    return spent if spent.busy or not earlier.exists() else read_results(earlier).runner


def _write(
    plan: Plan,
    output: Path,
    results: Results,
    outcomes: Mapping[Run, Outcome],
    say: Callable[[str], None],
) -> None:
    """results.json, also before the bootstrap, which may take long; the page and the table."""
    write_results(output / "results.json", results)
    directories = {
        (run.variant, run.seed): run.directory
        for run, outcome in outcomes.items()
        if outcome.code == 0 and run.variant in plan.names
    } | {
        (one.name, seed): external_run(output, one.name, seed)
        for one in plan.external
        for seed in one.files
    }
    say("comparing by bootstrap over images")
    results = replace(results, bootstrap=tuple(bootstraps(directories, results.baseline, say)))
    write_results(output / "results.json", results)
    say(results_table(results))
    ablation = read_folder(output)
    say(f"report: {write_ablation_page(ablation)}")
    say(f"for a paper: {write_paper(ablation)}")
