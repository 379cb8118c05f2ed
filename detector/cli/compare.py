"""The difference in AP of two evaluated runs, or of two COCO result files, with its interval."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from detector.command_line import program
from detector.commands.compare import compare, evaluated_file, evaluated_run
from detector.errors import InputError


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the words after the command's name; None: those of this process."""
    parser = argparse.ArgumentParser(prog=program("compare"), description=__doc__)
    parser.add_argument(
        "first",
        type=Path,
        metavar="RUN",
        help="run directory, --output of `evaluate`, or result file",
    )
    parser.add_argument("second", type=Path, metavar="RUN", help="another of the same images")
    parser.add_argument(
        "--checkpoint", metavar="NAME", help="of the runs, as evaluated: best (the default) or last"
    )
    parser.add_argument(
        "--ground-truth", type=Path, metavar="FILE", help="COCO annotations of two result files"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="gets comparison.json")
    parser.add_argument(
        "--resamples", type=int, default=1000, metavar="N", help="draws of the images (1000)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws (0)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print; the exit code."""
    options = arguments(argv)
    if options.ground_truth is None:
        first, second = (
            partial(evaluated_run, path, options.checkpoint)
            for path in (options.first, options.second)
        )
    elif options.checkpoint:
        raise InputError("--checkpoint goes with two runs, --ground-truth with two result files.")
    else:
        first, second = (
            partial(evaluated_file, path, options.ground_truth)
            for path in (options.first, options.second)
        )
    numbers = {"resamples": options.resamples, "seed": options.seed}
    print(compare(first, second, options.output, **numbers))
    return 0
