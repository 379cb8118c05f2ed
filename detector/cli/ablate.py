"""Train every variant of an ablation from every seed, and compare them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from detector import build
from detector.command_line import add_set, program
from detector.commands.ablate import ablate, check_data, describe, refuse_other
from detector.commands.forecast import forecast
from detector.errors import InputError
from detector.lab.placement import Placement, visible_gpus
from detector.lab.plan import Plan


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
