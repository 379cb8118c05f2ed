"""Folds of two pooled sets of oblong images, whose ids and file names collide."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector import build
from detector.config import Config, parse
from detector.data.coco import CocoIndex
from detector.engine.restore import data_identity
from detector.errors import InputError
from detector.evaluation.coco_files import index_ground_truth
from detector.trained import Trained

CLASSES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]


def write_part(folder: Path, name: str, labels: list[int | None], **more: Any) -> None:
    """One image a label, 40 x 30, with a box of its class at x = its index; none for None."""
    (folder / name).mkdir()
    images, boxes = [], []
    for index, label in enumerate(labels):
        Image.new("RGB", (40, 30)).save(folder / name / f"{index}.png")
        images.append({"id": index + 1, "file_name": f"{index}.png", "width": 40, "height": 30})
        if label is not None:
            box = {"bbox": [index, 2, 5, 8], "area": 40, "iscrowd": 0, "category_id": label}
            boxes.append({"id": len(boxes) + 1, "image_id": index + 1, **box})
    content = {"images": images, "annotations": boxes, "categories": CLASSES} | more
    (folder / f"{name}.json").write_text(json.dumps(content))


def config(folder: Path, count: int, fold: int) -> Config:
    data = {
        part: {"images": str(folder / part), "annotations": str(folder / f"{part}.json")}
        for part in ("train", "val")
    }
    return parse(json.dumps({"data": {**data, "folds": {"count": count, "fold": fold}}}), "")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """12 images with a cat, 6 with a dog, 3 with nothing; a third of them in val."""
    write_part(tmp_path, "train", [3] * 8 + [7] * 4 + [None] * 2)
    write_part(tmp_path, "val", [3] * 4 + [7] * 2 + [None])
    return tmp_path


def content(index: CocoIndex) -> list[tuple[str, float | None, int | None]]:
    """File, x and class of each image."""
    found = []
    for row in range(len(index)):
        truth, name = index.truth(row), index.path(row)
        assert name.is_file()
        short = f"{name.parent.name}/{name.name}"
        x = truth.boxes[0, 0].item() if len(truth.boxes) else None
        label = int(truth.labels[0].int().argmax()) if len(truth.labels) else None
        found.append((short, x, label))
    return found


def test_each_image_is_validated_on_once_and_by_class(small: Path) -> None:
    seen = []
    for fold in range(3):
        val = content(build.data_index(config(small, 3, fold), "val"))
        train = content(build.data_index(config(small, 3, fold), "train"))
        assert [sum(label == k for *_, label in val) for k in (0, 1, None)] == [4, 2, 1]
        assert len(train) == 14 and not {name for name, *_ in train} & {name for name, *_ in val}
        seen += val
    assert len({name for name, *_ in seen}) == 21
    # each box is still in its own image: x is the index in the file's name
    assert all(x is None or name.endswith(f"/{x:.0f}.png") for name, x, _ in seen)
    assert {(name, label) for name, _, label in seen} >= {("train/11.png", 1), ("val/3.png", 0)}


def test_from_count_on_it_is_another_partition(small: Path) -> None:
    first, again, other = (
        {name for name, *_ in content(build.data_index(config(small, 3, fold), "val"))}
        for fold in (0, 0, 3)
    )
    assert first == again != other and len(other) == 7


def test_ids_are_unique_and_those_of_the_ground_truth(small: Path) -> None:
    index = build.data_index(config(small, 3, 1), "val")
    truth = index_ground_truth(index)
    assert len({image["id"] for image in truth["images"]}) == 21
    owners = {box["image_id"] for box in truth["annotations"]}
    with_boxes = np.diff(index.box_offsets) > 0
    assert owners == set(index.image_ids[with_boxes].tolist()) and len(owners) == 6


def test_tuning_sets_aside_training_images_of_the_fold(small: Path) -> None:
    whole = config(small, 3, 1)
    data = whole.data.model_copy(update={"tuning": 0.4})
    tuned = whole.model_copy(update={"data": data})
    ids = {part: set(build.data_index(tuned, part).image_ids.tolist()) for part in ("train", "val")}
    assert ids["train"] | ids["val"] == set(build.data_index(whole, "train").image_ids.tolist())
    assert ids["train"] and ids["val"] and not ids["train"] & ids["val"]


def test_the_identity_of_the_data_follows_the_fold(small: Path) -> None:
    found = [
        data_identity(
            *(build.data_index(config(small, 3, fold), part) for part in ("train", "val"))
        )
        for fold in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"categories": [*CLASSES[:1], {"id": 7, "name": "cow"}]}, "different categories"),
        ({"images": [{"id": 1, "file_name": "../train/0.png"}], "annotations": []}, "leads out"),
    ],
)
def test_refused(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    write_part(tmp_path, "train", [3] * 4)
    write_part(tmp_path, "val", [3] * 2, **more)
    with pytest.raises(InputError, match=said):
        build.data_index(config(tmp_path, 2, 0), "train")


def test_an_image_of_both_sets_is_refused(small: Path) -> None:
    both = config(small, 3, 0)
    data = both.data.model_copy(update={"val": both.data.train})
    with pytest.raises(InputError, match=r"0\.png is in .*train\.json and in .*train\.json"):
        build.data_index(both.model_copy(update={"data": data}), "val")


def test_more_folds_than_images_are_refused(small: Path) -> None:
    with pytest.raises(InputError, match="count is 22, .* have 21 images together"):
        build.data_index(config(small, 22, 0), "val")


def test_the_boxes_of_a_fold_stand_in_both_files(small: Path) -> None:
    """A file that was mended since makes an evaluation out of date."""
    trained = object.__new__(Trained)  # no weights are looked at
    trained.weights, both = Path("best.pt"), [small / "train.json", small / "val.json"]
    trained.config = config(small, 2, 0)
    assert trained.truth_files == both
    assert trained.origin()["ground_truth"] == f"{both[0]} and {both[1]}"
    data = trained.config.data.model_copy(update={"folds": None})
    trained.config = trained.config.model_copy(update={"data": data})
    assert trained.truth_files == both[1:]
    data = data.model_copy(update={"tuning": 0.2})
    trained.config = trained.config.model_copy(update={"data": data})
    assert trained.truth_files == both[:1]
