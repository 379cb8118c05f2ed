"""Train a detector from a YAML config; leaves a run directory."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from detector.build import load_config
from detector.command_line import add_set, program, python_arguments
from detector.commands.train import train


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the words after the command's name; None: those of this process."""
    parser = argparse.ArgumentParser(prog=program("train"), description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="YAML config")
    add_set(parser, "change keys of the config, e.g. loss.classification.gamma=1")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="run directory (runs/NAME OF THE CONFIG)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on where the run in the directory stopped"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Train; the exit code."""
    options = arguments(argv)
    config = load_config(options.config, options.set)
    output = options.output or Path("runs") / options.config.stem
    return train(config, output, resume=options.resume, command=python_arguments())
