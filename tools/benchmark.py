"""How fast our parts are, and how much memory they take, beside torchvision's in one process.

python tools/benchmark.py
python tools/benchmark.py --config configs/coco_r50_1x.yaml --set train.batch_size=4 --device cuda
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from detector.commands.benchmark import Figures, Plan, benchmark
from detector.errors import InputError, run_command

LOSSES = Path(__file__).parents[1] / "configs" / "losses"
COUNTS = {
    "rounds": (5, "of each measurement; a ratio is made in each of them"),
    "anchors": (100_000, "an image, of the loss and of matching"),
    "boxes": (500, "an image, of matching"),
    "classes": (80, "of the loss and of the step"),
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", type=Path, default=Path("configs/digits.yaml"), metavar="FILE",
        help="YAML config whose training step is measured, on made-up data (configs/digits.yaml)",
    )  # fmt: skip
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="change keys of the config, e.g. train.batch_size=4",
    )  # fmt: skip
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/benchmark"), metavar="DIR",
        help="gets benchmark.json (runs/benchmark)",
    )  # fmt: skip
    for name, (default, text) in COUNTS.items():
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{text} ({default:,})"
        )
    return parser.parse_args()


def plan(options: argparse.Namespace) -> Plan:
    """What the arguments ask for; InputError where it makes no sense."""
    counts = {name: getattr(options, name) for name in COUNTS}
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"--{name} is {count}; it should be a whole number of at least 1.")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device is cuda, but torch finds no GPU; use --device cpu.")
    overrides = [*options.set, f"train.device={options.device}"]
    return Plan.read(options.config, overrides, LOSSES, **counts)


def show(section: str, figures: Figures) -> None:
    """Print the table of a section."""
    print("\n".join(TABLES[section](figures)), end="\n\n", flush=True)


def loss_table(figures: Figures) -> list[str]:
    """A line a preset."""
    head = f"{'loss, forward and backward':30}{'speed, partner = 1':>26}{'copies':>9}{'partner':>9}"
    return [head] + [
        f"  {name:28}{ratio(one['speed']):>26}{one['copies']:9.2f}{one['partner_copies']:9.2f}"
        for name, one in figures.items()
    ]


def matching_table(figures: Figures) -> list[str]:
    """Speed and memory."""
    ours, partner = figures["extra_bytes"] / 1e6, figures["partner_extra_bytes"] / 1e6
    return [
        f"{'matching':30}{'speed, partner = 1':>26}{'MB':>9}{'partner':>9}",
        f"  {'':28}{ratio(figures['speed']):>26}{ours:9,.0f}{partner:9,.0f}",
    ]


def step_table(figures: Figures) -> list[str]:
    """The parts, then the presets."""
    count, height, width = figures["images"]
    title = f"step, {count} images of {width} x {height}"
    share, cost = figures["share"].items(), figures["cost"].items()
    return [
        f"{title:30}{'share of its time':>26}",
        *(f"  {part:28}{ratio(one):>26}" for part, one in share),
        f"{'step under each loss':30}{'time, focal = 1':>26}",
        *(f"  {name:28}{ratio(one):>26}" for name, one in cost),
        f"{'step that is looked at':30}{'time, another = 1':>26}",
        f"  {diagnoses(figures):28}{ratio(figures['diagnosis']):>26}",
    ]


def diagnoses(figures: Figures) -> str:
    """What train.diagnose_every costs of the training."""
    every = figures["diagnosis_every"]
    if every is None:
        return "never"
    return f"every {every}th: {(figures['diagnosis']['median'] - 1) / every:.1%} of all"


def ratio(value: Figures) -> str:
    """The median, and the range in brackets."""
    return f"{value['median']:.2f} ({value['lowest']:.2f} to {value['highest']:.2f})"


TABLES = {"loss": loss_table, "matching": matching_table, "step": step_table}


def main() -> int:
    """Measure and print; the exit code."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler says on stderr that it runs
    options = arguments()
    benchmark(plan(options), options.output, command=sys.argv, show=show)
    print(f"written: {options.output / 'benchmark.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
