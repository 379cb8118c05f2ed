"""Detect objects in images or folders of images, and draw them.

python tools/predict.py --run runs/digits data/digits/val --output found
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from detector.commands.evaluate import Trained
from detector.commands.predict import predict
from detector.errors import InputError, run_command


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="run directory")
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="images or folders")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--checkpoint", default="best", metavar="NAME", help="best, last or a file")
    parser.add_argument(
        "--score", type=float, default=0.3, help="lowest score of a detection (%(default)s)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="change one key of the run's config; may be repeated",
    )  # fmt: skip
    return parser.parse_args()


def main() -> int:
    """Predict, and say where the results are."""
    options = arguments()
    if not 0 <= options.score <= 1:
        raise InputError(f"--score is {options.score}; a score lies between 0 and 1.")
    overrides = [*options.set, f"postprocess.score={options.score}"]
    trained = Trained.from_run(options.run, options.checkpoint, overrides)
    print(predict(trained, options.paths, options.output, score=options.score))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
