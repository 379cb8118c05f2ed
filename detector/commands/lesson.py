"""docs/losses.md: the lesson's text filled with numbers, and its plots drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from detector import build
from detector.config import Config
from detector.data.loader import DetectionDataset, train_loader
from detector.errors import InputError
from detector.files import make_directory, write_text
from detector.lab.results import Results, VariantResult, read_results
from detector.lab.statistics import Interval
from detector.report import lesson_plots
from detector.structures import IGNORED

TEXT = Path(__file__).parents[1] / "report" / "lesson.md.j2"
PROBABILITIES = (0.9, 0.5, 0.1, 0.01, 1e-4, 4.5e-5)
LARGE = (800, 1344)  # height and width of a COCO image at 800 pixels, padded to multiples of 32


@dataclass(frozen=True)
class AnchorCounts:
    """Anchors of one image; means over a training set where there is one."""

    height: int
    width: int
    anchors: int
    classes: int = 0
    foreground: float = 0.0
    background: float = 0.0
    ignored: float = 0.0


@dataclass(frozen=True)
class HeadLoss:
    """The loss of the anchors of one image under an untrained head."""

    name: str
    foreground: float
    background: float


def teach(config: Config, large: Config, ablations: Path, output: Path) -> list[Path]:
    """Write OUTPUT/losses.md and OUTPUT/losses/*.svg; their paths.

    config: whose training set is counted (build.load_config). large: whose anchors are counted on
    an image of 800 x 1344. ablations: holds the results.json of ablations, as NAME.json.
    """
    small = training_counts(config)
    wide = AnchorCounts(*LARGE, anchors=sum(build.anchor_generator(large).level_lengths(*LARGE)))
    totals = untrained(small)
    environment = Environment(
        loader=FileSystemLoader(TEXT.parent),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701  Markdown of our own figures, no page
        keep_trailing_newline=True,
    )
    text = environment.get_template(TEXT.name).render(
        costs=[{"probability": f"{p:g}", "cost": f"{-math.log(p):.2f}"} for p in PROBABILITIES],
        log2=math.log(2),
        classes=small.classes,
        log_classes=math.log(small.classes),
        small=small,
        large=wide,
        totals=[
            {"name": t.name, "foreground": _shown(t.foreground), "background": _shown(t.background)}
            for t in totals
        ],
        quieter=1 / 0.1**2,
        quietest=1 / 0.01**2,
        answer=lambda name: answer(ablations / f"{name}.json"),
        measured=lambda name: (ablations / f"{name}.json").exists(),
    )
    page = output / "losses.md"
    plots = draw_plots(small, totals, output / "losses")
    write_text(page, text)
    return [page, *plots]


def training_counts(config: Config) -> AnchorCounts:
    """Anchors of an image by their match, means over the images of the first epoch."""
    index = build.data_index(config, "train")
    dataset = DetectionDataset(index, build.transform(config), config.train.seed)
    generator, matcher = build.anchor_generator(config), build.matcher(config)
    totals = np.zeros(4)  # images, and their foreground, background and ignored anchors
    height = width = 0
    for batch in (b for step in _epoch(dataset, config) for b in step):
        height, width = batch.images.shape[-2:]
        matches = matcher(generator(height, width), batch)
        sums = (matches.foreground.sum(), matches.background.sum())
        totals += [len(batch), *map(int, sums), int((matches.matches == IGNORED).sum())]
    foreground, background, ignored = (totals[1:] / totals[0]).tolist()
    return AnchorCounts(
        height,
        width,
        sum(generator.level_lengths(height, width)),
        index.num_classes,
        foreground,
        background,
        ignored,
    )


def untrained(counts: AnchorCounts) -> list[HeadLoss]:
    """Cross entropy and focal loss of one image where every class has the same probability."""
    heads = [
        ("cross-entropy, bias 0 (π = 0.5)", 0.5, 0.0, None),
        ("cross-entropy, π = 0.01", 0.01, 0.0, None),
        ("focal, γ = 2, α = 0.25, bias 0", 0.5, 2.0, 0.25),
        ("focal, γ = 2, α = 0.25, π = 0.01", 0.01, 2.0, 0.25),
    ]
    losses = []
    for name, score, gamma, alpha in heads:
        yes = _term(score, gamma) * (1 if alpha is None else alpha)
        no = _term(1 - score, gamma) * (1 if alpha is None else 1 - alpha)
        foreground = counts.foreground * (yes + (counts.classes - 1) * no)
        losses.append(HeadLoss(name, foreground, counts.background * counts.classes * no))
    return losses


def answer(file: Path) -> str:
    """A Markdown table of an ablation's results.json; a sentence where there is none.

    InputError where not even the folder is there, for that is a mistyped name.
    """
    if not file.parent.is_dir():
        raise InputError(f"{file.parent}: there is no such folder of results; correct --ablations.")
    if not file.exists():
        return (
            f"\n(`configs/ablations/{file.stem}.yaml` asks this of the digits; not measured yet.)"
        )
    results = read_results(file)
    described = Path(results.ablation)
    if described.stem != file.stem:
        raise InputError(f"{file}: it is of {described}; call it {described.stem}.json.")
    command = f"python tools/ablate.py --config configs/ablations/{file.stem}.yaml"
    seeds = len(results.seeds)
    lines = [
        f"\nMeasured by `{command}` ({seeds} seeds; interval of 95 % over seeds):\n",
        f"| variant | {results.metric} | difference from `{results.baseline}` |",
        "|---|---|---|",
        *(_row(variant, results) for variant in results.variants),
    ]
    return "\n".join(lines)


def draw_plots(counts: AnchorCounts, totals: Sequence[HeadLoss], folder: Path) -> list[Path]:
    """All plots; their paths."""
    make_directory(folder)
    names = ("negative_log", "activations", "overwhelm", "focal", "prior")
    files = {name: folder / f"{name}.svg" for name in names}
    logs = (lesson_plots.negative_log, lesson_plots.negative_log_of_scale)
    lesson_plots.save_plot(files["negative_log"], *logs, size=(8, 3.2))
    activations = (lesson_plots.sigmoid, lesson_plots.softmax)
    lesson_plots.save_plot(files["activations"], *activations, size=(8, 3.2))
    bars = lesson_plots.loss_bars(
        [t.name for t in totals], [t.foreground for t in totals], [t.background for t in totals]
    )
    lesson_plots.save_plot(files["overwhelm"], bars, size=(8, 3.4))
    lesson_plots.save_plot(files["focal"], lesson_plots.focal_curves)
    start = lesson_plots.prior_curves(counts.foreground, counts.background, counts.classes)
    lesson_plots.save_plot(files["prior"], start)
    return list(files.values())


def _epoch(dataset: DetectionDataset, config: Config) -> Any:
    return train_loader(
        dataset,
        batch_size=config.train.batch_size,
        epoch=0,
        accumulate=1,
        rank=0,
        world_size=1,
        skip_steps=0,
        workers=0,
        pin_memory=False,
        group_by_aspect=config.data.group_by_aspect,
    )


def _term(p: float, gamma: float) -> float:
    return float(lesson_plots.focal_loss(np.float64(p), gamma))


def _shown(loss: float) -> str:
    return f"{loss:,.0f}" if loss >= 10 else f"{loss:.2g}"


def _row(variant: VariantResult, results: Results) -> str:
    if variant.mean is None:
        return f"| `{variant.name}` | failed | |"
    difference = variant.difference
    shown = "baseline" if variant.name == results.baseline else ""
    if difference is not None:
        shown = _with_interval(difference.mean, difference.interval, sign="+")
    return f"| `{variant.name}` | {_with_interval(variant.mean, variant.interval)} | {shown} |"


def _with_interval(mean: float, interval: Interval | None, *, sign: str = "") -> str:
    """A mean; one seed has no interval."""
    spread = f" ({interval.low:{sign}.3f} to {interval.high:{sign}.3f})" if interval else ""
    return f"{mean:{sign}.3f}{spread}"
