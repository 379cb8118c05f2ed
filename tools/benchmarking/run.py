"""A benchmark: its sections, their figures, and the file that keeps them.

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

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarking.data import measure_evaluation, measure_index, measure_loader
from benchmarking.losses import measure_compiled_losses, measure_losses, measure_matching
from benchmarking.prediction import measure_prediction
from benchmarking.setup import Figures, Setup
from benchmarking.steps import measure_parts, measure_step, refuse_sides
from detector.engine.run import run_environment
from detector.files import new_directory, write_json

SECTIONS: dict[str, Callable[[Setup], Figures]] = {
    "loss": measure_losses,
    "loss_compiled": measure_compiled_losses,
    "matching": measure_matching,
    "step": measure_step,
    "parts": measure_parts,
    "predict": measure_prediction,
    "loader": measure_loader,
    "evaluation": measure_evaluation,
    "index": measure_index,
}
BY_REQUEST = ("loss_compiled",)  # costs minutes on a CPU


def benchmark(
    setup: Setup,
    sections: Sequence[str],
    output: Path,
    *,
    command: Sequence[str],
    show: Callable[[str, Figures], object],
) -> None:
    """Measure these of SECTIONS, show each, and write `output`/benchmark.json.

    InputError where `output` holds something already; then nothing is measured.
    """
    if "step" in sections:
        refuse_sides(setup)
    with new_directory(output) as folder:
        report: Figures = {"environment": run_environment(command), "setting": setup.describe()}
        for name in sections:
            report[name] = SECTIONS[name](setup)
            show(name, report[name])
        write_json(folder / "benchmark.json", report)
