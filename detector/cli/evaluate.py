"""COCO metrics of a run on its validation set, or of anybody's COCO result file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from detector.command_line import add_set, program
from detector.errors import InputError, about
from detector.evaluation.coco import CocoResult, evaluate, metrics, metrics_table, recall_limits
from detector.evaluation.coco_files import load_detections, load_ground_truth
from detector.evaluation.figures import precision_recall
from detector.evaluation.own_metrics import own_metrics
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


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate and print; the exit code."""
    options = arguments(argv)
    if options.detections is not None:
        result = _evaluate_detections(options)
    elif options.ground_truth or options.engine or options.metric:
        raise InputError(
            "--ground-truth, --engine and --metric go with --detections; for a run use --set "
            "data.val.annotations=FILE, evaluation.engine=NAME or evaluation.metrics=[NAME]."
        )
    elif options.config is not None:
        if options.checkpoint or options.output is None:
            raise InputError("--config needs --output, and model.weights instead of --checkpoint.")
        result = evaluate_run(Trained.from_config(options.config, options.set), options.output)
    else:
        result = evaluate_run(*checkpoint_and_output(options, "evaluating", "evaluation"))
    print(metrics_table(result))
    return 0


def checkpoint_and_output(
    options: argparse.Namespace, doing: str, folder: str
) -> tuple[Trained, Path]:
    """The checkpoint of --run that --checkpoint names, and RUN/FOLDER/CHECKPOINT or --output."""
    if options.set and options.output is None:
        raise InputError(
            "--set changes what is measured, so its figures need a folder of their own: "
            "add --output DIR."
        )
    name = options.checkpoint or "best"
    output = options.output or options.run / folder / Path(name).stem
    trained = Trained.from_run(options.run, name, options.set)
    print(f"{doing} {options.run}, checkpoint {name}, into {output}", flush=True)
    return trained, output


def _evaluate_detections(options: argparse.Namespace) -> CocoResult:
    """The metrics of a COCO result file; written only where --output is named."""
    if options.checkpoint or options.set:
        raise InputError("--checkpoint and --set go with --run or --config.")
    if options.ground_truth is None:
        raise InputError("--detections needs --ground-truth, the COCO file to compare with.")
    with about("--metric"):
        own = own_metrics(check_metrics(tuple(options.metric)))
    truth = load_ground_truth(options.ground_truth)
    rows = load_detections(options.detections, truth)
    images = [image["id"] for image in truth["images"]]
    sys.stdout.writelines(f"{line}\n" for line in recall_limits(truth, images))
    with new_directory(options.output) if options.output else nullcontext() as draft:
        result = evaluate(rows, truth, engine=options.engine or "hotcoco", own=own)
        if draft is not None:
            origin = {
                "result_file": str(options.detections),
                "ground_truth": str(options.ground_truth),
            }
            write_json(draft / "metrics.json", {**metrics(result), **origin})
    if options.output:
        precision_recall(result, options.output / "precision_recall.png")
    return result


def evaluate_run(trained: Trained, output: Path) -> CocoResult:
    """The metrics of a detector, with detections.json, metrics.json and curves left in `output`."""
    index = trained.validation()
    examine = trained.evaluator(index)
    sys.stdout.writelines(f"{line}\n" for line in describe_validation(index, examine))
    with new_directory(output) as draft:
        found = examine.run(trained.net)
        result = examine.metrics(found.rows)
        losses = {name: finite(loss) for name, loss in found.losses.items()}
        write_json(draft / "detections.json", coco_json(found.rows))
        write_json(draft / "metrics.json", {**metrics(result), **losses, **trained.origin()})
        (draft / "config.yaml").write_text(trained.config.to_yaml(), encoding="utf-8")
    precision_recall(result, output / "precision_recall.png")  # the figures are safe by now
    return result
