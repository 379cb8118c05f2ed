"""Detect objects in image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.io import write_jpeg

from detector import build
from detector.commands.evaluate import Trained
from detector.data.batch import Sample, collate
from detector.data.images import read_image
from detector.errors import InputError
from detector.evaluation.draw import draw
from detector.evaluation.predict import coco_json, coco_rows
from detector.files import new_directory, write_json
from detector.structures import Batch

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def predict(trained: Trained, paths: Sequence[Path], output: Path) -> Path:
    """Draw what is found in images or folders of images into `output`; the detections' file."""
    files = image_files(paths)
    drawn = drawn_names(files)
    found = []
    with new_directory(output) as draft:
        for number, file in enumerate(files, start=1):
            image, entries = _detect(trained, file, number)
            write_jpeg(image, str(draft / drawn[file]), quality=92)
            found += entries
        write_json(draft / "detections.json", found)
    return output / "detections.json"


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and the images anywhere under the folders named, in order."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            if not inside:
                kinds = " ".join(sorted(SUFFIXES))
                raise InputError(f"{path}: there is no image in this folder ({kinds}).")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"{path}: there is no such image or folder.")
    return list(dict.fromkeys(files))


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


def _detect(trained: Trained, file: Path, number: int) -> tuple[Tensor, list[dict[str, Any]]]:
    image = read_image(file, decoding=build.decoding(trained.config))
    batch = _batch(trained, image, number)
    _, found = trained.predictor(trained.net, batch)
    present = found.present[0]
    rows = coco_rows(found, batch.image_ids, trained.classes.category_ids)
    names = dict(zip(trained.classes.category_ids, trained.classes.names, strict=True))
    entries = [
        {**entry, "file_name": str(file), "category": names[entry["category_id"]]}
        for entry in coco_json(rows)
    ]
    drawn = draw(
        image,
        found.boxes[0][present],
        found.labels[0][present],
        found.scores[0][present],
        names=trained.classes.names,
        threshold=0,
    )
    return drawn, entries


def _batch(trained: Trained, image: Tensor, number: int) -> Batch:
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
