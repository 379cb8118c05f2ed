"""How fast our parts are, and how much memory they take, beside other libraries' in one process.

python tools/benchmark.py
python tools/benchmark.py --config configs/coco_r50_1x.yaml --only step --set train.batch_size=4

Sides run in turn in one process, A B A B ...; a ratio is made within its round and written as
{median, lowest, highest} over the rounds. N images, A anchors, G boxes of an image, K classes.

`loss.PRESET`: dense classification loss of 2 images, forward and backward, from matches and labels;
the targets that a partner wants are part of its work. Partners: torchvision's sigmoid_focal_loss,
and torch's binary_cross_entropy_with_logits and cross_entropy (of K + 1 classes).
  speed             partner's time / ours: above 1, ours is faster
  over_copy         our time / that of a copy of the logits, which reads them once and writes as
                    much once, as any loss with a gradient must
  bandwidth         bytes a second of that copy, read and written
  copies            our extra peak memory / bytes of the logits
  partner_copies    the partner's
  difference        largest difference of the two gradients / largest entry of the partner's
`loss_compiled`: the same with ours through torch.compile (not measured unless --only asks).
`matching`: 2 images, against torchvision's box_iou and Matcher image by image.
  speed             partner's time / ours
  memory            partner's extra peak memory / ours
  extra_bytes, partner_extra_bytes   these two
  agreement         share of the anchors with the same match
`step`: one training step of the config on made-up images, at learning rate 0. Sides: `ours`;
`torchvision`, its RetinaNet of the same layers in our precision and memory format;
`torchvision_default`, in float32 (torch's, so TF32 on a GPU) and its own; `network`, forward and
backward of a random gradient in our network, which no loss, matcher or optimizer can beat;
`..._compiled` through torch.compile, `..._graph` as one CUDA graph.
  images            N, height, width, with padding
  ratios            time of one side / that of another
  sides.SIDE        milliseconds (median, of CUDA events on a GPU), images_per_second, peak_bytes
                    (weights, optimizer state and activations), host_milliseconds until the host has
                    handed the step over, kernel_milliseconds of the kernels alone, launches
`parts`: the same step in pieces.
  share.PART        share of the step's time, under the config's own loss: assign (and divisors),
                    forward, loss, backward, optimizer (and clipping, averages, meter). A GPU is
                    waited for after every part, which the step by itself never does
  cost.PRESET       time of the step under a preset of configs/losses / under focal
  diagnosis         time of a step that train.diagnose_every (here diagnosis_every) looks at / of
                    another: all diagnoses cost (diagnosis - 1) / diagnosis_every of the training
`predict`: torchvision's R50 detector and ours with its weights, on images of the config's size with
sides rounded up to multiples of 128, where both have the same anchors.
  speed             partner's time / ours
  agreement         share of the partner's detections that ours has too, in float32: the class, the
                    box within a pixel, the score within .01
`loader`: JPEG photographs of 640 x 480 to batches of the config, a worker a core, against Pillow,
torchvision's v2 transforms and torch's DataLoader.
  speed             our images a second / the partner's, after the first two batches of each worker
`evaluation`: COCO metrics of detections in memory, against pycocotools from its JSON files.
  speed             partner's time / ours
  difference        largest difference of the twelve figures
`index`: reading a COCO annotation file, against pycocotools.COCO, each in a process of its own.
  first, cached     partner's time / ours, of the first reading and of the next one
  held_bytes        by which the process grew
Extra peak memory: the most bytes held at once beyond what was there before, gradients included.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from benchmarking.data import measure_evaluation, measure_index, measure_loader
from benchmarking.losses import measure_losses, measure_matching
from benchmarking.prediction import measure_prediction
from benchmarking.setup import CONFIGS, Setup
from benchmarking.steps import SIDES, measure_parts, measure_step, refuse_sides
from benchmarking.tables import tables
from benchmarking.timing import Figures

from detector import build
from detector.command_line import add_set
from detector.engine.run import run_environment
from detector.errors import InputError, exit_codes
from detector.files import new_directory, write_json

SECTIONS: dict[str, Callable[[Setup], Figures]] = {
    "loss": measure_losses,
    "loss_compiled": partial(measure_losses, compiled=True),
    "matching": measure_matching,
    "step": measure_step,
    "parts": measure_parts,
    "predict": measure_prediction,
    "loader": measure_loader,
    "evaluation": measure_evaluation,
    "index": measure_index,
}
BY_REQUEST = ("loss_compiled",)  # costs minutes on a CPU
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
    add_set(parser, "change keys of the config, e.g. train.batch_size=4 train.device=cpu")
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
        "--output", type=Path, default=Path("runs/benchmark"), metavar="DIR",
        help="gets benchmark.json (runs/benchmark)",
    )  # fmt: skip
    for name, (default, text) in COUNTS.items():
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{text} ({default:,})"
        )
    return parser.parse_args()


def main() -> int:
    """Measure, print and write; the exit code."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler says on stderr that it runs
    options = arguments()
    counts = {name: getattr(options, name) for name in COUNTS}
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"--{name} is {count}; it should be a whole number of at least 1.")
    config = build.load_config(options.config, options.set)
    setup = Setup(config=config, on=build.device(config), sides=tuple(options.sides), **counts)
    if "step" in options.only:
        refuse_sides(setup)
    device = torch.cuda.get_device_name(setup.on) if setup.on.type == "cuda" else "cpu"
    precision = str(setup.precision).removeprefix("torch.")
    report: Figures = {
        "environment": run_environment(sys.argv),
        "setting": {"device": device, "precision": precision, **counts},
    }
    with new_directory(options.output) as folder:
        for name in dict.fromkeys(options.only):
            report[name] = SECTIONS[name](setup)
            print(tables(name, report[name]), end="\n\n", flush=True)
        write_json(folder / "benchmark.json", report)
    print(f"written: {options.output / 'benchmark.json'}")
    return 0


if __name__ == "__main__":
    with exit_codes():
        sys.exit(main())
