"""Each kind of defect is planted alone in a small clean data set, and alone is found."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import HOME
from PIL import Image

from detector.check.findings import KINDS, Example, Finding, collect
from detector.check.images import near_pairs
from detector.check.pictures import draw_all
from detector.check.split import read_splits
from detector.cli.check import check, find_all
from detector.config import load

Document = dict[str, Any]
SIZES = [(64, 48), (48, 72), (80, 56), (64, 48), (60, 90)]  # width, height; two are alike
NAMES = ["cat", "dog", "cow"]


@dataclass
class Data:
    """A data set to plant a defect in: two annotation files, and their images."""

    folder: Path
    train: Document
    val: Document

    def image(self, split: str, row: int) -> Path:
        return self.folder / split / f"{row}.jpg"

    def box(self, row: int = 0, **changes: Any) -> None:
        """Change a training annotation."""
        self.train["annotations"][row].update(changes)

    def more(self, box: list[float], category: int = 1, split: str = "train") -> None:
        """One more annotation, of image 0."""
        annotations = getattr(self, split)["annotations"]
        image_id = getattr(self, split)["images"][0]["id"]
        entry = {"id": 1000 + len(annotations), "image_id": image_id, "category_id": category}
        annotations.append({**entry, "bbox": box, "iscrowd": 0})

    def category(self, category: int, name: str) -> None:
        """Name a category in both files."""
        for document in (self.train, self.val):
            kept = [one for one in document["categories"] if one["id"] != category]
            document["categories"] = [*kept, {"id": category, "name": name}]


def document(split: str) -> Document:
    """Two boxes an image; of the third class two in train. Boxes and ids differ by split."""
    first, shift = (10, 0) if split == "train" else (50, 2)
    images, annotations = [], []
    for row, (width, height) in enumerate(SIZES):
        entry = {"id": first + row, "file_name": f"{row}.jpg", "width": width, "height": height}
        images.append(entry)
        for k, box in enumerate(([4 + shift, 5, 18, 20], [26, 24 + shift, 20, 18])):
            category = 3 if k and row in (1, 2) else 1 + k
            annotation = {"id": 100 + first + 2 * row + k, "image_id": first + row, "iscrowd": 0}
            annotations.append({**annotation, "category_id": category, "bbox": box})
    categories = [{"id": k, "name": name} for k, name in enumerate(NAMES, start=1)]
    return {"images": images, "categories": categories, "annotations": annotations}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of soft random patterns, which do not look alike."""
    folder, generator = tmp_path_factory.mktemp("pictures"), torch.Generator().manual_seed(0)
    for split in ("train", "val"):
        (folder / split).mkdir()
        for row, (width, height) in enumerate(SIZES):
            coarse = torch.rand(1, 3, 7, 9, generator=generator)
            pixels = F.interpolate(coarse, (height, width), mode="bilinear")[0] * 255
            array = pixels.byte().permute(1, 2, 0).numpy()
            Image.fromarray(array).save(folder / split / f"{row}.jpg", quality=95)
    return folder


@pytest.fixture
def data(pictures: Path, tmp_path: Path) -> Data:
    folder = tmp_path / "data"
    shutil.copytree(pictures, folder)
    return Data(folder, document("train"), document("val"))


def settings(data: Data) -> list[str]:
    """Write the annotation files; `--set` values that name them."""
    values = ["data.resize={shorter: 64, longer: 96}", "anchors={sizes: [12, 20, 32, 48, 64]}"]
    for split in ("train", "val"):
        file = data.folder / f"{split}.json"
        file.write_text(json.dumps(getattr(data, split)))
        values += [f"data.{split}.annotations={file}", f"data.{split}.images={data.folder / split}"]
    return values


def found(data: Data, *more: str) -> list[Finding]:
    config = load(HOME / "configs" / "digits.yaml", [*settings(data), *more])
    return find_all(config, read_splits(config))


def turn(data: Data) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    file = data.image("train", 1)
    Image.open(file).save(file, quality=95, exif=exif)


def resave(data: Data, split: str) -> None:
    """Image 3, which has the size of image 0, becomes a poor copy of it."""
    Image.open(data.image("train", 0)).save(data.image(split, 3), quality=50)


def crowds(data: Data) -> None:
    for annotation in data.train["annotations"]:
        annotation["iscrowd"] = 1


def without_boxes(data: Data) -> None:
    kept = [one for one in data.train["annotations"] if one["image_id"] != 10]
    data.train["annotations"] = kept


