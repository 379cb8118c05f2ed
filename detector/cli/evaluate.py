"""COCO metrics of a run on its validation set, or of anybody's COCO result file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from detector.command_line import add_set, program
from detector.commands.evaluate import Trained, evaluate_files, evaluate_run
from detector.errors import InputError, about
from detector.evaluation.coco import CocoResult, Engine, metrics_table
from detector.evaluation.own_metrics import own_metrics
from detector.settings.training import check_metrics


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the words after the command's name; None: those of this process."""
    parser = argparse.ArgumentParser(prog=program("evaluate"), description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, metavar="DIR", help="run directory of `train`")
    source.add_argument(
        "--config", type=Path, metavar="FILE", help="config whose model.weights are evaluated"
    )
    source.add_argument("--detections", type=Path, metavar="FILE", help="COCO result file")
    parser.add_argument(
        "--checkpoint", metavar="NAME", help="of the run: best (the default), last, or a file"
    )
    add_set(parser, "change keys of the run's config, e.g. postprocess.nms=0.6")
    parser.add_argument("--ground-truth", type=Path, metavar="FILE", help="COCO annotation file")
    parser.add_argument(
        "--engine",
        choices=["hotcoco", "pycocotools"],
        help="for --detections (hotcoco); a run has evaluation.engine",
    )
    parser.add_argument(
        "--metric", metavar="MODULE:FUNCTION", nargs="+", default=[],
        help="metrics of your own for --detections; a run has evaluation.metrics",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="DIR",
        help="gets metrics.json and precision_recall.png (--run: RUN/evaluation/CHECKPOINT)",
    )  # fmt: skip
    return parser.parse_args(argv)


def _evaluate(options: argparse.Namespace) -> CocoResult:
    """The metrics that the arguments ask for."""
    if options.detections is not None:
        return _evaluate_detections(options)
    if options.ground_truth or options.engine or options.metric:
        raise InputError(
            "--ground-truth, --engine and --metric go with --detections; for a run use --set "
            "data.val.annotations=FILE, evaluation.engine=NAME or evaluation.metrics=[NAME]."
        )
    if options.config is not None:
        if options.checkpoint or options.output is None:
            raise InputError("--config needs --output, and model.weights instead of --checkpoint.")
        return evaluate_run(Trained.from_config(options.config, options.set), options.output)
    if options.set and options.output is None:
        raise InputError(
            "--set changes what is measured, so its figures need a folder of their own: "
            "add --output DIR."
        )
    name = options.checkpoint or "best"
    output = options.output or options.run / "evaluation" / Path(name).stem
    trained = Trained.from_run(options.run, name, options.set)
    print(f"evaluating {options.run}, checkpoint {name}, into {output}")
    return evaluate_run(trained, output)


def _evaluate_detections(options: argparse.Namespace) -> CocoResult:
    """The metrics of a COCO result file."""
    if options.checkpoint or options.set:
        raise InputError("--checkpoint and --set go with --run or --config.")
    if options.ground_truth is None:
        raise InputError("--detections needs --ground-truth, the COCO file to compare with.")
    engine: Engine = options.engine or "hotcoco"
    with about("--metric"):
        own = own_metrics(check_metrics(tuple(options.metric)))
    return evaluate_files(
        options.detections, options.ground_truth, options.output, engine=engine, own=own
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate and print; the exit code."""
    print(metrics_table(_evaluate(arguments(argv))))
    return 0
