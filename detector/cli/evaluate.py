"""COCO metrics of a run on its validation set, or of anybody's COCO result file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from detector.command_line import add_set, program
from detector.errors import InputError, about
from detector.evaluation.coco import (
    CocoResult,
    Engine,
    evaluate,
    metrics,
    metrics_table,
    recall_limits,
)
from detector.evaluation.coco_files import load_detections, load_ground_truth
from detector.evaluation.figures import precision_recall
from detector.evaluation.own_metrics import OwnMetric, own_metrics
from detector.evaluation.predict import coco_json
from detector.files import finite, new_directory, write_json
from detector.settings.figures import check_metrics
from detector.trained import Trained, describe_validation


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


def evaluate_run(trained: Trained, output: Path) -> CocoResult:
    """The metrics of a detector, with detections.json, metrics.json and curves left in `output`."""
    index = trained.validation()
    examine = trained.evaluator(index)
    sys.stdout.writelines(f"{line}\n" for line in describe_validation(index, examine))
    with new_directory(output) as draft:
        found = examine.run(trained.net)
        result = examine.metrics(found.rows)
        write_json(draft / "detections.json", coco_json(found.rows))
        write_metrics(result, draft, {**found.losses, **trained.origin()})
        (draft / "config.yaml").write_text(trained.config.to_yaml(), encoding="utf-8")
    precision_recall(result, output / "precision_recall.png")  # the figures are safe by now
    return result


def evaluate_files(
    detections: Path,
    ground_truth: Path,
    output: Path | None,
    *,
    engine: Engine,
    own: Mapping[str, OwnMetric] = {},
) -> CocoResult:
    """The metrics of anybody's COCO result file; written only where `output` is named."""
    truth = load_ground_truth(ground_truth)
    rows = load_detections(detections, truth)
    images = [image["id"] for image in truth["images"]]
    sys.stdout.writelines(f"{line}\n" for line in recall_limits(truth, images))
    if output is None:
        return evaluate(rows, truth, engine=engine, own=own)
    with new_directory(output) as draft:
        result = evaluate(rows, truth, engine=engine, own=own)
        origin = {"result_file": str(detections), "ground_truth": str(ground_truth)}
        write_metrics(result, draft, origin)
    precision_recall(result, output / "precision_recall.png")
    return result


def write_metrics(result: CocoResult, output: Path, more: Mapping[str, float | str]) -> None:
    """metrics.json, with losses and where they come from."""
    shown = {k: finite(v) if isinstance(v, float) else v for k, v in more.items()}
    write_json(output / "metrics.json", {**metrics(result), **shown})


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate and print; the exit code."""
    print(metrics_table(_evaluate(arguments(argv))))
    return 0
