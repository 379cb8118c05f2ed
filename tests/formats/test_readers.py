"""Each format by hand: numbers, names, parts, and what is left out and counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask
from writers import (
    Picture,
    convert,
    labelme_json,
    voc_xml,
    write_coco,
    write_image,
    write_images,
    write_labelme,
    write_voc,
    write_yolo,
)

DOG = ("dog", (9, 19, 30, 40))  # in VOC 10, 20, 30, 40


def test_voc_by_hand(tmp_path: Path) -> None:
    """x1 - 1, y1 - 1; difficult is ignored; the label's size is not believed; no XML: empty."""
    root = write_voc(tmp_path / "voc", [Picture("b.png", (50, 60), [DOG])])
    text = voc_xml([DOG], more="<difficult>1</difficult>", size=(500, 600))
    (root / "Annotations" / "b.xml").write_text(text)
    write_image(root / "JPEGImages" / "a.png", (31, 17))
    result = convert(root)
    assert result.code == 0
    assert result.content() == {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 31, "height": 17},
            {"id": 2, "file_name": "b.png", "width": 50, "height": 60},
        ],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 2, "category_id": 1, "bbox": [9, 19, 21, 21], "area": 441,
             "iscrowd": 1},
        ],
    }  # fmt: skip
    assert "1 images without a label file" in result.out and "a.png" in result.out
    assert "500 x 600, not 50 x 60" in result.out
    assert f"images: {root / 'JPEGImages'}" in result.out


def test_voc_masks_are_no_images(tmp_path: Path) -> None:
    """VOC2012 has SegmentationClass/b.png beside JPEGImages/b.jpg."""
    root = write_voc(tmp_path / "voc", [Picture("b.jpg", (50, 60), [DOG])])
    write_image(root / "SegmentationClass" / "b.png", (50, 60))
    assert list(convert(root).boxes()) == ["b.jpg"]


def test_voc_lists_are_the_parts(tmp_path: Path) -> None:
    """trainval is the union of two others, and dog_train is no part."""
    names = ["a.png", "b.png", "c.png", "d.png"]
    root = write_voc(tmp_path / "voc", [Picture(name, (50, 60), [DOG]) for name in names])
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    texts = {
        "train": "a\n",
        "val": "b -1\n",
        "trainval": "a\nb\n",
        "test": "c\n",
        "dog_train": "d 1\n",
    }
    for name, text in texts.items():
        (lists / f"{name}.txt").write_text(text)
    result = convert(root)
    parts = {part: list(result.boxes(part)) for part in ("train", "val", "test")}
    assert parts == {"train": ["a.png"], "val": ["b.png"], "test": ["c.png"]}
    assert "1 images that no list" in result.out and "d.png" in result.out


STORED, TURNED = (50, 60), (60, 50)


