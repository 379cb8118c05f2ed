"""The difference in AP of two evaluated runs, or of two COCO result files, with its interval."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector import build
from detector.command_line import program
from detector.engine import run
from detector.errors import InputError
from detector.evaluation.coco_files import index_ground_truth, load_detections, load_ground_truth
from detector.files import new_directory, write_json
from detector.lab.bootstrap import BootstrapResult, paired_bootstrap
from detector.lab.matches import Matches, match

DETECTIONS = "detections.json"
# Of 27 comparisons of our losses by one seed each, 18 had p below .05 where the seeds together
# showed no difference.
SPEAKS_OF = (
    "Interval and p speak of these two trained models on other images, not of the two losses: "
    "another seed of either may differ by more."
)
FEWEST_RESAMPLES = 100  # the ends of a 95 % interval are two or three of them on each side


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the words after the command's name; None: those of this process."""
    parser = argparse.ArgumentParser(prog=program("compare"), description=__doc__)
    parser.add_argument(
        "first",
        type=Path,
        metavar="RUN",
        help="run directory, --output of `evaluate`, or result file",
    )
    parser.add_argument("second", type=Path, metavar="RUN", help="another of the same images")
    parser.add_argument(
        "--checkpoint", metavar="NAME", help="of the runs, as evaluated: best (the default) or last"
    )
    parser.add_argument(
        "--ground-truth", type=Path, metavar="FILE", help="COCO annotations of two result files"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="gets comparison.json")
    parser.add_argument(
        "--resamples", type=int, default=1000, metavar="N", help="draws of the images (1000)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws (0)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print; the exit code."""
    options = arguments(argv)
    if options.ground_truth and options.checkpoint:
        raise InputError("--checkpoint goes with two runs, --ground-truth with two result files.")
    # an output that cannot be used is refused before anything is read
    with new_directory(options.output) if options.output else nullcontext() as draft:
        first, second = (
            evaluated_file(path, options.ground_truth)
            if options.ground_truth
            else evaluated_run(path, options.checkpoint)
            for path in (options.first, options.second)
        )
        comparison = bootstrap_comparison(
            first, second, resamples=options.resamples, seed=options.seed
        )
        if draft is not None:
            content = comparison_content(first, second, comparison, seed=options.seed)
            write_json(draft / "comparison.json", content)
    print(comparison_table(first, second, comparison))
    return 0


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Detections with the boxes and images that they are measured against."""

    name: str  # as on the command line
    detections_file: Path
    truth_file: Path
    detections: NDArray[np.float64]  # (D, 7) as of load_detections
    truth: dict[str, Any]  # as of load_ground_truth
    image_ids: list[int]

    @property
    def classes(self) -> set[tuple[int, str]]:
        """Ids and names."""
        return {(category["id"], category["name"]) for category in self.truth["categories"]}

    def matches(self) -> Matches:
        """COCO's matching of the detections with the boxes."""
        return match(self.detections, self.truth, self.image_ids)


def evaluated_run(directory: Path, checkpoint: str | None) -> Evaluated:
    """What tools/evaluate.py left, of a run or in the folder of its --output.

    checkpoint: a folder of RUN/evaluation; None: that of the best one.
    """
    if directory.is_file():
        raise InputError(
            f"{directory}: it is a file, not a run directory; two COCO result files are compared "
            "with --ground-truth FILE."
        )
    config = run.config_file(directory)
    if (directory / DETECTIONS).is_file():
        if checkpoint is not None:
            raise InputError(
                f"{directory}: it is the folder of one evaluation, so there is no checkpoint to "
                f"choose; leave out --checkpoint and name RUN/evaluation/{checkpoint} for a run."
            )
        return _on_validation_set(directory, directory / DETECTIONS, config)
    checkpoint = checkpoint or "best"
    folder = directory / "evaluation" / checkpoint
    detections = folder / DETECTIONS
    if not detections.is_file():
        raise InputError(
            f"{detections}: there is no such file, so this checkpoint was not evaluated yet; do it "
            f"by detector evaluate --run {directory} --checkpoint {checkpoint}"
        )
    return _on_validation_set(directory, detections, folder / run.CONFIG)


def diagnosed_run(directory: Path) -> Evaluated:
    """What tools/diagnose.py left of the last checkpoint of a run."""
    detections = directory / "diagnosis" / "last" / DETECTIONS
    return _on_validation_set(directory, detections, run.config_file(directory))


def _on_validation_set(directory: Path, detections: Path, config: Path) -> Evaluated:
    index = build.data_index(build.load_config(config), "val")
    truth, ids = index_ground_truth(index), index.image_ids.tolist()
    rows = load_detections(detections, truth)
    return Evaluated(str(directory), detections, index.annotations_file, rows, truth, ids)


def evaluated_file(detections: Path, ground_truth: Path) -> Evaluated:
    """A COCO result file, on all images of the ground truth."""
    if detections.is_dir():
        raise InputError(
            f"{detections}: it is a folder; --ground-truth goes with two COCO result files, and "
            "two runs are compared without it."
        )
    truth = load_ground_truth(ground_truth)
    ids = [image["id"] for image in truth["images"]]
    rows = load_detections(detections, truth)
    return Evaluated(str(detections), detections, ground_truth, rows, truth, ids)


def bootstrap_comparison(
    first: Evaluated, second: Evaluated, *, resamples: int, seed: int
) -> BootstrapResult:
    """The paired bootstrap of two that are about the same images, classes and boxes."""
    if resamples < FEWEST_RESAMPLES:
        raise InputError(
            f"--resamples is {resamples}; expected at least {FEWEST_RESAMPLES}, for the ends of "
            "the interval are a few of them."
        )
    if seed < 0:
        raise InputError(f"--seed is {seed}; expected 0 or more.")
    check_same_truth(first, second)
    if len(first.image_ids) < 2:
        raise InputError(
            f"{first.truth_file}: it has 1 image; an interval over images needs at least 2."
        )
    matches = first.matches()
    if not len(matches.truth_images):
        raise InputError(
            f"{first.truth_file}: it holds no boxes that count (crowds do not), so there is no AP "
            "to compare; expected at least one."
        )
    return paired_bootstrap(matches, second.matches(), resamples=resamples, seed=seed)


def check_same_truth(first: Evaluated, second: Evaluated) -> None:
    """InputError where the two were not measured against the same images, classes and boxes."""
    images = set(first.image_ids) ^ set(second.image_ids)
    classes = first.classes ^ second.classes
    if images:
        other = f"images ({len(images)} ids are in one of them alone, such as {min(images)})"
    elif classes:
        other = f"classes ({len(classes)} are in one of them alone, such as {min(classes)})"
    elif first.truth["annotations"] != second.truth["annotations"]:
        other = "boxes, on the same images and classes"
    else:
        return
    raise InputError(
        f"{second.name}: it was evaluated against {second.truth_file}, and {first.name} against "
        f"{first.truth_file}, which have other {other}; a paired comparison needs the same: "
        "evaluate both with one data.val."
    )


def comparison_content(
    first: Evaluated, second: Evaluated, comparison: BootstrapResult, *, seed: int
) -> dict[str, Any]:
    """The content of comparison.json: the figures, and where they come from."""

    def origin(run: Evaluated, ap: float) -> dict[str, Any]:
        return {"name": run.name, "detections": str(run.detections_file), "AP": ap}

    return {
        **asdict(comparison),
        "first": origin(first, comparison.first),
        "second": origin(second, comparison.second),
        "confidence": 0.95,
        "seed": seed,
        "ground_truth": str(first.truth_file),
        "speaks_of": SPEAKS_OF,
    }


def comparison_table(first: Evaluated, second: Evaluated, comparison: BootstrapResult) -> str:
    """The comparison as lines of text."""
    rows = [
        ("first", f"{comparison.first:8.4f}  {first.name}"),
        ("second", f"{comparison.second:8.4f}  {second.name}"),
        ("difference", f"{comparison.difference:+8.4f}  second less first"),
        ("95 % interval", f"{comparison.interval.low:+8.4f} to {comparison.interval.high:+.4f}"),
        ("p", f"{comparison.p:8.4f}  two-sided, of no difference"),
    ]
    lines = [f"{'AP':<13}", *(f"{key:<13}  {text}" for key, text in rows)]
    lines += ["", f"{comparison.images} images, {comparison.resamples} paired resamples of them"]
    seen = set(first.detections[:, 0]) | set(second.detections[:, 0])
    if unseen := comparison.images - len(seen):
        lines.append(f"{unseen} images without a detection in either; is it their ground truth?")
    if comparison.lacking:
        lines.append(
            f"{comparison.lacking:.1%} of these lack all boxes of some class, and average the "
            "AP of the others: rare classes make the interval wide and may shift it"
        )
    lines.append(SPEAKS_OF)
    return "\n".join(line.rstrip() for line in lines)
