"""Convert Pascal VOC, YOLO, LabelMe, CSV or a dialect of COCO to the COCO JSON of this project."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml

from detector.command_line import program
from detector.data.sampling import stratified
from detector.errors import InputError
from detector.files import new_directory, write_json, write_text
from detector.formats.document import Converted, coco_content, convert
from detector.formats.recognise import FORMATS, recognise
from detector.formats.source import Tally, open_source
from detector.formats.split import groups_of_copies, own_parts


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the words after the command's name; None: those of this process."""
    parser = argparse.ArgumentParser(prog=program("convert"), description=__doc__)
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a folder, or one label file")
    parser.add_argument("--to", type=Path, required=True, metavar="OUT", help="a new folder")
    parser.add_argument(
        "--split", type=float, metavar="SHARE",
        help="of the images for validation, drawn anew; without it the source's own parts stay",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of that draw (0)")
    parser.add_argument("--format", choices=FORMATS, help="where it cannot be told by the files")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the images, if not in SOURCE"
    )
    parser.add_argument(
        "--classes", type=Path, metavar="FILE", help="class names in their order, one a line"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Convert, and say what was left out; the exit code, 1 where files were broken or missing."""
    options = arguments(argv)
    if options.split is not None and not 0 < options.split < 1:
        raise InputError(f"--split is {options.split}; expected a share between 0 and 1, as 0.2.")
    if options.seed < 0:
        raise InputError(f"--seed is {options.seed}; expected 0 or more.")
    tally = Tally()
    with new_directory(options.to, option="--to") as draft:
        source = open_source(options.source, options.images, options.classes)
        kind = recognise(source, options.format)
        converted = convert(kind.read(source, tally), tally)
        parts = split(converted, options.split, options.seed)
        root = image_root(converted)
        for name, indices in parts.items():
            numbered = [(index + 1, converted.images[index]) for index in indices]
            content = coco_content(numbered, converted.classes, root)
            write_json(draft / f"{name}.json", content)
        snippet = config_snippet(list(parts), root, options.to)
        write_text(draft / "data.yaml", snippet)
    print(f"{options.source}: {kind.title}")
    print_tally(tally)
    print_parts(converted, parts, options.to)
    print(f"\nimages: {root}, which file_name is relative to")
    print(f"{options.to / 'data.yaml'}, for the `base:` of a config, or to paste:\n\n{snippet}")
    return 1 if tally.faults else 0


def split(converted: Converted, share: float | None, seed: int) -> dict[str, list[int]]:
    """Indices of the images of each file to write, by its name without the ending."""
    if share is None:
        return own_parts(converted.images)
    files = [image.file for image in converted.images]
    classes = [{label.name for label in image.labels} for image in converted.images]
    train, val = stratified(classes, groups_of_copies(files), share, seed)
    if not (train and val):
        raise InputError(
            f"--split {share} leaves no image for {'val' if train else 'train'}: there are "
            f"{len(files)} images, and copies stay together; choose another share, or bring more."
        )
    return {"train": train, "val": val}


def image_root(converted: Converted) -> Path:
    """The deepest folder that holds all images, as SOURCE or --images begins it."""
    return Path(os.path.commonpath([image.file.parent for image in converted.images]))


def config_snippet(parts: Sequence[str], root: Path, output: Path) -> str:
    """The config's `data` in YAML: paths from the directory of the command, as in every config."""
    names = {"annotations": "train"}
    data = {
        names.get(part, part): {"images": str(root), "annotations": str(output / f"{part}.json")}
        for part in parts
        if part != "test"
    }
    text: str = yaml.safe_dump(
        {"data": data}, sort_keys=False, allow_unicode=True, default_flow_style=None, width=10**6
    )
    return text


def print_tally(tally: Tally) -> None:
    """A line a reason, with its first case."""
    for reason, count in tally.counts.items():
        print(f"  {count} {reason}; {'first' if count > 1 else 'it is'}: {tally.first[reason]}")


def print_parts(converted: Converted, parts: dict[str, list[int]], output: Path) -> None:
    """A table of boxes by class and part, ignored ones not counted, and what lacks in it."""
    counts = {
        name: Counter(
            label.name for i in indices for label in converted.images[i].labels if not label.ignored
        )
        for name, indices in parts.items()
    }
    wide = max(map(len, [*converted.classes, "images without objects"]))
    rows: list[tuple[str, Sequence[object]]] = [
        ("", [f"{name}.json" for name in parts]),
        ("images", [len(indices) for indices in parts.values()]),
        ("images without objects", [
            sum(not converted.images[i].labels for i in indices) for indices in parts.values()
        ]),
    ]  # fmt: skip
    rows += [(name, [count[name] for count in counts.values()]) for name in converted.classes]
    print(f"{output}:")
    for title, values in rows:
        print(f"  {title:{wide}}" + "".join(f"{value:>18}" for value in values))
    if "val" not in parts:
        print("There is no part for validation; --split 0.2 makes one of a fifth of the images.")
