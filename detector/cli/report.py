"""The page of a run: RUN/report.html, which needs nothing else; evaluates the run where it must."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from detector import build
from detector.cli.evaluate import evaluate_run
from detector.command_line import program
from detector.config import Config
from detector.engine.run import config_file
from detector.report.run_evaluation import RunEvaluation, read_evaluation
from detector.report.run_page import failure_of, write_run_page
from detector.trained import Trained

CHECKPOINT = "best"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the words after the command's name; None: those of this process."""
    parser = argparse.ArgumentParser(prog=program("report"), description=__doc__)
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="run directory of `train`"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page and print its path; the exit code."""
    run = arguments(argv).run
    config = build.load_config(config_file(run))
    print(write_run_page(run, config, evaluation_of(run, config)))
    return 0


def evaluation_of(run: Path, config: Config) -> RunEvaluation | None:
    """Of the best checkpoint, made where it is missing; None where the run diverged before one.

    InputError for a run without a checkpoint that did not diverge.
    """
    folder = run / "evaluation" / CHECKPOINT
    if not folder.exists():
        if failure_of(run) and not (run / "checkpoints" / f"{CHECKPOINT}.pt").exists():
            return None
        trained = Trained.from_run(run, CHECKPOINT, [])
        print(f"evaluating {run}, checkpoint {CHECKPOINT}, into {folder}", flush=True)
        evaluate_run(trained, folder)
    return read_evaluation(folder, build.data_index(config, "val"))
