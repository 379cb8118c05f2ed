"""Make docs/losses.md and its pictures: what the losses are, with the project's own figures.

python data/digits.py
python tools/plot_losses.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from detector import build
from detector.command_line import add_set
from detector.commands.lesson import teach
from detector.errors import exit_codes

HOME = Path(__file__).parents[1]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", type=Path, metavar="FILE", default=HOME / "configs/digits.yaml",
        help="config whose training set is counted (configs/digits.yaml)",
    )  # fmt: skip
    add_set(parser, "change keys of the config, e.g. data.train.images=DIR")
    parser.add_argument(
        "--ablations", type=Path, metavar="DIR", default=HOME / "docs/ablations",
        help="folder with the results.json of ablations, as NAME.json (docs/ablations)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="DIR", default=HOME / "docs",
        help="gets losses.md and losses/*.svg, and replaces those there (docs)",
    )  # fmt: skip
    return parser.parse_args()


def main() -> int:
    """Write and say what was written; the exit code."""
    options = arguments()
    large = build.load_config(HOME / "configs/retinanet.yaml")
    config = build.load_config(options.config, options.set)
    for path in teach(config, large, options.ablations, options.output):
        print(path)
    return 0


if __name__ == "__main__":
    with exit_codes():
        sys.exit(main())
