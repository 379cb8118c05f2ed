"""Export a run's detector, with decoding and NMS inside, to ONNX or torch.export.

The file is written only if it detects in images what the detector itself detects.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from detector import build
from detector.command_line import add_set, program
from detector.data.images import read_image
from detector.data.sources import source_files
from detector.errors import InputError
from detector.export.canvas import Canvas
from detector.export.parity import SCORE, Parity, measure
from detector.export.program import format_of, metadata, program_of
from detector.files import whole_file
from detector.trained import Trained

MOST_IMAGES = 50  # that are compared
# the exported program runs in float32, and is compared on the CPU
AS_EXPORTED = ("train.device=cpu", "train.precision=float32")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the words after the command's name; None: those of this process."""
    parser = argparse.ArgumentParser(prog=program("export"), description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="run directory")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="a new file: *.onnx or *.pt2"
    )
    parser.add_argument("--checkpoint", default="best", metavar="NAME", help="best, last or a file")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"),
        help="pixels of the program's images (the smallest that holds every resized image)",
    )  # fmt: skip
    parser.add_argument(
        "--images", type=Path, metavar="DIR",
        help="a folder of images to compare detections in (the run's validation set)",
    )  # fmt: skip
    add_set(parser, "change keys of the run's config, e.g. postprocess.score=0.3")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Export, compare and print; the exit code, 1 where the detections differ."""
    options = arguments(argv)
    kind = format_of(options.output.suffix)
    _check_output(options.output)
    overrides = [*options.set, *AS_EXPORTED]
    trained = Trained.from_run(options.run, options.checkpoint, overrides)
    canvas = Canvas.of(trained.config.data.resize.resize(), options.size)
    files = _files(trained, options.images)
    print(
        f"exporting for images of {canvas.height} x {canvas.width} pixels (height x width), then "
        f"comparing on {len(files)} images",
        flush=True,
    )
    data = kind.write(program_of(trained, canvas), metadata(trained, canvas))
    parity = measure(trained, canvas, kind.run(data), _images(trained, files))
    print(parity.table())
    _check_shown(parity)
    if not parity.pairs.agree:
        sys.stderr.write(f"the detections differ, so {options.output} is not written.\n")
        return 1
    with whole_file(options.output) as draft:
        draft.write_bytes(data)
    print(options.output)
    return 0


def _check_output(output: Path) -> None:
    if output.exists():
        raise InputError(
            f"--output {output}: it exists already, and nothing is overwritten; choose another."
        )
    if not output.parent.is_dir():
        raise InputError(f"--output {output}: there is no folder {output.parent}; make it first.")


def _files(trained: Trained, folder: Path | None) -> list[Path]:
    """The first images of the folder, or of the run's validation set."""
    if folder is not None:
        return source_files([folder])[:MOST_IMAGES]
    try:
        index = trained.validation()
    except InputError as error:
        raise InputError(f"{error} Or name images to compare on by --images DIR.") from error
    return [index.path(row) for row in range(min(len(index), MOST_IMAGES))]


def _images(trained: Trained, files: Sequence[Path]) -> Iterator[Tensor]:
    decoding = build.decoding(trained.config)
    return (read_image(file, decoding=decoding) for file in files)


def _check_shown(parity: Parity) -> None:
    if not parity.pairs.detections:
        raise InputError(
            f"there is no detection above {SCORE} in the {parity.images} images, so nothing shows "
            "that the export is right, and it is not written: name images with objects by "
            "--images DIR, or a detector that is trained further by --run."
        )
