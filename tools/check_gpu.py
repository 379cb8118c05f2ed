"""Prove on a GPU that everything works there, and measure how fast it is, in minutes.

python tools/check_gpu.py --output runs/gpu
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from benchmarking.gpu_check import GpuSection, check
from benchmarking.gpu_scale import FULL, QUICK, Scale
from benchmarking.gpu_sections import gpu_sections, headline

from detector.errors import InputError, run_command
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
        help="of tests training step loss predict lab compiled (all)",
    )  # fmt: skip
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], default="cuda", help="cpu needs --quick (cuda)"
    )
    parser.add_argument(
        "--quick", action="store_const", const=QUICK, default=FULL, dest="scale",
        help="everything at toy size: whether it runs at all, and no figure that means anything",
    )  # fmt: skip
    return parser.parse_args()


def chosen(available: Mapping[str, GpuSection], names: list[str] | None) -> list[GpuSection]:
    """The sections of these names, in the order of the check."""
    unknown = [name for name in names or [] if name not in available]
    if unknown:
        raise InputError(f"--only has {unknown[0]!r}; the sections are {', '.join(available)}.")
    return [section for name, section in available.items() if names is None or name in names]


def main() -> int:
    """Run the check; 0 if all passed, 1 if a section failed."""
    options = arguments()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "torch finds no CUDA device, and this is a check of one; with --device cpu --quick "
            "everything runs at toy size on the CPU."
        )
    if options.device == "cpu" and options.scale is FULL:
        raise InputError("--device cpu is for --quick: the sizes of a GPU would take it hours.")
    if not 0 < options.minutes < math.inf:
        raise InputError(f"--minutes is {options.minutes:g}; it should be more than 0, and finite.")
    if occupied(options.output):
        raise InputError(f"--output {options.output}: it holds something already; choose another.")
    scale: Scale = replace(options.scale, device=options.device)
    with TemporaryDirectory() as work:
        wanted = chosen(gpu_sections(scale, Path(work)), options.only)
        make_directory(options.output)
        passed = check(
            wanted, options.output, minutes=options.minutes, command=sys.argv, headline=headline,
            say=lambda text: print(text, flush=True),
        )  # fmt: skip
    print(f"written: {options.output / 'gpu.md'}, {options.output / 'gpu.json'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(run_command(main))
