"""Where labels, images and parts lie in a source, and which of several names counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
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

DOG = ("dog", (9, 19, 30, 40))


def written(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_voc_lists_of_a_set_without_train(tmp_path: Path) -> None:
    """trainval alone is what to train on; a list may name the file; segmentation is no part."""
    pictures = [Picture(f"{name}.png", (50, 60), [DOG]) for name in "abcd"]
    root = write_voc(tmp_path / "voc", pictures)
    lists = root / "ImageSets"
    written(lists / "Main" / "trainval.txt", "a\nb.png\n")
    written(lists / "Main" / "test.txt", "c\n")
    written(lists / "Segmentation" / "val.txt", "d\n")
    result = convert(root)
    assert list(result.boxes("train")) == ["a.png", "b.png"]
    assert list(result.boxes("test")) == ["c.png"] and not (result.folder / "val.json").exists()


def test_images_of_folders_are_parts_wherever_their_labels_are(tmp_path: Path) -> None:
    root = tmp_path / "voc"
    for seed, (part, name) in enumerate({"train2017": "a", "val2017": "b"}.items()):
        write_image(root / "JPEGImages" / part / f"{name}.png", (50, 60), seed=seed)
        written(root / "Annotations" / f"{name}.xml", voc_xml([DOG]))
    for file in (root / "JPEGImages").iterdir():
        file.rename(root / file.name)
    result = convert(root)
    assert list(result.boxes("train")) == ["a.png"] and list(result.boxes("val")) == ["b.png"]


def test_of_two_images_of_a_stem_the_named_one(tmp_path: Path) -> None:
    root = write_labelme(tmp_path / "labelme", [Picture("a.jpg", (50, 60), [DOG])])
    write_image(root / "a.png", (50, 60))
    assert convert(root).boxes() == {"a.jpg": [DOG], "a.png": []}


def test_of_two_images_of_a_name_the_nearest(tmp_path: Path) -> None:
    cat = ("cat", (1, 2, 3, 4))
    root = tmp_path / "labelme"
    for folder, label, size in (("one", DOG, (50, 60)), ("two", cat, (50, 61))):
        write_labelme(root / folder, [Picture("a.png", size, [label])])
    content = convert(root).content()
    classes = [row["category_id"] for row in content["annotations"]]
    heights = {row["id"]: row["height"] for row in content["images"]}
    owners = [heights[row["image_id"]] for row in content["annotations"]]
    assert dict(zip(classes, owners, strict=True)) == {2: 60, 1: 61}


def test_hidden_files_are_none(tmp_path: Path) -> None:
    """macOS puts a file of its own beside each that it copies to another disk."""
    root = write_voc(tmp_path / "voc", [Picture("a.png", (50, 60), [DOG])])
    for folder, name in (("JPEGImages", "._a.png"), ("Annotations", "._a.xml")):
        written(root / folder / name, "Mac OS X")
    result = convert(root)
    assert result.code == 0 and list(result.boxes()) == ["a.png"]


def test_yolo_classes_of_the_command_rename_those_of_the_source(tmp_path: Path) -> None:
    pictures = [Picture("a.png", (50, 60), [DOG])]
    root = write_yolo(tmp_path / "yolo", pictures, ["cat", "dog"])
    (tmp_path / "classes.txt").write_text("Katze\nHund\n")
    result = convert(root, "--classes", tmp_path / "classes.txt")
    assert [name for name, _ in result.boxes()["a.png"]] == ["Hund"]


def test_yolo_labels_lie_beside_the_nearest_images(tmp_path: Path) -> None:
    """A folder above them is called `images`, too."""
    root = write_yolo(tmp_path / "images" / "dogs", [Picture("a.png", (50, 60), [DOG])], ["dog"])
    assert [name for name, _ in convert(root).boxes()["a.png"]] == ["dog"]


def test_yolo_path_and_valid(tmp_path: Path) -> None:
    """`path` is the folder of the parts, though one of their name lies beside data.yaml, too."""
    root = tmp_path / "yolo"
    for seed, place in enumerate(("sub/one/a", "sub/two/b", "one/c")):
        write_image(root / f"{place}.png", (40, 40), seed=seed)
        (root / f"{place}.txt").write_text("0 .5 .5 .5 .5")
    (root / "data.yaml").write_text("path: sub\ntrain: one\nvalid: two\nnames: [dog]\n")
    result = convert(root)
    assert list(result.boxes("train")) == ["a.png"] and list(result.boxes("val")) == ["b.png"]


def test_yolo_images_of_two_parts_stay_in_the_first(tmp_path: Path) -> None:
    pictures = [Picture(f"{name}.png", (40, 40), [DOG]) for name in "abc"]
    root = write_yolo(tmp_path / "yolo", pictures, ["dog"])
    (root / "train.txt").write_text("a.png\nb.png\n")
    (root / "val.txt").write_text("b.png\nc.png\n")
    (root / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [dog]\n")
    result = convert(root)
    assert list(result.boxes("train")) == ["a.png", "b.png"]
    assert list(result.boxes("val")) == ["c.png"] and "b.png: train and val" in result.out


def test_yolo_names_are_those_nearest_to_the_root(tmp_path: Path) -> None:
    root = write_yolo(tmp_path / "yolo", [Picture("a.png", (40, 40), [DOG])], ["dog"])
    written(root / "an" / "older" / "data.yaml", "names: [cat]\n")
    assert [name for name, _ in convert(root).boxes()["a.png"]] == ["dog"]


def turned(file: Path) -> None:
    """50 x 60 as stored, which EXIF data turn to 60 x 50."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((60, 50, 3), np.uint8)).save(file, exif=exif)


