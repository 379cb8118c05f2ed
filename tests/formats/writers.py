"""Plain writers of label formats, by their own definitions, and what `convert` made of them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from detector.cli.convert import main

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels from 0
Labelled = tuple[str, Box]
Size = tuple[int, int]  # width, height


class Picture(NamedTuple):
    """An image and its boxes."""

    name: str
    size: Size
    labels: Sequence[Labelled] = ()


def write_image(path: Path, size: Size, *, seed: int = 0) -> Path:
    """Noise of a seed, so that no two look the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_images(folder: Path, pictures: Sequence[Picture]) -> None:
    for seed, picture in enumerate(pictures):
        write_image(folder / picture.name, picture.size, seed=seed)


def voc_xml(labels: Sequence[Labelled], *, more: str = "", size: Size = (0, 0)) -> str:
    """Corners count from 1, and the last pixel is inside."""
    objects = [
        f"<object><name>{name}</name>{more}<bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, (x1, y1, x2, y2) in labels
    ]
    shape = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation>{shape}{''.join(objects)}</annotation>"


def write_voc(root: Path, pictures: Sequence[Picture]) -> Path:
    write_images(root / "JPEGImages", pictures)
    for picture in pictures:
        file = root / "Annotations" / Path(picture.name).with_suffix(".xml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(voc_xml(picture.labels))
    return root


def yolo_line(index: int, box: Box, size: Size) -> str:
    (x1, y1, x2, y2), (width, height) = box, size
    centre = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
    return " ".join(map(str, (index, *centre, (x2 - x1) / width, (y2 - y1) / height)))


def write_yolo(root: Path, pictures: Sequence[Picture], names: Sequence[str]) -> Path:
    write_images(root / "images", pictures)
    for picture in pictures:
        file = root / "labels" / Path(picture.name).with_suffix(".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = [yolo_line(names.index(name), box, picture.size) for name, box in picture.labels]
        file.write_text("\n".join(rows))
    (root / "data.yaml").write_text(json.dumps({"names": list(names)}))
    return root


def labelme_json(image: str, labels: Sequence[Labelled], size: Size | None = None) -> str:
    shapes = [
        {"label": name, "points": [box[2:], box[:2]], "shape_type": "rectangle"}
        for name, box in labels
    ]
    width, height = size or (None, None)
    return json.dumps(
        {"shapes": shapes, "imagePath": image, "imageWidth": width, "imageHeight": height}
    )


def write_labelme(root: Path, pictures: Sequence[Picture]) -> Path:
    write_images(root, pictures)
    for picture in pictures:
        text = labelme_json(picture.name, picture.labels, picture.size)
        (root / picture.name).with_suffix(".json").write_text(text)
    return root


def write_csv(root: Path, pictures: Sequence[Picture]) -> Path:
    write_images(root, pictures)
    rows = []
    for picture in pictures:
        rows += [[picture.name, *box, name] for name, box in picture.labels]
        rows += [] if picture.labels else [[picture.name, "", "", "", "", ""]]
    text = "".join(",".join(map(str, row)) + "\n" for row in rows)
    (root / "labels.csv").write_text(text)
    return root


def write_coco(root: Path, content: Any, pictures: Sequence[Picture] = ()) -> Path:
    write_images(root, pictures)
    (root / "labels.json").write_text(json.dumps(content))
    return root


class Result(NamedTuple):
    """What a conversion left and said."""

    code: int
    out: str
    folder: Path

    def content(self, part: str = "annotations") -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / f"{part}.json").read_text())
        return content

    def boxes(self, part: str = "annotations") -> dict[str, list[Labelled]]:
        """Of each image, by the last part of its name."""
        content = self.content(part)
        names = {row["id"]: row["name"] for row in content["categories"]}
        boxes: dict[int, list[Labelled]] = {row["id"]: [] for row in content["images"]}
        for row in content["annotations"]:
            x, y, width, height = row["bbox"]
            labelled = names[row["category_id"]], (x, y, x + width, y + height)
            boxes[row["image_id"]].append(labelled)
        return {Path(row["file_name"]).name: boxes[row["id"]] for row in content["images"]}


def convert(source: Path, *words: object) -> Result:
    """What the command leaves of `source` in a new folder beside it."""
    folder = source.parent / f"converted_{len(list(source.parent.glob('converted_*')))}"
    with redirect_stdout(io.StringIO()) as out:
        code = main([str(source), "--to", str(folder), *map(str, words)])
    return Result(code, out.getvalue(), folder)
