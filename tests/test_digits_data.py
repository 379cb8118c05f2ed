"""data/digits.py: what it writes, and what it refuses."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import call_script, load_script
from PIL import Image

from detector.errors import InputError

ROOT = Path(__file__).parents[1]
SMALL = ["--train", "8", "--val", "4", "--size", "96"]


digits = load_script(ROOT / "data" / "digits.py")


def make(output: Path, *arguments: str) -> Path:
    assert digits.main(["--output", str(output), *arguments]) == 0
    return output


def annotations(folder: Path, split: str) -> dict[str, Any]:
    return json.loads((folder / "annotations" / f"{split}.json").read_text())


def recipe(**changes: Any) -> Any:
    usual = {"train": 8, "val": 4, "size": 96, "objects": (1, 5), "scale": (20, 80)}
    return digits.Recipe(**{**usual, "imbalance": 1.0, "seed": 0, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("data") / "digits", *SMALL)


@pytest.mark.parametrize(("split", "count"), [("train", 8), ("val", 4)])
def test_writes_coco_format(folder: Path, split: str, count: int) -> None:
    coco = annotations(folder, split)
    assert [c["id"] for c in coco["categories"]] == list(range(1, 11))
    assert [c["name"] for c in coco["categories"]][::9] == ["zero", "nine"]
    assert [i["id"] for i in coco["images"]] == list(range(1, count + 1))
    boxes = coco["annotations"]
    assert [a["id"] for a in boxes] == list(range(1, len(boxes) + 1))
    assert {a["image_id"] for a in boxes} == set(range(1, count + 1))  # --objects 1 5
    for annotation in boxes:
        x, y, width, height = annotation["bbox"]
        assert x >= 0 and y >= 0 and x + width <= 96 and y + height <= 96
        assert 20 <= height <= 57  # --scale 20 80, but no more than 0.6 of 96
        assert annotation["area"] == width * height
        assert annotation["iscrowd"] == 0 and 1 <= annotation["category_id"] <= 10
    names = sorted(path.name for path in (folder / split).iterdir())
    assert names == [i["file_name"] for i in coco["images"]]
    with Image.open(folder / split / names[0]) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (96, 96))


def test_same_seed_same_bytes_whatever_the_count(folder: Path, tmp_path: Path) -> None:
    shorter = make(tmp_path / "shorter", *SMALL, "--train", "3")
    other = make(tmp_path / "other", *SMALL, "--seed", "1", "--train", "1", "--val", "1")
    for name in ("000001.jpg", "000002.jpg", "000003.jpg"):
        assert (shorter / "train" / name).read_bytes() == (folder / "train" / name).read_bytes()
    first = "train/000001.jpg"
    assert (other / first).read_bytes() != (folder / first).read_bytes()
    assert (
        annotations(shorter, "train")["annotations"][0]
        == (annotations(folder, "train")["annotations"][0])
    )


def test_splits_share_no_digit_and_no_pixel() -> None:
    train, val = digits.load_material("train"), digits.load_material("val")
    for ours, theirs in zip(train.digits, val.digits, strict=True):
        assert len(theirs) == (len(ours) + len(theirs)) // 5
        assert not {i.tobytes() for i in ours} & {i.tobytes() for i in theirs}
    assert sum(len(d) for d in train.digits + val.digits) == 1797
    for left, right in zip(train.photographs, val.photographs, strict=True):
        assert (left.shape, right.shape) == ((427, 448, 3), (427, 192, 3))
        assert left.base is not None and not np.shares_memory(left, right)


@pytest.mark.parametrize("height", [20, 33, 80])
@pytest.mark.parametrize("gray", [0.0, 127.0, 255.0])
def test_boxes_are_tight_and_digits_stand_out(gray: float, height: int) -> None:
    rng = np.random.default_rng(0)
    material = digits.load_material("val")
    for label in range(10):
        mask = digits.turn(material.digits[label][0], rng.uniform(-15, 15))
        width = round(height * mask.width / mask.height)
        scene = np.full((100, 120, 3), gray)
        digits.paint(scene, mask, (7, 9, width, height), rng)
        change = np.abs((scene - gray) @ np.array([0.299, 0.587, 0.114]))
        assert change.max() >= 89
        inked_y, inked_x = np.nonzero(change > 0.35 * change.max())
        found = np.array([inked_x.min(), inked_y.min(), inked_x.max() + 1, inked_y.max() + 1])
        assert np.abs(found - (7, 9, 7 + width, 9 + height)).max() <= 1


def test_digits_hardly_overlap() -> None:
    crowded = recipe(objects=(9, 9), scale=(20, 40))
    material = digits.load_material("train")
    counts = []
    for index in range(20):
        _, found = digits.make_scene(material, crowded, "train", index)
        counts.append(len(found))
        for (_, a), (_, b) in itertools.combinations(found, 2):
            assert digits.overlap(a, b) <= 0.15
    assert max(counts) == 9


def test_overlap_is_a_share_of_the_smaller_box() -> None:
    """A quarter of the 4 x 4 box lies in the other: 2 * 2 / 16."""
    assert digits.overlap((0, 0, 10, 10), (8, 8, 4, 4)) == 0.25
    assert digits.overlap((0, 0, 10, 10), (10, 0, 4, 4)) == 0.0


def test_imbalance_is_the_ratio_of_the_ends_and_train_s_alone() -> None:
    long_tail = recipe(imbalance=100.0)
    shares = long_tail.class_shares("train")
    assert shares[0] / shares[9] == pytest.approx(100)
    assert shares[0] / shares[3] == pytest.approx(100 ** (1 / 3))
    assert long_tail.class_shares("val") == pytest.approx(np.full(10, 0.1))


def test_a_part_of_the_classes(tmp_path: Path) -> None:
    """Ids from 1 in the order that was named, and the pictures are those digits."""
    few = make(tmp_path / "few", *SMALL, "--classes", "7", "1")
    coco = annotations(few, "train")
    assert coco["categories"] == [{"id": 1, "name": "seven"}, {"id": 2, "name": "one"}]
    assert {a["category_id"] for a in coco["annotations"]} == {1, 2}
    assert coco["info"]["arguments"]["classes"] == [7, 1]
    material = digits.load_material("train")
    only = dataclasses.replace(
        material, digits=[d if i == 7 else [] for i, d in enumerate(material.digits)]
    )
    _, drawn = digits.make_scene(only, recipe(classes=(7,)), "train", 0)  # others have no picture
    assert {label for label, _ in drawn} <= {0}


def test_scenes_may_be_empty(tmp_path: Path) -> None:
    empty = make(tmp_path / "empty", "--train", "2", "--val", "1", "--objects", "0", "0")
    assert annotations(empty, "train")["annotations"] == []
    assert len(annotations(empty, "train")["images"]) == 2


def test_an_existing_folder_is_never_touched(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    make(folder, *SMALL)
    assert "already there" in capsys.readouterr().out
    with pytest.raises(InputError, match="other arguments"):
        make(folder, *SMALL, "--seed", "1")
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="no digits data set"):
        make(tmp_path, *SMALL)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_lost_image_is_noticed(tmp_path: Path) -> None:
    broken = make(tmp_path / "broken", "--train", "2", "--val", "1")
    (broken / "train" / "000002.jpg").unlink()
    with pytest.raises(InputError, match="lacks images"):
        make(broken, "--train", "2", "--val", "1")


def test_nothing_stays_of_an_interrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(digits, "make_scene", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "digits", *SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"train": 0}, "--train"),
        ({"val": -1}, "--val"),
        ({"size": 31}, "--size"),
        ({"objects": (5, 1)}, "--objects"),
        ({"objects": (-1, 1)}, "--objects"),
        ({"scale": (40, 20)}, "--scale"),
        ({"scale": (70, 80)}, "--scale"),
        ({"objects": (1, 200)}, "--objects"),
        ({"imbalance": 0.5}, "--imbalance"),
        ({"classes": (1, 1)}, "--classes is 1 1; expected digits 0 to 9, each once"),
        ({"classes": (10,)}, "--classes"),
        ({"imbalance": float("nan")}, "--imbalance"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_bad_knobs_are_named(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError, match=key):
        recipe(**changes)


def test_wrong_input_exits_2_with_one_sentence(tmp_path: Path) -> None:
    done = call_script(ROOT / "data" / "digits.py", "--output", tmp_path / "x", "--size", "8")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --size is 8") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
