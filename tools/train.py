"""Train a detector from a YAML config; leaves a run directory.

python tools/train.py --config configs/digits.yaml --set train.seed=1
torchrun --nproc-per-node 8 tools/train.py --config configs/coco_r50_1x.yaml
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from detector.build import load_config
from detector.command_line import add_set
from detector.commands.train import train
from detector.errors import run_command


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="YAML config")
    add_set(parser, "change keys of the config, e.g. loss.classification.gamma=1")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="run directory (runs/NAME OF THE CONFIG)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on where the run in the directory stopped"
    )
    return parser.parse_args()


def main() -> int:
    """Train; the exit code."""
    options = arguments()
    config = load_config(options.config, options.set)
    output = options.output or Path("runs") / options.config.stem
    return train(config, output, resume=options.resume, command=sys.argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
