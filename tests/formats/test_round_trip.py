"""Boxes written in a format and converted are the boxes; also where another library writes."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from writers import (
    Box,
    Picture,
    Result,
    convert,
    write_csv,
    write_images,
    write_labelme,
    write_voc,
    write_yolo,
)

from detector.data.coco import CocoIndex

NAMES = ["wheel", "bird", "Zebra crossing", "été"]


@st.composite
def boxes(draw: st.DrawFn, size: tuple[int, int]) -> Box:
    """Whole pixels, as Pascal VOC has them, with an area."""
    x1, y1 = (draw(st.integers(0, side - 1)) for side in size)
    x2, y2 = (draw(st.integers(low + 1, side)) for low, side in zip((x1, y1), size, strict=True))
    return x1, y1, x2, y2


@st.composite
def pictures(draw: st.DrawFn) -> list[Picture]:
    """One to three images of mixed sizes, some without objects, and at least one box in all."""
    sizes = draw(
        st.lists(st.tuples(st.integers(3, 40), st.integers(3, 40)), min_size=1, max_size=3)
    )
    made = []
    for index, size in enumerate(sizes):
        label = st.tuples(st.sampled_from(NAMES), boxes(size))
        labels = draw(st.lists(label, min_size=index == 0, max_size=3))
        made.append(Picture(f"{index}.png", size, labels))
    return made


def write_all_yolo(root: Path, made: Sequence[Picture]) -> Path:
    return write_yolo(root, made, NAMES)


@pytest.mark.parametrize(
    "write", [write_voc, write_all_yolo, write_labelme, write_csv], ids=lambda f: f.__name__
)
@settings(max_examples=12)
@given(made=pictures())
def test_what_was_written(
    write: Callable[[Path, Sequence[Picture]], Path], made: Sequence[Picture]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        result = convert(write(Path(folder) / "source", made))
        assert result.code == 0
        assert_same(result, made)
        read_by_us(result)


def assert_same(result: Result, made: Sequence[Picture]) -> None:
    found = result.boxes()
    assert sorted(found) == sorted(picture.name for picture in made)
    for picture in made:
        assert [name for name, _ in found[picture.name]] == [name for name, _ in picture.labels]
        for (_, box), (_, expected) in zip(found[picture.name], picture.labels, strict=True):
            assert box == pytest.approx(expected, abs=1e-3)
    sizes = {row["file_name"]: (row["width"], row["height"]) for row in result.content()["images"]}
    assert sizes == {picture.name: picture.size for picture in made}


def read_by_us(result: Result) -> None:
    """Training refuses none of it."""
    folder = result.folder.parent / "source"
    images = next(f for f in (folder / "JPEGImages", folder / "images", folder) if f.is_dir())
    index = CocoIndex.read(result.folder / "annotations.json", images)
    assert len(index) == len(result.content()["images"])


@pytest.mark.parametrize("kind", ["voc", "yolo"])
def test_what_supervision_writes(kind: str, tmp_path: Path) -> None:
    """A writer that is not ours: 1-based corners of VOC, fractions of YOLO."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that there is no OpenCV
        import supervision as sv
    made = [
        Picture("a.png", (40, 20), [("wheel", (0, 0, 40, 20)), ("bird", (3, 4, 13, 9))]),
        Picture("b.png", (15, 30), [("bird", (1, 20, 15, 30))]),
    ]
    source, photographs = tmp_path / "source", tmp_path / "photographs"
    write_images(photographs, made)
    detections = {
        str(photographs / picture.name): sv.Detections(
            xyxy=np.array([box for _, box in picture.labels], np.float32),
            class_id=np.array([["wheel", "bird"].index(name) for name, _ in picture.labels]),
        )
        for picture in made
    }
    dataset = sv.DetectionDataset(["wheel", "bird"], list(detections), detections)
    if kind == "voc":
        dataset.as_pascal_voc(str(source / "JPEGImages"), str(source / "Annotations"))
    else:
        dataset.as_yolo(str(source / "images"), str(source / "labels"), str(source / "data.yaml"))
    assert_same(convert(source), made)
