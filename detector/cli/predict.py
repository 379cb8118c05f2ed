"""Detect objects in images and videos, and draw them."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from detector import build
from detector.command_line import add_set, program
from detector.data import video as videos
from detector.data.images import read_image
from detector.data.sources import is_video, source_files
from detector.errors import InputError, about
from detector.evaluation.predict import Predictor, coco_json, coco_rows
from detector.files import new_directory, whole_file, write_json
from detector.prediction import Prediction, detect, predictor_above
from detector.structures import Detections
from detector.thresholds import SCORE, best_scores, class_scores, report
from detector.trained import Trained

Warn = Callable[[str], None]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the words after the command's name; None: those of this process."""
    parser = argparse.ArgumentParser(prog=program("predict"), description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="run directory")
    parser.add_argument(
        "paths", nargs="+", metavar="PATH",
        help="images, videos, folders of images, or quoted patterns such as 'photos/*.jpg'",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--checkpoint", default="best", metavar="NAME", help="best, last or a file")
    add_set(parser, "change keys of the run's config, e.g. postprocess.nms=0.6")
    parser.add_argument(
        "--score", nargs="+", action="extend", default=[], metavar="SCORE",
        help=f"lowest score of a detection ({SCORE}); CLASS=SCORE ...: of single classes; auto: "
        "that of each class with the best F1 on the run's validation set",
    )  # fmt: skip
    return parser.parse_args(argv)


def warn(text: str) -> None:
    """A line on stderr, at once, above a progress bar."""
    tqdm.write(f"warning: {text}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Predict, and say where the results are; the exit code, 1 where files were not read whole."""
    options = arguments(argv)
    overrides = [] if options.score == ["auto"] else [f"postprocess.score={SCORE}"]
    trained = Trained.from_run(options.run, options.checkpoint, [*overrides, *options.set])
    files = source_files(options.paths)
    videos.check_installed(files)
    with new_directory(options.output) as draft:
        predictor = predictor_above(trained, _scores(options.score, trained, draft))
        failures = predict(trained, predictor, files, draft, warn=warn)
    print(options.output / "detections.json")
    if failures:
        warn(f"{failures} of {len(files)} files could not be read, or not to their end")
    return 1 if failures else 0


def _scores(given: Sequence[str], trained: Trained, output: Path) -> list[float]:
    """The lowest score of each class that --score asks for."""
    others = trained.config.postprocess.score
    if list(given) == ["auto"]:
        return _best_scores(trained, output)
    with about("--score"):
        scores = dict(pairs := [_pair(text) for text in given])
        if len(scores) < len(pairs):
            raise ValueError(f"found {' '.join(given)}, which gives two scores for the same class")
        others = scores.pop("", others)
        return class_scores(scores, trained.classes.names, others=others)


def _pair(text: str) -> tuple[str, float]:
    """The class, empty for all, and the score of CLASS=SCORE or SCORE."""
    name, equals, number = text.rpartition("=")
    try:
        if equals and not name:
            raise ValueError
        return name, float(number)
    except ValueError:
        raise ValueError(
            f"found {text!r}, it should be a number, CLASS=NUMBER, or auto alone; images go before "
            "--score"
        ) from None


def _best_scores(trained: Trained, output: Path) -> list[float]:
    """Those of the best F1, which are printed, and saved as thresholds.json."""
    best = best_scores(trained)
    write_json(output / "thresholds.json", report(best, trained.classes))
    print("lowest score of each class, with the best F1 on the validation set:")
    for name, one in zip(trained.classes.names, best, strict=True):
        figures = "no right detection there"
        if one is not None:
            figures = f"F1 {one.f1:.3f}, precision {one.precision:.3f}, recall {one.recall:.3f}"
        print(f"  {name}  {SCORE if one is None else one.score:.3f}  {figures}")
    return [SCORE if one is None else one.score for one in best]


class Finder:
    """Detects, and collects the entries of detections.json."""

    def __init__(self, trained: Trained, predictor: Predictor) -> None:
        self.trained, self.predictor = trained, predictor
        self.images = 0  # and frames; the running number is their id
        self.entries: list[dict[str, Any]] = []

    def __call__(self, image: Tensor, file: Path, **place: float) -> Prediction:
        """What is in an image of a file; `place`: which frame of a video it is."""
        self.images += 1
        found = detect(self.trained, self.predictor, image, file)
        present = torch.ones(1, len(found), dtype=torch.bool)
        detections = Detections(found.boxes[None], found.scores[None], found.labels[None], present)
        ids = self.trained.classes.category_ids
        entries = coco_json(coco_rows(detections, torch.tensor([self.images]), ids))
        self.entries += [
            {**entry, "file_name": str(file), "category": name, **place}
            for entry, name in zip(entries, found.class_names, strict=True)
        ]
        return found


def predict(
    trained: Trained, predictor: Predictor, files: Sequence[Path], folder: Path, *, warn: Warn
) -> int:
    """Draw what is detected in images and videos into `folder`, beside detections.json.

    Returns how many files could not be read, or not to their end; `warn` gets a sentence for each
    as it comes. InputError where nothing could be read.
    """
    find, failures, names = Finder(trained, predictor), 0, drawn_names(files)
    for file in progress(files, unit="file"):
        draw = _video if is_video(file) else _image
        try:
            fault = draw(find, file, folder / names[file])
        except InputError as error:
            fault = str(error)
        if fault is not None:
            warn(fault)
            failures += 1
    if not find.images:
        raise InputError("not one of the files can be read, so there is nothing to write.")
    write_json(folder / "detections.json", find.entries)
    return failures


def progress(items: Any, **options: Any) -> Any:
    """The items, with a progress bar in a terminal."""
    return tqdm(items, dynamic_ncols=True, disable=not sys.stderr.isatty(), **options)


def drawn_names(files: Sequence[Path]) -> dict[Path, str]:
    """The name under which each file is drawn; where two would share one, all are numbered.

    macOS and Windows do not tell upper from lower case.
    """
    # within the 255 bytes of a file name, with what we put around it
    stems = [file.stem.encode("utf-8", "replace")[:200].decode("utf-8", "ignore") for file in files]
    names = [
        stem + (".mp4" if is_video(file) else ".jpg")
        for stem, file in zip(stems, files, strict=True)
    ]
    if len({name.casefold() for name in names}) < len(files):
        names = [f"{number:05d}_{name}" for number, name in enumerate(names, start=1)]
    return dict(zip(files, names, strict=True))


def _image(find: Finder, file: Path, drawn: Path) -> None:
    image = read_image(file, decoding=build.decoding(find.trained.config))
    jpeg = io.BytesIO()
    find(image, file).draw(image).save(jpeg, "JPEG", quality=92)
    with whole_file(drawn) as draft:
        draft.write_bytes(jpeg.getvalue())


def _video(find: Finder, file: Path, drawn: Path) -> str | None:
    """Returns why not all frames could be read; those that could are drawn."""
    with (
        videos.opened(file) as video,
        whole_file(drawn) as draft,
        videos.written(draft, video.rate) as add,
    ):
        frames = progress(
            video,
            unit="frame",
            total=round(video.seconds * video.rate) or None,
            leave=False,
            desc=file.name,
        )
        for frame in frames:
            found = find(frame.image, file, frame=frame.index, time=round(frame.time, 6))
            add(found.draw(frame.image, shorter=1), frame.time)
        if not video.read:
            raise InputError(f"{file}: not one frame of this video can be read; remove it.")
    kept = f"; the {video.read} frames before that are in {drawn.name}."
    return None if video.ended is None else video.ended + kept