@pytest.mark.parametrize(
    ("orientation", "said", "expected"),
    [(6, None, TURNED), (6, STORED, STORED), (6, TURNED, TURNED), (3, None, STORED)],
)
def test_exif(
    orientation: int, said: tuple[int, int] | None, expected: tuple[int, int], tmp_path: Path
) -> None:
    """The turned size, unless the label file has the stored one: the boxes were drawn on that."""
    image = Image.fromarray(np.zeros((60, 50, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = orientation
    (tmp_path / "voc").mkdir()
    image.save(tmp_path / "voc" / "a.jpg", exif=exif)
    (tmp_path / "voc" / "a.xml").write_text(voc_xml([DOG], size=said or (0, 0)))
    (row,) = convert(tmp_path / "voc").content()["images"]
    assert (row["width"], row["height"]) == expected


YOLO_LINES = {
    "0 .5 .5 .5 .25": (10, 15, 30, 25),
    "0 0.5 0.5 1 1": (0, 0, 40, 40),
    "0 .25 .5 .75 .5 .5 1": (10, 20, 30, 40),  # a triangle
    "0 .25 .25 .5 .25 .5 .5 .25 .5": (10, 10, 20, 20),  # a rotated box
    "0.0 1 .5 .5 .5": (30, 10, 40, 30),  # half of it outside: clipped
}


@pytest.mark.parametrize("line", YOLO_LINES)
def test_yolo_by_hand(line: str, tmp_path: Path) -> None:
    """In an image of 40 x 40; the second class has no box, and keeps its place."""
    root = write_yolo(tmp_path / "yolo", [Picture("a.png", (40, 40))], ["zebra", "ant"])
    (root / "labels" / "a.txt").write_text(f"{line}\n\n")
    result = convert(root)
    assert result.boxes() == {"a.png": [("zebra", YOLO_LINES[line])]}
    assert [row["name"] for row in result.content()["categories"]] == ["zebra", "ant"]
    assert ("clipped" in result.out) == ("1 .5" in line)


def test_yolo_keypoints_follow_a_box(tmp_path: Path) -> None:
    """Without kpt_shape these 6 numbers would be a triangle."""
    root = write_yolo(tmp_path / "yolo", [Picture("a.png", (40, 40))], ["dog"])
    (root / "data.yaml").write_text("names: {0: dog}\nkpt_shape: [1, 2]\n")
    (root / "labels" / "a.txt").write_text("0 .5 .5 .5 .25 .9 .9")
    assert convert(root).boxes() == {"a.png": [("dog", (10, 15, 30, 25))]}


ROBOFLOW = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: [dog, cat]\n"
PATHS = "path: .\ntrain: train/images\nval: [valid/images]\nnames: {1: cat, 0: dog}\n"
LISTS = "train: train.txt\nval: val.txt\nnames: [dog, cat]\n"


@pytest.mark.parametrize("settings", [ROBOFLOW, PATHS, LISTS], ids=["roboflow", "path", "lists"])
@pytest.mark.parametrize("named", ["folder", "data.yaml"])
def test_yolo_parts(settings: str, named: str, tmp_path: Path) -> None:
    """Roboflow writes paths that are wrong by a folder, and a test part that is not there."""
    root = tmp_path / "yolo"
    for seed, part in enumerate(("train", "valid")):
        write_image(root / part / "images" / f"{part}.png", (40, 20), seed=seed)
        (root / part / "labels").mkdir()
        (root / part / "labels" / f"{part}.txt").write_text("1 .5 .5 .5 .5")
    (root / "README.roboflow.txt").write_text("1 2 3")
    (root / "train.txt").write_text("./train/images/train.png\n")
    (root / "val.txt").write_text("/content/yolo/valid/images/valid.png\n")
    (root / "data.yaml").write_text(settings)
    result = convert(root if named == "folder" else root / "data.yaml")
    assert result.code == 0
    box = [("cat", (10, 5, 30, 15))]
    assert result.boxes("train") == {"train.png": box} and result.boxes("val") == {"valid.png": box}
    ids = [row["id"] for part in ("train", "val") for row in result.content(part)["images"]]
    assert ids == [1, 2]


def test_yolo_images_of_no_part_are_told(tmp_path: Path) -> None:
    pictures = [Picture(f"{part}/a.png", (40, 40), [DOG]) for part in ("train", "val", "more")]
    root = write_yolo(tmp_path / "yolo", pictures, ["dog"])
    (root / "data.yaml").write_text("names: [dog]\ntrain: images/train\nval: images/val\n")
    result = convert(root)
    assert {path.name for path in result.folder.glob("*.json")} == {"train.json", "val.json"}
    assert "1 images that no part of data.yaml names" in result.out and "more/a.png" in result.out


def test_yolo_names_of_a_file(tmp_path: Path) -> None:
    root = write_yolo(tmp_path / "yolo", [Picture("a.png", (40, 40), [DOG])], ["cat", "dog"])
    (root / "data.yaml").unlink()
    (root / "classes.txt").write_text("\ufeffcat\ndog\n")
    assert convert(root).boxes()["a.png"][0][0] == "dog"
    (root / "classes.txt").rename(tmp_path / "other.txt")
    assert convert(root, "--classes", tmp_path / "other.txt").boxes()["a.png"][0][0] == "dog"


def test_yolo_with_images_elsewhere(tmp_path: Path) -> None:
    root = write_yolo(tmp_path / "yolo", [Picture("a.png", (40, 40), [DOG])], ["dog"])
    (root / "images").rename(tmp_path / "photographs")
    result = convert(root, "--images", tmp_path / "photographs")
    assert [name for name, _ in result.boxes()["a.png"]] == ["dog"]


SHAPES = {
    "rectangle": ([[30, 5], [10, 25]], (10, 5, 30, 25)),  # drawn from the right
    "polygon": ([[10, 10], [20, 5], [30, 39]], (10, 5, 30, 39)),
    "circle": ([[20, 20], [23, 24]], (15, 15, 25, 25)),  # radius 5
}


@pytest.mark.parametrize("kind", SHAPES)
def test_labelme_by_hand(kind: str, tmp_path: Path) -> None:
    points, expected = SHAPES[kind]
    root = write_labelme(tmp_path / "labelme", [Picture("a.png", (40, 50))])
    shapes = [
        {"label": " dog ", "points": points, "shape_type": kind},
        {"label": "nose", "points": [[1, 1]], "shape_type": "point"},
    ]
    content = {"shapes": shapes, "imagePath": "..\\photos\\a.png", "imageData": None}
    (root / "a.json").rename(root / "other.json")
    (root / "other.json").write_text(json.dumps(content))
    result = convert(root)
    assert result.boxes() == {"a.png": [("dog", expected)]}
    assert "1 shapes that enclose nothing" in result.out and "other.json: shape 2" in result.out


CSVS = {
    "plain": "b.png,10,5,30,25,dog\nb.png,1,2,3,4,cat\na.png,,,,,\n",
    "header": "path,x1,y1,x2,y2,class\nb.png,10,5,30,25,dog\nb.png,1,2,3,4,cat\na.png,,,,,\n",
    "tensorflow": "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    "b.png,9,9,dog,10,5,30,25\nb.png,9,9,cat,1,2,3,4\na.png,9,9,,,,,\n",
    "another computer": "C:\\data\\b.png,10.0,5,30,25,dog\r\nC:\\data\\b.png,1,2,3,4,cat\r\n"
    "/x/a.png,,,,,\r\n",
}


@pytest.mark.parametrize("kind", CSVS)
@pytest.mark.parametrize("named", ["folder", "file"])
def test_csv_by_hand(kind: str, named: str, tmp_path: Path) -> None:
    """Classes are in alphabetical order; an image that no row names is not taken along."""
    root = tmp_path / "csv"
    write_images(root, [Picture(name, (40, 30)) for name in ("a.png", "b.png", "c.png")])
    (root / "labels.csv").write_text(CSVS[kind], newline="")
    result = convert(root if named == "folder" else root / "labels.csv")
    assert result.code == 0
    dog, cat = ("dog", (10, 5, 30, 25)), ("cat", (1, 2, 3, 4))
    assert result.boxes() == {"a.png": [], "b.png": [dog, cat]}
    assert [row["name"] for row in result.content()["categories"]] == ["cat", "dog"]


def test_csv_parts_by_name(tmp_path: Path) -> None:
    root = tmp_path / "csv"
    write_images(root, [Picture("a.png", (40, 30)), Picture("b.png", (40, 30))])
    (root / "train.csv").write_text("a.png,1,1,9,9,dog\n")
    (root / "val.csv").write_text("b.png,1,1,9,9,dog\n")
    result = convert(root)
    assert list(result.boxes("train")) == ["a.png"] and list(result.boxes("val")) == ["b.png"]


def coco(annotations: object, **changes: object) -> dict[str, object]:
    images = [{"id": "x", "file_name": "a.png"}]
    categories = [{"id": 0, "name": "dog"}, {"id": 5, "name": "cat"}]
    return {"images": images, "categories": categories, "annotations": annotations, **changes}


SQUARE = np.zeros((40, 50), np.uint8)
SQUARE[10:20, 5:30] = 1
COMPRESSED = mask.encode(np.asfortranarray(SQUARE))
RUNS = [40 * 5 + 10, *[10, 30] * 24, 10, 40 * 20 + 20]  # down the columns, outside first
ROWS = {
    "id 0": ({"bbox": [5, 10, 25, 10], "category_id": 0}, "dog"),
    "id as text": ({"bbox": [5, 10, 25, 10], "category_id": "5"}, "cat"),
    "by name": ({"bbox": [5, 10, 25, 10], "category_id": "cat"}, "cat"),
    "another key": ({"bbox": ["5", 10, 25, 10.0], "category": "dog"}, "dog"),
    "polygons": (
        {"segmentation": [[5, 10, 9, 20, 6, 12], [20, 11, 30, 20]], "category_id": 5}, "cat",
    ),
    "one polygon": ({"bbox": [], "segmentation": [5, 10, 30, 20], "category_id": 5}, "cat"),
    "runs": ({"segmentation": {"size": [40, 50], "counts": RUNS}, "category_id": 5}, "cat"),
    "mask": (
        {"segmentation": {**COMPRESSED, "counts": COMPRESSED["counts"].decode()}, "category_id": 5},
        "cat",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ROWS)
def test_coco_by_hand(kind: str, tmp_path: Path) -> None:
    row, name = ROWS[kind]
    content = coco([{"image_id": "x", **row}])
    root = write_coco(tmp_path / "coco", content, [Picture("a.png", (50, 40))])
    result = convert(root)
    assert result.boxes() == {"a.png": [(name, (5, 10, 30, 20))]}
    assert [(row["id"], row["name"]) for row in result.content()["categories"]] == [
        (1, "dog"), (2, "cat"),
    ]  # fmt: skip


DIGITS = {
    "an id": ({"category_id": 1}, ["0"]),
    "an id as text": ({"category_id": "1"}, ["0"]),
    "a name": ({"category_name": "1"}, ["1"]),
    "no id, though a name": ({"category_id": 0}, []),
}


@pytest.mark.parametrize("kind", DIGITS)
def test_coco_names_that_are_numbers(kind: str, tmp_path: Path) -> None:
    """Ids 1, 2 of the digits 0, 1: an unknown id 0 is no digit 0."""
    row, expected = DIGITS[kind]
    rows = [{"image_id": "x", "bbox": [1, 2, 3, 4], **one} for one in ({"category_id": 2}, row)]
    categories = [{"id": 1, "name": "0"}, {"id": 2, "name": "1"}]
    content = coco(rows, categories=categories)
    root = write_coco(tmp_path / "coco", content, [Picture("a.png", (50, 40))])
    result = convert(root)
    assert [name for name, _ in result.boxes()["a.png"]] == ["1", *expected]
    assert ("category_id 0" in result.out) == (not expected)


def test_coco_categories_of_one_name_are_told(tmp_path: Path) -> None:
    rows = [{"image_id": "x", "category_id": k, "bbox": [1, 2, 3, 4]} for k in (0, 5)]
    content = coco(rows, categories=[{"id": 0, "name": "dog"}, {"id": 5, "name": "dog "}])
    result = convert(write_coco(tmp_path / "coco", content, [Picture("a.png", (50, 40))]))
    assert result.content()["categories"] == [{"id": 1, "name": "dog"}]
    assert "1 categories of the name of another" in result.out and "'dog'" in result.out


def test_coco_keeps_crowds_and_areas(tmp_path: Path) -> None:
    """The area of a segmentation decides about small and large in the evaluation."""
    rows = [
        {"image_id": "x", "category_id": 0, "bbox": [0, 0, 10, 10], "iscrowd": 1, "area": 60},
        {"image_id": "x", "category_id": 0, "bbox": [0, 0, 10, 10], "area": 0},
    ]
    root = write_coco(tmp_path / "coco", coco(rows), [Picture("a.png", (50, 40))])
    found = convert(root).content()["annotations"]
    assert [(row["iscrowd"], row["area"]) for row in found] == [(1, 60), (0, 100)]


def test_coco_of_roboflow(tmp_path: Path) -> None:
    """Its first category only groups the others; each part has a folder with a file of its own."""
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "dog", "supercategory": "pets"},
    ]
    for part in ("train", "valid"):
        row = {"id": 0, "image_id": "x", "category_id": 1, "bbox": [1, 2, 3, 4]}
        root = tmp_path / "coco" / part
        write_coco(root, coco([row], categories=categories), [Picture("a.png", (50, 40))])
        (root / "labels.json").rename(root / "_annotations.coco.json")
    result = convert(tmp_path / "coco")
    for part, folder in {"train": "train", "val": "valid"}.items():
        assert result.boxes(part) == {"a.png": [("dog", (1, 2, 4, 6))]}
        assert result.content(part)["images"][0]["file_name"] == f"{folder}/a.png"
    assert "only group the others" in result.out and "'pets'" in result.out


def test_coco_names_of_both_parts(tmp_path: Path) -> None:
    """train/a.png is another image than val/a.png, unless the file names the folder itself."""
    images = {"train": "a.png", "val": "data/val/a.png", "test": "train/b.png"}
    for seed, (part, name) in enumerate(images.items()):
        write_image(tmp_path / "coco" / part / "a.png", (50, 40 + seed), seed=seed)
        row = {"image_id": "x", "category_id": 0, "bbox": [1, 2, 3, 4]}
        content = coco([row], images=[{"id": "x", "file_name": name}])
        (tmp_path / "coco" / f"instances_{part}2017.json").write_text(json.dumps(content))
    write_image(tmp_path / "coco" / "train" / "b.png", (50, 60))
    write_image(tmp_path / "coco" / "test" / "b.png", (50, 61))
    result = convert(tmp_path / "coco")
    heights = [result.content(part)["images"][0]["height"] for part in images]
    assert heights == [40, 41, 60]


def test_coco_unknown_ids_are_counted(tmp_path: Path) -> None:
    rows = [
        {"image_id": "x", "category_id": 0, "bbox": [0, 0, 10, 10]},
        {"image_id": "y", "category_id": 0, "bbox": [0, 0, 10, 10]},
        {"image_id": "x", "category_id": 7, "bbox": [0, 0, 10, 10]},
        {"image_id": "x", "category_id": 0, "bbox": None},
    ]
    root = write_coco(tmp_path / "coco", coco(rows), [Picture("a.png", (50, 40))])
    result = convert(root)
    assert len(result.content()["annotations"]) == 1
    assert result.out.count("annotations of ") == 2 and "neither bbox nor segm" in result.out


BOXES = {
    (5, 5, 5, 9): "1 boxes without area",
    (9, 5, 5, 9): "1 boxes without area",
    (60, 5, 70, 9): "1 boxes outside",
    (45, 5, 60, 9): "1 boxes that reach out",
}


@pytest.mark.parametrize("box", BOXES)
def test_boxes_that_are_counted(box: tuple[int, ...], tmp_path: Path) -> None:
    (tmp_path / "csv").mkdir()
    write_image(tmp_path / "csv" / "a.png", (50, 40))
    rows = ["a.png,1,1,9,9,dog", f"a.png,{','.join(map(str, box))},dog"]
    (tmp_path / "csv" / "a.csv").write_text("\n".join(rows))
    result = convert(tmp_path / "csv")
    assert result.code == 0 and BOXES[box] in result.out and "a.csv:2" in result.out
    kept = [box for _, box in result.boxes()["a.png"]]
    assert kept == [(1, 1, 9, 9), *([(45, 5, 50, 9)] if box[2] == 60 and box[0] == 45 else [])]


def test_classes_choose_and_order(tmp_path: Path) -> None:
    labels = [("dog", (1, 1, 9, 9)), ("cat", (2, 2, 9, 9)), ("été", (3, 3, 9, 9))]
    root = write_labelme(tmp_path / "labelme", [Picture("a.png", (20, 30))])
    (root / "a.json").write_text(labelme_json("a.png", labels).replace("\\u00e9", "e\\u0301"))
    (tmp_path / "classes.txt").write_text("été\ndog\n")
    result = convert(root, "--classes", tmp_path / "classes.txt")
    assert [row["name"] for row in result.content()["categories"]] == ["été", "dog"]
    assert [name for name, _ in result.boxes()["a.png"]] == ["dog", "été"]
    assert "1 boxes of a class" in result.out and "'cat'" in result.out