def many(data: Data) -> None:
    """205 of the first class, 8 and 2 of the others."""
    for row in range(200):
        data.more([1 + row % 20 * 2, row // 20 * 2, 20, 20])


def category_in(data: Data, *splits: str, name: str = "pig") -> None:
    data.category(4, name)
    for split in splits:
        data.more([30, 2, 20, 16], category=4, split=split)


PLANTS: dict[str, Callable[[Data], Any]] = {
    "nothing_to_learn": crowds,
    "image_missing": lambda data: data.image("train", 1).unlink(),
    "image_unreadable": lambda data: data.image("train", 1).write_text("no image"),
    "image_size_differs": lambda data: data.train["images"][1].update(width=47),
    "image_in_both_splits": lambda d: shutil.copy(d.image("train", 0), d.image("val", 3)),
    "box_unknown_image": lambda data: data.box(image_id=9),
    "box_unknown_category": lambda data: data.box(category_id=9),
    "box_missing": lambda data: data.box(bbox=None),
    "box_not_finite": lambda data: data.box(bbox=[4, float("inf"), 18, 20]),
    "box_without_area": lambda data: data.box(bbox=[4, 5, 0, 20]),
    "box_outside": lambda data: data.box(bbox=[64, 5, 18, 20]),
    "box_labels_under_softmax": lambda data: data.box(category_ids=[1, 2]),
    "categories_differ": lambda data: data.val["categories"][2].update(name="pig"),
    "image_rotated": turn,
    "image_duplicate": lambda d: shutil.copy(d.image("train", 0), d.image("train", 3)),
    "image_near_duplicate": lambda data: resave(data, "train"),
    "image_near_duplicate_across_splits": lambda data: resave(data, "val"),
    "box_partly_outside": lambda data: data.box(bbox=[48, 5, 18, 20]),  # 2 of 64 pixels
    "box_tiny": lambda data: data.box(bbox=[4, 5, 18, 1]),
    "box_whole_image": lambda data: data.box(bbox=[0, 0, 64, 47.5]),  # 47.5 / 48 = 0.99
    "box_duplicate": lambda data: data.more([4, 5, 18, 20]),
    "box_near_duplicate": lambda data: data.more([4, 6, 18, 20]),  # 19 / 21 = 0.905
    "box_two_labels": lambda data: data.more([4, 6, 18, 20], category=2),
    "box_fits_no_anchor": lambda data: data.box(bbox=[4, 5, 50, 4]),
    "class_same_name": lambda data: category_in(data, "train", "val", name=" Cat"),
    "class_without_name": lambda data: data.category(3, "  "),
    "class_without_boxes": lambda data: category_in(data),
    "class_in_one_split": lambda data: category_in(data, "train"),
    "class_imbalance": many,
    "image_without_boxes": without_boxes,
    "box_area_replaced": lambda data: data.box(area=-1),
}  # fmt: skip
SOFTMAX = [
    "loss.classification.activation=softmax", "loss.classification.background=class",
    "loss.classification.alpha=null",
]  # fmt: skip


def test_every_kind_is_planted() -> None:
    assert PLANTS.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", PLANTS)
def test_what_is_planted_is_found_and_nothing_else(data: Data, kind: str) -> None:
    PLANTS[kind](data)
    findings = found(data, *(SOFTMAX if kind == "box_labels_under_softmax" else []))
    assert [(one.kind, one.count) for one in findings] == [(kind, 1)], findings


def test_nothing_is_invented(data: Data) -> None:
    assert found(data) == []
    assert found(data, *SOFTMAX) == []


def test_several_labels_are_no_error_under_a_sigmoid(data: Data) -> None:
    data.box(category_ids=[1, 2])
    assert found(data) == []


@pytest.mark.parametrize(
    ("kind", "box"),
    [("box_partly_outside", [47, 5, 18, 20]), ("box_tiny", [4, 5, 18, 9]),
     ("box_whole_image", [0, 0, 64, 46.9]), ("box_near_duplicate", [4, 5, 18, 20])],
)  # fmt: skip
def test_what_lies_just_within_is_not_suspicious(data: Data, kind: str, box: list[float]) -> None:
    """One pixel outside; 46.9 / 48 = 0.977; boxes two pixels apart: 18 / 22 = 0.82."""
    data.box(bbox=box)
    data.more([4, 7, 18, 20])
    assert kind not in {one.kind for one in found(data)}


@pytest.mark.parametrize(
    "box", [[-2, 5, 18, 20], [4, -2, 18, 20], [48, 5, 18, 20], [4, 30, 18, 20]]
)
def test_a_box_may_leave_its_image_on_any_side(data: Data, box: list[float]) -> None:
    """By two pixels of 64 x 48."""
    data.box(bbox=box)
    assert [(one.kind, one.count) for one in found(data)] == [("box_partly_outside", 1)]


@pytest.mark.parametrize("box", [[0, 0, 64, 48], [4, 5, 18, 1], [26, 24, 20, 18]])
def test_a_crowd_may_be_large_thin_or_around_an_object(data: Data, box: list[float]) -> None:
    """All of the image, a pixel high, and at the box of a dog; none is an object."""
    data.more(box)
    data.train["annotations"][-1]["iscrowd"] = 1
    assert found(data) == []


def test_a_hundred_times_as_many_boxes_are_told(data: Data) -> None:
    """Of cows there are 2, and 195 more cats are 200."""
    many(data)
    del data.train["annotations"][-5:]
    (rare,) = [one for one in found(data) if one.kind == "class_imbalance"]
    assert [one.detail for one in rare.examples] == ["cow 2, cat 200"]


def test_all_cases_are_counted_and_twenty_are_kept() -> None:
    (finding,) = collect(("box_tiny", Example(str(row))) for row in range(23))
    assert finding.count == 23
    assert [one.detail for one in finding.examples] == [str(row) for row in range(20)]


@pytest.mark.parametrize("annotated", ["stored", "turned"])
def test_a_turned_image_says_how_it_is_annotated(data: Data, annotated: str) -> None:
    """48 x 72 as stored; orientation 6 turns it by a quarter."""
    exif, file, image = Image.Exif(), data.image("train", 1), data.train["images"][1]
    exif[0x0112] = 6
    Image.open(file).save(file, quality=95, exif=exif)
    if annotated == "turned":
        image.update(width=72, height=48)
    (finding,) = [one for one in found(data) if one.kind == "image_rotated"]
    assert finding.examples[0].detail == f"EXIF orientation 6, annotated as {annotated}"


def test_boxes_are_drawn_where_they_are_on_a_smaller_picture(data: Data) -> None:
    """840 x 420 is made half as large, and then drawn twice as large, so that names can be read.

    Of a black image the frame alone is bright: around 200 .. 600, 100 .. 300, but for its label.
    """
    Image.new("RGB", (840, 420)).save(data.image("train", 0))
    data.train["images"][0].update(width=840, height=420)
    data.train["annotations"] = data.train["annotations"][2:]
    data.more([200, 100, 400, 200])
    splits = read_splits(load(HOME / "configs" / "digits.yaml", settings(data)))
    tiny = Finding("box_tiny", 1, (splits[0].of_boxes(data.train["annotations"][-1]["id"]),))
    (picture,) = draw_all(splits, [tiny])["box_tiny"]
    pixels = base64.b64decode(picture.address.partition(",")[2])
    grey = np.array(Image.open(io.BytesIO(pixels)).convert("L")).astype(int)
    assert grey.shape == (420, 840)
    rows, columns = np.nonzero(grey[200:, 400:] > 60)
    assert abs(rows.max() + 200 - 300) <= 4 and abs(columns.max() + 400 - 600) <= 4
    rows, columns = np.nonzero(grey[200:, :400] > 60)
    assert abs(columns.min() - 200) <= 4


def test_all_is_said_at_once_where_training_refuses_the_first(data: Data) -> None:
    data.image("train", 1).unlink()
    data.image("val", 2).write_text("no image")
    data.box(bbox=[4, 5, 0, 20])
    data.box(2, bbox=[4, 5, 0, 20])
    counts = {one.kind: one.count for one in found(data)}
    assert counts == {"image_missing": 1, "image_unreadable": 1, "box_without_area": 2}


def test_an_example_names_file_and_ids(data: Data) -> None:
    data.more([4, 6, 18, 20], category=2)
    (finding,) = found(data)
    (example,) = finding.examples
    assert (example.split, example.image_id, example.file_name) == ("train", 10, "0.jpg")
    assert example.annotations == (110, 1010)
    assert example.detail == "cat [4, 5, 18, 20]; dog [4, 6, 18, 20]"


@pytest.mark.parametrize(
    ("example", "text"),
    [
        (Example("cow"), "cow"),
        (Example("", "val", 1, "2.jpg"), "val 2.jpg"),
        (Example("cat [1, 2, 3, 0]", "train", 1, "2.jpg", (7,)),
         "train 2.jpg: annotation 7: cat [1, 2, 3, 0]"),
        (Example("twice", "train", annotations=(7, 8)), "train: annotations 7, 8: twice"),
    ],
)  # fmt: skip
def test_an_example_as_text(example: Example, text: str) -> None:
    assert str(example) == text


def test_the_page_counts_cases_and_lists_twenty(data: Data, tmp_path: Path) -> None:
    """Of 23 tiny boxes three are drawn, 17 listed, and three more told; a single case is 1."""
    for row in range(23):
        data.more([2 * row, 30, 1, 10])
    data.image("train", 4).unlink()
    config = load(HOME / "configs" / "digits.yaml", settings(data))
    check(config, "my_folder/my.yaml", tmp_path)
    page = (tmp_path / "check.html").read_text()
    assert "Image files that are not there. What to do: bring or rename them. Cases: 1." in page
    tiny = page.partition('<section id="box_tiny">')[2].partition("</section>")[0]
    assert "Cases: 23." in tiny and tiny.count("<img ") == 3
    listed = re.findall("<li>(.*)</li>", tiny)
    assert listed[0] == "train 0.jpg: annotation 1013: cat [6, 30, 1, 10]"
    assert listed[17:] == ["and 3 more"]
    assert "Check of my_<wbr>folder/<wbr>my.yaml</h1>" in page
    assert page.count('<div class="table" tabindex="0"') == page.count("<table") == 7


def test_a_set_of_identical_files_counts_all_but_the_first(data: Data) -> None:
    for row in (3, 4):
        data.train["images"][row] = copy.deepcopy(data.train["images"][row])
    data.train["images"][4].update(width=64, height=48)
    for row in (3, 4):
        shutil.copy(data.image("train", 0), data.image("train", row))
    (finding,) = found(data)
    assert (finding.kind, finding.count) == ("image_duplicate", 2)
    assert [one.file_name for one in finding.examples] == ["3.jpg", "4.jpg"]


def test_a_picture_is_turned_as_training_turns_it(data: Data) -> None:
    """48 x 72 as annotated is the image as stored: EXIF data that would turn it change nothing."""
    file, exif, addresses = data.image("train", 1), Image.Exif(), []
    stored = Image.open(file).copy()
    for orientation in (1, 6):
        exif[0x0112] = orientation
        stored.save(file, exif=exif)
        config = load(HOME / "configs" / "digits.yaml", settings(data))
        splits = read_splits(config)
        rotated = Finding("image_rotated", 1, (splits[0].of_image(11),))
        (picture,) = draw_all(splits, [rotated])["image_rotated"]
        addresses.append(picture.address)
    assert addresses[0] == addresses[1] != ""


def test_rare_classes_of_one_name_count_each(data: Data) -> None:
    many(data)
    data.category(4, "cow")
    data.more([30, 2, 20, 16], category=4)
    data.more([30, 2, 20, 16], category=4, split="val")
    (rare,) = [one for one in found(data) if one.kind == "class_imbalance"]
    assert [one.detail for one in rare.examples] == ["cow 2, cat 205", "cow 1, cat 205"]


def test_near_pairs_need_equal_edges_and_equal_light() -> None:
    """Thumbnails without edges have the same hash; 20 levels apart they are two images."""
    slope = torch.arange(17.0).repeat(16, 1) * 10  # each pixel is 10 brighter: all bits are 1
    mirrored = slope.flip(1)
    bent = slope.clone()
    bent[:, [1, 3]] -= 12  # 32 of 256 bits turn
    assert list(near_pairs([slope, mirrored, slope + 5])) == [(0, 2)]
    assert list(near_pairs([slope, slope + 20])) == []
    assert list(near_pairs([slope, bent])) == []
    assert list(near_pairs([])) == []
    noisy = slope * 0 + torch.arange(17) % 2 * 3.0  # steps of 3 levels are noise
    assert list(near_pairs([noisy, slope * 0])) == [(0, 1)]


def test_near_pairs_of_more_images_than_are_compared_at_a_time() -> None:
    """The last of 301 is like the first and like one of the second 256."""
    generator = torch.Generator().manual_seed(0)
    looks = list(torch.rand(301, 16, 17, generator=generator) * 255)
    looks[300] = looks[290] = looks[0]
    assert list(near_pairs(looks)) == [(0, 290), (0, 300), (290, 300)]
