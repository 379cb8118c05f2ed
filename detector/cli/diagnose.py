"""Why a run's AP is what it is: where its loss lies, calibration, kinds of error, classes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from detector.command_line import add_set, program
from detector.commands.diagnose import diagnose, diagnostics_table
from detector.commands.evaluate import Trained
from detector.errors import InputError


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the words after the command's name; None: those of this process."""
    parser = argparse.ArgumentParser(prog=program("diagnose"), description=__doc__)
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="run directory of `train`"
    )
    parser.add_argument(
        "--checkpoint", default="best", metavar="NAME", help="best (the default), last, or a file"
    )
    add_set(parser, "change keys of the run's config, e.g. data.val.images=DIR")
    parser.add_argument(
        "--output", type=Path, metavar="DIR",
        help="gets diagnostics.json and detections.json (RUN/diagnosis/CHECKPOINT)",
    )  # fmt: skip
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Diagnose and print; the exit code."""
    options = arguments(argv)
    if options.set and options.output is None:
        raise InputError(
            "--set changes what is measured, so its figures need a folder of their own: "
            "add --output DIR."
        )
    output = options.output or options.run / "diagnosis" / Path(options.checkpoint).stem
    trained = Trained.from_run(options.run, options.checkpoint, options.set)
    print(f"diagnosing {options.run}, checkpoint {options.checkpoint}, into {output}", flush=True)
    print(diagnostics_table(diagnose(trained, output)))
    return 0
