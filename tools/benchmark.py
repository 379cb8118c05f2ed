"""How fast our parts are, and how much memory they take, beside other libraries' in one process.

python tools/benchmark.py
python tools/benchmark.py --config configs/coco_r50_1x.yaml --only step --set train.batch_size=4
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch
from benchmarking.run import BY_REQUEST, SECTIONS, benchmark
from benchmarking.setup import Counts, Figures, Setup
from benchmarking.steps import SIDES
from benchmarking.tables import section

from detector.command_line import add_set
from detector.errors import InputError, run_command

CONFIGS = Path(__file__).parents[1] / "configs"
COUNTS = {
    "rounds": (5, "of each measurement but evaluation and index, which have one"),
    "anchors": (100_000, "of an image, for the loss and matching"),
    "boxes": (500, "of an image, for matching"),
    "classes": (80, "for the loss, the step and its parts"),
    "images": (5_000, "of evaluation; of the loader a fifth, or a few batches"),
    "annotated": (118_000, "images of the annotation index"),
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", type=Path, default=CONFIGS / "digits.yaml", metavar="FILE",
        help="YAML config whose training step is measured, on made-up data (configs/digits.yaml)",
    )  # fmt: skip
    add_set(parser, "change keys of the config, e.g. train.batch_size=4")
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, metavar="SECTION",
        default=[name for name in SECTIONS if name not in BY_REQUEST],
        help=f"of {', '.join(SECTIONS)} (all but {', '.join(BY_REQUEST)})",
    )  # fmt: skip
    parser.add_argument(
        "--sides", nargs="+", choices=SIDES, metavar="SIDE",
        default=["ours", "torchvision", "torchvision_default", "network"],
        help=f"of the section step, of {', '.join(SIDES)} (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto",
        help="of every section (auto: a GPU where there is one)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=Path("runs/benchmark"), metavar="DIR",
        help="gets benchmark.json (runs/benchmark)",
    )  # fmt: skip
    for name, (default, text) in COUNTS.items():
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{text} ({default:,})"
        )
    return parser.parse_args()


def setup(options: argparse.Namespace) -> Setup:
    """What the arguments ask for; InputError where it makes no sense."""
    counts = {name: getattr(options, name) for name in COUNTS}
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"--{name} is {count}; it should be a whole number of at least 1.")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device is cuda, but torch finds no GPU; use --device cpu.")
    overrides = [*options.set, f"train.device={options.device}"]
    return Setup.read(
        options.config, overrides, CONFIGS, sides=options.sides, counts=Counts(**counts)
    )


def show(name: str, figures: Figures) -> None:
    """Print the table of a section."""
    print(section(name, figures), end="\n\n", flush=True)


def main() -> int:
    """Measure and print; the exit code."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler says on stderr that it runs
    options = arguments()
    sections = list(dict.fromkeys(options.only))
    benchmark(setup(options), sections, options.output, command=sys.argv, show=show)
    print(f"written: {options.output / 'benchmark.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
