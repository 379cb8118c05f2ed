"""Prove on a GPU that everything works there, and measure how fast it is, in minutes.

python tools/check_gpu.py --output runs/gpu
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from benchmarking.gpu_check import check
from benchmarking.gpu_sections import FULL, QUICK, SHARES, gpu_sections

from detector.errors import InputError, exit_codes
from detector.files import make_directory, occupied


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=Path("runs/gpu"), metavar="DIR",
        help="gets gpu.json, gpu.md and a log a section (runs/gpu)",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=float, default=15, metavar="M",
        help="for everything; a section that ends early leaves its time to the others (15)",
    )  # fmt: skip
    parser.add_argument(
        "--only", nargs="+", metavar="SECTION",
        help=f"of {' '.join(SHARES)} (all)",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_const", const=QUICK, default=FULL, dest="scale",
        help="at toy size on the CPU: whether everything runs, and no figure that means anything",
    )  # fmt: skip
    return parser.parse_args()


def main() -> int:
    """Run the check; 0 if all passed, 1 if a section failed."""
    options = arguments()
    if options.scale is FULL and not torch.cuda.is_available():
        raise InputError(
            "torch finds no CUDA device, and this is a check of one; with --quick everything runs "
            "at toy size on the CPU."
        )
    if not 0 < options.minutes < math.inf:
        raise InputError(f"--minutes is {options.minutes:g}; it should be more than 0, and finite.")
    if occupied(options.output):
        raise InputError(f"--output {options.output}: it holds something already; choose another.")
    unknown = [name for name in options.only or [] if name not in SHARES]
    if unknown:
        raise InputError(f"--only has {unknown[0]!r}; the sections are {', '.join(SHARES)}.")
    make_directory(options.output)
    with TemporaryDirectory() as work:
        sections = gpu_sections(options.scale, Path(work)).values()
        passed = check(
            [section for section in sections if section.name in (options.only or SHARES)],
            options.output, minutes=options.minutes, command=sys.argv,
            say=lambda text: print(text, flush=True),
        )  # fmt: skip
    print(f"written: {options.output / 'gpu.md'}, {options.output / 'gpu.json'}")
    return 0 if passed else 1


if __name__ == "__main__":
    with exit_codes():
        sys.exit(main())
