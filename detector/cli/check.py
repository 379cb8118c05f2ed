"""What is wrong with a config's data set, and how its anchors fit, before a training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from detector import build
from detector.anchors.generator import AUTO
from detector.check import report as reports
from detector.check.boxes import anchor_cases, defect_cases, label_cases, pair_cases, place_cases
from detector.check.classes import class_cases
from detector.check.figures import batch_figures, count, fit_of
from detector.check.findings import Finding, collect
from detector.check.images import image_cases, look_at_images
from detector.check.pictures import draw_all
from detector.check.report import Report
from detector.check.split import Split, read_splits
from detector.command_line import add_set, program
from detector.config import Config
from detector.engine.preflight import reached_from
from detector.files import new_directory
from detector.training import with_anchors


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the words after the command's name; None: those of this process."""
    parser = argparse.ArgumentParser(prog=program("check"), description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="YAML config")
    add_set(parser, "change keys of the config, e.g. data.resize.shorter=640")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="a new folder (runs/check_NAME OF THE CONFIG)"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Check, and say what was found; the exit code, 1 where there are errors."""
    options = arguments(argv)
    config = build.load_config(options.config, options.set)
    output = options.output or Path("runs") / f"check_{options.config.stem}"
    with new_directory(output) as draft:
        report = check(config, str(options.config), draft)
    print("\n".join(reports.lines(report)))
    print(output / "check.html")
    return 1 if report.errors else 0


def check(config: Config, name: str, folder: Path) -> Report:
    """All that there is to say of a config and its data, also as check.json and check.html.

    Raises InputError where the data cannot be read at all.
    """
    splits = read_splits(config)
    train, resize = splits[0].index, config.data.resize.resize()
    foreground = reached_from(config.matching)
    present = proposed = batch = None
    if not train.crowd.all():
        config = with_anchors(config, train)
        better = with_anchors(config.model_copy(update={"anchors": AUTO}), train)
        present, proposed = (
            fit_of(one, train, reached_from(config.matching)) for one in (config, better)
        )
        batch = batch_figures(config, train)
    findings = find_all(config, splits)
    counts = [count(split, resize) for split in splits]
    report = Report(name, foreground, findings, counts, present, proposed, batch)
    reports.write_report(folder, report, draw_all(splits, findings))
    return report


def find_all(config: Config, splits: Sequence[Split]) -> list[Finding]:
    """What is suspicious; without a look at anchors while these are `auto`."""
    cases = [*image_cases(splits, [look_at_images(split) for split in splits])]
    cases += class_cases(splits)
    for split in splits:
        cases += [*defect_cases(split), *place_cases(split), *pair_cases(split)]
        if not build.class_code(config, split.index.num_classes).multi_label:
            cases += label_cases(split)
        if config.anchors != AUTO:
            cells = torch.cat(build.anchor_generator(config).cells)
            cases += anchor_cases(
                split, config.data.resize.resize(), cells, reached_from(config.matching)
            )
    return collect(cases)
