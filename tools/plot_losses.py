"""Make docs/losses.md, its pictures and docs/losses.html: the losses in the project's own figures.

python data/digits.py
python tools/plot_losses.py
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import lesson_page
import lesson_plots
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from lesson_page import Image
from lesson_plots import HeadLoss

from detector import build
from detector.command_line import add_set
from detector.config import Config
from detector.data.loader import DetectionDataset, train_loader
from detector.errors import InputError, exit_codes
from detector.files import make_directory, write_text
from detector.lab.results import Results, read_results
from detector.report.markdown import measures_table, results_table
from detector.structures import IGNORED

TOOLS = Path(__file__).parent
HOME = TOOLS.parent
PROBABILITIES = (0.9, 0.5, 0.1, 0.01, 1e-4, 4.5e-5)
LARGE = (800, 1344)  # height and width of a COCO image at 800 pixels, padded to multiples of 32
COCO = (7, 80)  # objects of an image on average, and classes
HEADS = (  # name, score of every class, gamma, alpha
    ("cross-entropy, bias 0 (π = 0.5)", 0.5, 0.0, None),
    ("cross-entropy, π = 0.01", 0.01, 0.0, None),
    ("focal, γ = 2, α = 0.25, bias 0", 0.5, 2.0, 0.25),
    ("focal, γ = 2, α = 0.25, π = 0.01", 0.01, 2.0, 0.25),
)


@dataclass(frozen=True)
class AnchorCounts:
    """Anchors of one image; means over a training set where there is one."""

    height: int
    width: int
    anchors: int
    classes: int = 0
    objects: float = 0.0
    foreground: float = 0.0
    background: float = 0.0
    ignored: float = 0.0


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
        help="gets losses.md, losses.html, losses/*.svg, and replaces those there (docs)",
    )  # fmt: skip
    return parser.parse_args()


def teach(config: Config, large: Config, ablations: Path, output: Path) -> list[Path]:
    """Write OUTPUT/losses.md, OUTPUT/losses.html and OUTPUT/losses/*.svg; their paths.

    config: whose training set is counted (build.load_config). large: whose anchors are counted on
    an image of 800 x 1344. ablations: holds the results.json of ablations, as NAME.json.
    """
    counts = training_counts(config)
    large_counts = AnchorCounts(*LARGE, sum(build.anchor_generator(large).level_lengths(*LARGE)))
    totals = untrained(counts)
    environment = Environment(
        loader=FileSystemLoader(TOOLS),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701  Markdown of our own figures, no page
        keep_trailing_newline=True,
    )
    environment.filters["loss"] = lambda loss: f"{loss:,.0f}" if loss >= 10 else f"{loss:.2g}"
    text = environment.get_template("losses.md.j2").render(
        probabilities=PROBABILITIES,
        log=math.log,
        small=counts,
        large=large_counts,
        totals=totals,
        answer=lambda name: answer(ablations / f"{name}.json"),
        more_than_ap=lambda name: more_than_ap(ablations / f"{name}.json"),
        measured=lambda name: (ablations / f"{name}.json").exists(),
    )
    lesson, page = output / "losses.md", output / "losses.html"
    plots = draw_plots(counts, totals, output / "losses")
    write_text(lesson, text)
    write_text(page, interactive(counts, large_counts))
    return [lesson, page, *plots]


def interactive(counts: AnchorCounts, large: AnchorCounts) -> str:
    """The page with sliders, which begins with an image of COCO's size."""
    images = [
        Image(f"{large.height} × {large.width}", large.anchors, *COCO),
        Image(
            f"{counts.height} × {counts.width}, digits",
            counts.anchors,
            round(counts.objects),
            counts.classes,
        ),
    ]
    return lesson_page.render(images, round(counts.foreground / max(1.0, counts.objects), 1))


def training_counts(config: Config) -> AnchorCounts:
    """Anchors of an image by their match, means over the images of the first epoch."""
    index = build.data_index(config, "train")
    dataset = DetectionDataset(index, build.transform(config), config.train.seed)
    generator, matcher = build.anchor_generator(config), build.matcher(config)
    loader = train_loader(
        dataset, batch_size=config.train.batch_size, epoch=0, accumulate=1, rank=0, world_size=1,
        skip_steps=0, workers=0, pin_memory=False, group_by_aspect=config.data.group_by_aspect,
    )  # fmt: skip
    totals = np.zeros(4)  # images, and their foreground, background and ignored anchors
    height = width = 0
    for batch in (batch for step in loader for batch in step):
        height, width = batch.images.shape[-2:]
        matches = matcher(generator(height, width), batch)
        sums = (matches.foreground.sum(), matches.background.sum())
        totals += [len(batch), *map(int, sums), int((matches.matches == IGNORED).sum())]
    anchors = sum(generator.level_lengths(height, width))
    means = (totals[1:] / totals[0]).tolist()
    objects = int(index.boxes_per_class.sum()) / len(index)
    return AnchorCounts(height, width, anchors, index.num_classes, objects, *means)


def untrained(counts: AnchorCounts) -> list[HeadLoss]:
    """Cross entropy and focal loss of one image where every class has the same probability."""
    losses = []
    for name, score, gamma, alpha in HEADS:
        yes, no = (lesson_plots.focal_loss(np.float64(p), gamma) for p in (score, 1 - score))
        if alpha is not None:
            yes, no = yes * alpha, no * (1 - alpha)
        foreground = counts.foreground * (yes + (counts.classes - 1) * no)
        background = counts.background * counts.classes * no
        losses.append(HeadLoss(name, float(foreground), float(background)))
    return losses


def answer(file: Path) -> str:
    """Markdown tables of an ablation's results.json; a sentence where there is none.

    InputError where not even the folder is there, for that is a mistyped name.
    """
    if not file.parent.is_dir():
        raise InputError(f"{file.parent}: there is no such folder of results; correct --ablations.")
    yaml = f"configs/ablations/{file.stem}.yaml"
    if not file.exists():
        return f"\n(`{yaml}` asks this of the digits; not measured yet.)"
    results = _results(file)
    return (
        f"\nMeasured by `python tools/ablate.py --config {yaml}` ({len(results.seeds)} seeds; "
        "intervals and p as in [statistics.md](statistics.md)):\n\n"
        f"{results_table(results)}"
    )


def more_than_ap(file: Path) -> str:
    """Markdown table of what AP alone does not show; nothing where there is no results.json."""
    if not file.exists():
        return ""
    table = measures_table(_results(file))
    return f"\nMeans over the seeds, with the lowest and the highest:\n\n{table}"


def _results(file: Path) -> Results:
    results = read_results(file)
    described = Path(results.ablation)
    if described.stem != file.stem:
        raise InputError(f"{file}: it is of {described}; call it {described.stem}.json.")
    return results


def draw_plots(counts: AnchorCounts, totals: list[HeadLoss], folder: Path) -> list[Path]:
    """All plots; their paths."""
    make_directory(folder)
    return [
        lesson_plots.save_plot(folder / f"{name}.svg", *panels, size=size)
        for name, size, *panels in lesson_plots.plots(
            totals, counts.foreground, counts.background, counts.classes
        )
    ]


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
