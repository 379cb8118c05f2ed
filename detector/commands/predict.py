"""Detect objects in image files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.io import encode_jpeg

from detector import build
from detector.commands.evaluate import Trained
from detector.data.batch import Sample, collate
from detector.data.images import read_image, suffixes
from detector.errors import InputError
from detector.evaluation.draw import draw_detections
from detector.evaluation.predict import coco_json, coco_rows
from detector.files import new_directory, whole_file, write_json
from detector.structures import Batch


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
            _write_jpeg(picture, draft / drawn[file])
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
        if path.is_dir():
            kinds = suffixes()
            inside = sorted(
                file for file in path.rglob("*")
                if file.suffix.lower() in kinds and not file.is_dir() and not _hidden(file, path)
            )  # fmt: skip
            if not inside:
                raise InputError(f"{path}: there is no image in this folder, but for hidden ones.")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise InputError(f"{path}: there is no such image or folder.")
    return list(dict.fromkeys(files))


def _hidden(file: Path, folder: Path) -> bool:
    parts = file.relative_to(folder).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def drawn_names(files: Sequence[Path]) -> dict[Path, str]:
    """The name under which each file is drawn; where two would share one, all are numbered.

    macOS and Windows do not tell upper from lower case.
    """
    stems = [_short(file.stem) for file in files]
    if len({stem.casefold() for stem in stems}) < len(files):
        stems = [f"{number:05d}_{stem}" for number, stem in enumerate(stems, start=1)]
    return {file: f"{stem}.jpg" for file, stem in zip(files, stems, strict=True)}


def _short(stem: str) -> str:
    """Within the 255 bytes of a file name, with what we put around it."""
    return stem.encode("utf-8", "replace")[:200].decode("utf-8", "ignore")


def _write_jpeg(picture: Tensor, path: Path) -> None:
    """Encoded first: torchvision's own writing of files says nothing of a full disk."""
    with whole_file(path) as draft:
        draft.write_bytes(encode_jpeg(picture, quality=92).numpy().tobytes())


def _detect(
    trained: Trained, image: Tensor, file: Path, number: int
) -> tuple[Tensor, list[dict[str, Any]]]:
    batch = batch_of(trained, image, number)
    _, found = trained.predictor(trained.net, batch)
    present = found.present[0]
    rows = coco_rows(found, batch.image_ids, trained.classes.category_ids)
    names = dict(zip(trained.classes.category_ids, trained.classes.names, strict=True))
    entries = [
        {**entry, "file_name": str(file), "category": names[entry["category_id"]]}
        for entry in coco_json(rows)
    ]
    drawn = draw_detections(
        image,
        found.boxes[0][present],
        found.labels[0][present],
        found.scores[0][present],
        names=trained.classes.names,
        threshold=0,
    )
    return drawn, entries


def batch_of(trained: Trained, image: Tensor, number: int = 0) -> Batch:
    """One image, uint8 (3, H, W) RGB, with the id `number` and no boxes, resized for `trained`."""
    height, width = image.shape[-2:]
    sample = Sample(
        image=image,
        boxes=torch.zeros(0, 4),
        labels=torch.zeros(0, len(trained.classes), dtype=torch.bool),
        crowd=torch.zeros(0, dtype=torch.bool),
        image_id=number,
        original_size=(height, width),
        key=0,
    )
    resize = build.transform(trained.config).for_evaluation()
    return collate([resize(sample, torch.Generator())]).to(trained.device)
