"""Detect objects in images or folders of images, and draw them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from detector.command_line import add_set, program
from detector.commands.evaluate import Trained
from detector.commands.predict import predict

SCORE = 0.3  # of detections that are worth a look; a run has the low one that AP needs


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the words after the command's name; None: those of this process."""
    parser = argparse.ArgumentParser(prog=program("predict"), description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="run directory")
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="images or folders")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--checkpoint", default="best", metavar="NAME", help="best, last or a file")
    add_set(parser, "change keys of the run's config, e.g. postprocess.nms=0.6")
    parser.add_argument(
        "--score", dest="set", action="append", metavar="SCORE",
        type="postprocess.score={}".format,
        help=f"lowest score of a detection ({SCORE}), short for --set postprocess.score=SCORE",
    )  # fmt: skip
    return parser.parse_args(argv)


def warn(text: str) -> None:
    """A line on stderr, at once."""
    sys.stderr.write(f"warning: {text}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Predict, and say where the results are; the exit code, 1 where images were unreadable."""
    options = arguments(argv)
    overrides = [f"postprocess.score={SCORE}", *options.set]  # later ones win
    trained = Trained.from_run(options.run, options.checkpoint, overrides)
    unreadable = predict(trained, options.paths, options.output, warn=warn)
    print(options.output / "detections.json")
    if unreadable:
        warn(f"images left out as they cannot be read: {unreadable}")
    return 1 if unreadable else 0
