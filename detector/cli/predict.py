"""Detect objects in images or folders of images, and draw them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torchvision.io import encode_jpeg

from detector import build
from detector.command_line import add_set, program
from detector.data.images import read_image, suffixes
from detector.errors import InputError
from detector.evaluation.draw import draw_detections
from detector.evaluation.predict import coco_json, coco_rows
from detector.files import new_directory, whole_file, write_json
from detector.trained import Trained, batch_of

SCORE = 0.3  # of detections that are worth a look; a run has the low one that AP needs


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the words after the command's name; None: those of this process."""
    parser = argparse.ArgumentParser(prog=program("predict"), description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="run directory")
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="images or folders")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--checkpoint", default="best", metavar="NAME", help="best, last or a file")
    add_set(parser, "change keys of the run's config, e.g. postprocess.nms=0.6")
    parser.add_argument(
        "--score", dest="set", action="append", metavar="SCORE",
        type="postprocess.score={}".format,
        help=f"lowest score of a detection ({SCORE}), short for --set postprocess.score=SCORE",
    )  # fmt: skip
    return parser.parse_args(argv)


def warn(text: str) -> None:
    """A line on stderr, at once."""
    sys.stderr.write(f"warning: {text}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Predict, and say where the results are; the exit code, 1 where images were unreadable."""
    options = arguments(argv)
    overrides = [f"postprocess.score={SCORE}", *options.set]  # later ones win
    trained = Trained.from_run(options.run, options.checkpoint, overrides)
    unreadable = predict(trained, options.paths, options.output, warn=warn)
    print(options.output / "detections.json")
    if unreadable:
        warn(f"images left out as they cannot be read: {unreadable}")
    return 1 if unreadable else 0


def predict(
    trained: Trained, paths: Sequence[Path], output: Path, *, warn: Callable[[str], None]
) -> int:
    """Draw what is detected in images or folders of images into `output`, beside detections.json.

    Returns how many files could not be read; `warn` gets a sentence for each as it comes.
    InputError where that is all of them.
    """
    files = image_files(paths)
    drawn = drawn_names(files)
    entries, unreadable = [], 0
    with new_directory(output) as draft:
        for number, file in enumerate(files, start=1):
            try:
                image = read_image(file, decoding=build.decoding(trained.config))
            except InputError as error:
                warn(str(error))
                unreadable += 1
                continue
            picture, detections = _detect(trained, image, file, number)
            # encoded first: torchvision's own writing of files says nothing of a full disk
            encoded = encode_jpeg(picture, quality=92).numpy().tobytes()
            with whole_file(draft / drawn[file]) as jpeg:
                jpeg.write_bytes(encoded)
            entries += detections
        if unreadable == len(files):
            raise InputError("not one of the images can be read, so there is nothing to write.")
        write_json(draft / "detections.json", entries)
    return unreadable


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and the images anywhere under the folders named, in order.

    Hidden files in folders are left out, as macOS puts `._IMG.jpg` and `__MACOSX` beside pictures.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: there is no such image or folder.")
        inside = _images_inside(path) if path.is_dir() else [path]
        if not inside:
            raise InputError(f"{path}: there is no image in this folder, but for hidden ones.")
        files += inside
    return list(dict.fromkeys(files))


def _images_inside(folder: Path) -> list[Path]:
    kinds, images = suffixes(), []
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
        if file.suffix.lower() in kinds and not file.is_dir() and not hidden:
            images.append(file)
    return images


def drawn_names(files: Sequence[Path]) -> dict[Path, str]:
    """The name under which each file is drawn; where two would share one, all are numbered.

    macOS and Windows do not tell upper from lower case.
    """
    # within the 255 bytes of a file name, with what we put around it
    stems = [file.stem.encode("utf-8", "replace")[:200].decode("utf-8", "ignore") for file in files]
    if len({stem.casefold() for stem in stems}) < len(files):
        stems = [f"{number:05d}_{stem}" for number, stem in enumerate(stems, start=1)]
    return {file: f"{stem}.jpg" for file, stem in zip(files, stems, strict=True)}


def _detect(
    trained: Trained, image: Tensor, file: Path, number: int
) -> tuple[Tensor, list[dict[str, Any]]]:
    """The image with its detections drawn, and these as entries of detections.json."""
    batch, classes = batch_of(trained, image, number), trained.classes
    _, found = trained.predictor(trained.net, batch)
    rows = coco_rows(found, batch.image_ids, classes.category_ids)
    names = dict(zip(classes.category_ids, classes.names, strict=True))
    entries = [
        {**entry, "file_name": str(file), "category": names[entry["category_id"]]}
        for entry in coco_json(rows)
    ]
    boxes, labels, scores = (
        values[0][found.present[0]] for values in (found.boxes, found.labels, found.scores)
    )
    drawn = draw_detections(image, boxes, labels, scores, names=classes.names, threshold=0)
    return drawn, entries