def labelme_of_size(root: Path, size: tuple[int, int]) -> None:
    (root / "a.json").write_text(labelme_json("a.jpg", [DOG], size))


def coco_of_size(root: Path, size: tuple[int, int]) -> None:
    image = {"id": 1, "file_name": "a.jpg", "width": size[0], "height": size[1]}
    box = {"image_id": 1, "category_id": 1, "bbox": [9, 19, 21, 21]}
    write_coco(root, {
        "images": [image], "categories": [{"id": 1, "name": "dog"}], "annotations": [box],
    })  # fmt: skip


@pytest.mark.parametrize("write", [labelme_of_size, coco_of_size], ids=lambda f: f.__name__)
@pytest.mark.parametrize("size", [(50, 60), (60, 50)])
def test_the_declared_size_tells_whether_boxes_were_drawn_on_a_turned_image(
    write: Callable[[Path, tuple[int, int]], None], size: tuple[int, int], tmp_path: Path
) -> None:
    root = tmp_path / "source"
    root.mkdir()
    turned(root / "a.jpg")
    write(root, size)
    (row,) = convert(root).content()["images"]
    assert (row["width"], row["height"]) == size


def test_a_labelme_shape_without_a_type_is_a_polygon(tmp_path: Path) -> None:
    """As the first versions wrote them."""
    write_images(tmp_path / "labelme", [Picture("a.png", (50, 60))])
    shape = {"label": "dog", "points": [[9, 19], [30, 25], [12, 40]]}
    (tmp_path / "labelme" / "a.json").write_text(json.dumps({"shapes": [shape]}))
    assert convert(tmp_path / "labelme").boxes() == {"a.png": [DOG]}


def test_boxes_are_clipped_on_all_sides(tmp_path: Path) -> None:
    write_images(tmp_path / "csv", [Picture("a.png", (50, 40))])
    (tmp_path / "csv" / "labels.csv").write_text("a.png,-5,-6,60,55,dog\n")
    result = convert(tmp_path / "csv")
    assert result.boxes() == {"a.png": [("dog", (0, 0, 50, 40))]} and "clipped" in result.out


CATEGORIES = [
    {"id": 5, "name": "cat", "supercategory": "pets"},
    {"id": 2, "name": "pets"},
    {"id": 10, "name": "dog", "supercategory": "pets"},
]


def test_coco_classes_are_in_the_order_of_their_ids(tmp_path: Path) -> None:
    """2, 5, 10; a class that groups others stays if it has a box; its area ends with the image."""
    rows = [{"image_id": 1, "category_id": 2, "bbox": [40, 30, 20, 20], "area": 300}]
    content = {
        "images": [{"id": 1, "file_name": "a.png"}], "categories": CATEGORIES, "annotations": rows,
    }  # fmt: skip
    result = convert(write_coco(tmp_path / "coco", content, [Picture("a.png", (50, 40))]))
    assert [row["name"] for row in result.content()["categories"]] == ["pets", "cat", "dog"]
    assert result.boxes() == {"a.png": [("pets", (40, 30, 50, 40))]}
    assert result.content()["annotations"][0]["area"] == 100


def test_ignored_boxes_are_not_in_the_table(tmp_path: Path) -> None:
    """Of a class with three boxes, of which one is difficult."""
    root = write_voc(tmp_path / "voc", [Picture("a.png", (50, 60), [DOG, DOG])])
    text = voc_xml([DOG], more="<difficult>1</difficult>")
    write_image(root / "JPEGImages" / "b.png", (50, 60), seed=1)
    (root / "Annotations" / "b.xml").write_text(text)
    (line,) = [line for line in convert(root).out.splitlines() if line.startswith("  dog")]
    assert line.split() == ["dog", "2"]
