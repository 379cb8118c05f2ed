"""What is refused, in one sentence and with nothing left, and what is left out and makes a 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import Command, Refused
from writers import (
    Picture,
    convert,
    labelme_json,
    write_coco,
    write_csv,
    write_image,
    write_images,
    write_labelme,
    write_voc,
    write_yolo,
)

from detector.config import load
from detector.data.coco import CocoIndex

DOG = ("dog", (9, 19, 30, 40))
TWO = [Picture("a.png", (50, 60), [DOG]), Picture("b.png", (60, 50), [DOG])]


def no_xml(root: Path) -> str:
    write_images(root, TWO)
    return "Pascal VOC: XML files"


def no_names(root: Path) -> str:
    write_yolo(root, TWO, ["dog"])
    (root / "data.yaml").unlink()
    return "--classes"


def index_beyond_the_names(root: Path) -> str:
    write_yolo(root, TWO, ["dog"])
    (root / "labels" / "b.txt").write_text("0 .5 .5 .1 .1\n1 .5 .5 .1 .1\n")
    return "labels/b.txt:2: found class 1, and there are 1 names"


def names_that_are_none(root: Path) -> str:
    write_yolo(root, TWO, ["dog"])
    (root / "data.yaml").write_text("names: {0: dog, 2: cat}")
    return "data.yaml: 'names' has the keys [0, 2]"


def yaml_that_is_none(root: Path) -> str:
    write_yolo(root, TWO, ["dog"])
    (root / "data.yaml").write_text("names: [dog")
    return "data.yaml: this is not a YAML file"


def a_part_that_is_not_there(root: Path) -> str:
    write_yolo(root, TWO, ["dog"])
    (root / "data.yaml").write_text("names: [dog]\ntrain: images\nval: nowhere\n")
    return "data.yaml: val: nowhere: there is no such folder"


def a_part_that_lies_elsewhere(root: Path) -> str:
    write_yolo(root, TWO, ["dog"])
    write_image(root.parent / "far" / "c.png", (20, 30))
    (root / "data.yaml").write_text("names: [dog]\ntrain: images\nval: ../far\n")
    return "name the folder of all images by --images"


def csv_number(root: Path) -> str:
    write_csv(root, TWO)
    (root / "labels.csv").write_text("a.png,1,2,3,4,dog\na.png,1,2,three,4,dog\n")
    return "labels.csv:2: found 'three', expected a number"


def csv_of_a_folder_that_is_not_there(root: Path) -> str:
    """Else the boxes of other/a.png would go to the only a.png that there is."""
    write_csv(root, TWO)
    (root / "labels.csv").write_text("a.png,1,2,3,4,dog\nother/a.png,1,2,3,4,dog\n")
    return "labels.csv:2: 'other/a.png' and 'a.png' would both be"


def fractions_for_pixels(root: Path) -> str:
    write_csv(root, TWO)
    (root / "labels.csv").write_text("a.png,.1,.2,.3,1,dog\nb.png,0,.2,.3,.4,dog\n")
    return "labels.csv:1: this box and all others lie within 0 to 1"


def fractions_in_voc(root: Path) -> str:
    write_voc(root, [Picture("a.png", (50, 60), [("dog", (-0.9, -0.5, 0.5, 1.0))])])
    return "a.xml: object 1: this box and all others"


def csv_nan(root: Path) -> str:
    write_csv(root, TWO)
    (root / "labels.csv").write_text("a.png,1,2,nan,4,dog\n")
    return "labels.csv:1: found 'nan'"


def csv_without_a_class(root: Path) -> str:
    write_csv(root, TWO)
    (root / "labels.csv").write_text("path,x1,y1,x2,y2,class\na.png,1,2,3,4,\n")
    return "labels.csv:2: there is no class"


def csv_of_widths(root: Path) -> str:
    write_csv(root, TWO)
    (root / "labels.csv").write_text("image,x,y,width,height,label\na.png,1,2,3,4,dog\n")
    return "labels.csv:1: found image, x, y, width"


def csv_of_five(root: Path) -> str:
    write_csv(root, TWO)
    (root / "labels.csv").write_text("a.png,1,2,3,4,dog\na.png,1,2,3,4\n")
    return "labels.csv:2: found 5 values, expected 6"


def corners_in_coco(root: Path) -> str:
    """40 + 48 is beyond 50 pixels, and from 40 to 48 is not."""
    write_coco(root, {
        "images": [{"id": 1, "file_name": "a.png", "width": 50, "height": 60}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [40, 10, 48, 20]}],
    }, TWO)  # fmt: skip
    return "labels.json: bbox seems to be x1, y1, x2, y2"


def several_classes_of_a_box(root: Path) -> str:
    write_coco(root, {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_ids": [1], "bbox": [1, 1, 8, 9]}],
    }, TWO)  # fmt: skip
    return "annotation at index 0 has category_ids"


def coco_entry(root: Path, **annotation: object) -> None:
    write_coco(root, {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": 1, **annotation}],
    }, TWO)  # fmt: skip


def segmentation_of_a_number(root: Path) -> str:
    coco_entry(root, segmentation=5)
    return "segmentation is 5; expected x, y"


def segmentation_of_polygon_and_number(root: Path) -> str:
    coco_entry(root, segmentation=[[1, 2, 3, 4, 5, 6], 5])
    return "segmentation is [[1, 2, 3, 4, 5, 6], 5]; expected x, y"


def mask_of_negative_runs(root: Path) -> str:
    coco_entry(root, segmentation={"size": [60, 50], "counts": [-1, 5]})
    return "expected a mask's size and counts"


def number_beyond_floats(root: Path) -> str:
    coco_entry(root, bbox=[10**400, 2, 3, 4])
    return "bbox: found 1000"


def coco_class_without_a_name(root: Path) -> str:
    write_coco(root, {"images": [], "categories": [{"id": 1, "name": " "}]}, TWO)
    return "entry 0 of 'categories'"


def json_too_deep(root: Path) -> str:
    write_images(root, TWO)
    (root / "labels.json").write_text("[" * 100_000)
    return "no labels of a known format"


def yaml_date_that_is_none(root: Path) -> str:
    write_yolo(root, TWO, ["dog"])
    (root / "data.yaml").write_text("names: [dog]\ndate: 2024-13-45\n")
    return "data.yaml: this is not a YAML file: month must be in 1..12"


def yaml_name_too_long(root: Path) -> str:
    write_yolo(root, TWO, ["dog"])
    (root / "data.yaml").write_text(f"names: [dog]\ntrain: {'a' * 5000}\n")
    return "there is no such folder"


def yaml_class_without_a_name(root: Path) -> str:
    write_yolo(root, TWO, ["dog"])
    (root / "data.yaml").write_text("names: [' ']")
    return "data.yaml: 'names' is [' ']"


def coco_without_a_list(root: Path) -> str:
    write_coco(root, {"images": [], "annotations": 3}, TWO)
    return "'annotations' is 3"


def image_id_twice(root: Path) -> str:
    images = [{"id": 1, "file_name": "a.png"}, {"id": "1", "file_name": "b.png"}]
    write_coco(root, {"images": images}, TWO)
    return "image 1: this id occurs twice"


def image_twice_in_coco(root: Path) -> str:
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "./a.png"}]
    write_coco(root, {"images": images}, TWO)
    return "a.png: this image is labelled twice"


def image_twice_in_voc(root: Path) -> str:
    write_voc(root, TWO)
    (root / "Annotations" / "a2.xml").write_text(
        "<annotation><filename>a.png</filename></annotation>"
    )
    return "a.png: this image is labelled twice, by"


def two_images_for_a_label(root: Path) -> str:
    write_voc(root, TWO)
    write_image(root / "JPEGImages" / "a.jpg", (20, 30))
    return "a.xml: its image may be"


def two_parts_in_voc(root: Path) -> str:
    write_voc(root, TWO)
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("b\n")
    return "image 'b' is in train, too"


def some_in_no_part(root: Path) -> str:
    write_labelme(root, TWO)
    write_labelme(root / "train", [Picture("c.png", (20, 30), [DOG])])
    return "a.png: this image is in no part"


def two_formats(root: Path) -> str:
    write_voc(root, TWO)
    (root / "labels.csv").write_text("a.png,1,2,3,4,dog\n")
    return "--format voc or csv"


def csv_in_two_parts(root: Path) -> str:
    write_images(root, TWO)
    (root / "train.csv").write_text("a.png,1,2,3,4,dog\n")
    (root / "val.csv").write_text("a.png,1,2,3,4,dog\n")
    return "val.csv:1: "


def no_box_at_all(root: Path) -> str:
    write_voc(root, [Picture("a.png", (50, 60))])
    return "there is not one box to convert, in 1 images"


def all_labels_without_image(root: Path) -> str:
    write_voc(root, TWO)
    for file in (root / "JPEGImages").iterdir():
        file.rename(file.with_name(f"renamed_{file.name}"))
    return "a.xml: no such image"


def no_image_at_all(root: Path) -> str:
    write_voc(root, TWO)
    (root / "JPEGImages").rename(root.parent / "photographs")
    return "--images DIR"


WRONG = [
    no_xml, no_names, index_beyond_the_names, names_that_are_none, yaml_that_is_none,
    a_part_that_is_not_there, a_part_that_lies_elsewhere, csv_number, csv_nan, csv_without_a_class,
    csv_of_widths, csv_of_five, corners_in_coco, several_classes_of_a_box, coco_without_a_list,
    segmentation_of_a_number, segmentation_of_polygon_and_number, mask_of_negative_runs,
    csv_of_a_folder_that_is_not_there, fractions_for_pixels, fractions_in_voc,
    number_beyond_floats, coco_class_without_a_name, json_too_deep, yaml_date_that_is_none,
    yaml_name_too_long, yaml_class_without_a_name, image_id_twice,
    image_twice_in_coco, image_twice_in_voc, two_images_for_a_label, two_parts_in_voc,
    some_in_no_part, csv_in_two_parts, two_formats, no_box_at_all, all_labels_without_image,
    no_image_at_all,
]  # fmt: skip


@pytest.mark.parametrize("make", WRONG, ids=lambda make: make.__name__)
def test_refused(make: Callable[[Path], str], refused: Refused, tmp_path: Path) -> None:
    expected = make(tmp_path / "source")
    said = refused("convert", tmp_path / "source", "--to", tmp_path / "out")
    assert expected in said.err and said.out == ""
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".", "out"))]


OPTIONS = {
    ("--split", "0"): "--split is 0.0",
    ("--split", "1.5"): "--split is 1.5",
    ("--split", "nan"): "--split is nan",
    ("--seed", "-1"): "--seed is -1",
    ("--format", "yolo"): "there are no labels of YOLO",
    ("--images", "/nowhere"): "--images /nowhere",
    ("--classes", "/nowhere.txt"): "/nowhere.txt: cannot be read",
    ("--split", "0.001"): "leaves no image for val",
}


@pytest.mark.parametrize("words", OPTIONS)
def test_options(words: tuple[str, str], refused: Refused, tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", TWO)
    said = refused("convert", root, "--to", tmp_path / "out", *words)
    assert OPTIONS[words] in said.err and not (tmp_path / "out").exists()


def test_a_source_that_is_not_there(refused: Refused, tmp_path: Path) -> None:
    said = refused("convert", tmp_path / "nothing", "--to", tmp_path / "out")
    assert "nothing: there is no such folder or file" in said.err


def test_nothing_is_overwritten(refused: Refused, tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", TWO)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train.json").write_text("mine")
    said = refused("convert", root, "--to", tmp_path / "out")
    assert "--to" in said.err and "--output" not in said.err
    assert (tmp_path / "out" / "train.json").read_text() == "mine"


def broken_xml(root: Path) -> str:
    write_voc(root, TWO)
    (root / "Annotations" / "b.xml").write_text("<annotation>\n<object>")
    return "b.xml: this is not a whole XML file: no element found: line 2, column 8"


def xml_number(root: Path) -> str:
    write_voc(root, TWO)
    file = root / "Annotations" / "b.xml"
    file.write_text(file.read_text().replace("<ymin>20<", "<ymin>twenty<"))
    return "b.xml: object 1, <bndbox>: found 'twenty'"


def xml_without_a_box(root: Path) -> str:
    write_voc(root, TWO)
    (root / "Annotations" / "b.xml").write_text(
        "<annotation><object><name>dog</name></object></annotation>"
    )
    return "b.xml: object 1 has no <bndbox>"


def xml_of_another_kind(root: Path) -> str:
    write_voc(root, TWO)
    (root / "Annotations" / "b.xml").write_text("<annotations/>")
    return "b.xml: it holds <annotations>"


def yolo_in_pixels(root: Path) -> str:
    write_yolo(root, TWO, ["dog"])
    (root / "labels" / "b.txt").write_text("0 25 30 10 10")
    return "b.txt:1: found 30, expected fractions"


def yolo_with_scores(root: Path) -> str:
    write_yolo(root, TWO, ["dog"])
    (root / "labels" / "b.txt").write_text("\n0 .5 .5 .1 .1 .9")
    return "b.txt:2: found 5 numbers after the class"


def yolo_by_names(root: Path) -> str:
    write_yolo(root, TWO, ["dog"])
    (root / "labels" / "b.txt").write_text("dog .5 .5 .1 .1")
    return "b.txt:1: found 'dog', expected a number"


def labelme_points(root: Path) -> str:
    write_labelme(root, TWO)
    (root / "b.json").write_text(labelme_json("b.png", [DOG]).replace("[[30", "[[true"))
    return "b.json: shape 1: found True"


def labelme_without_a_class(root: Path) -> str:
    write_labelme(root, TWO)
    (root / "b.json").write_text(labelme_json("b.png", [(" ", DOG[1])]))
    return "b.json: shape 1 is"


def labelme_cut_off(root: Path) -> str:
    write_labelme(root, TWO)
    (root / "b.json").write_text('{"shapes": [')
    return "b.json: this is not a JSON file"


def broken_image(root: Path) -> str:
    write_voc(root, TWO)
    (root / "JPEGImages" / "b.png").write_text("not an image")
    return "b.png: this is not a whole, readable image"


def image_name_of_another_encoding(root: Path) -> str:
    """Training refuses a file with such a name in it."""
    write_voc(root, TWO)
    for file in (root / "JPEGImages" / "b.png", root / "Annotations" / "b.xml"):
        file.rename(file.with_stem("b\udcff"))
    return "b\udcff.png: its name is not UTF-8"


def label_without_image(root: Path) -> str:
    write_voc(root, TWO)
    (root / "JPEGImages" / "b.png").unlink()
    return "b.xml: no such image"


def text_without_image(root: Path) -> str:
    write_yolo(root, TWO, ["dog"])
    (root / "images" / "b.png").unlink()
    return "b.txt: no such image"


def row_without_image(root: Path) -> str:
    write_csv(root, TWO)
    (root / "b.png").unlink()
    return "labels.csv:2: 'b.png' is not in"


def coco_without_image(root: Path) -> str:
    rows = [{"image_id": i, "category_id": 1, "bbox": [1, 2, 3, 4]} for i in (1, 2)]
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "c.png"}]
    categories = [{"id": 1, "name": "dog"}]
    write_coco(root, {"images": images, "categories": categories, "annotations": rows}, TWO)
    return "image 2: 'c.png' is not in"


FAULTS = [
    broken_xml, xml_number, xml_without_a_box, xml_of_another_kind, yolo_in_pixels,
    yolo_with_scores, yolo_by_names, labelme_points, labelme_without_a_class, labelme_cut_off,
    broken_image, image_name_of_another_encoding,
    label_without_image, text_without_image, row_without_image, coco_without_image,
]  # fmt: skip


@pytest.mark.parametrize("make", FAULTS, ids=lambda make: make.__name__)
def test_left_out_with_its_image(make: Callable[[Path], str], tmp_path: Path) -> None:
    """Kept as an image without objects, it would teach that its objects are background."""
    root = tmp_path / "source"
    expected = make(root)
    result = convert(root)
    assert result.code == 1 and list(result.boxes()) == ["a.png"]
    assert expected in result.out and "  1 " in result.out


def test_the_command_and_the_config(tool: Command, tmp_path: Path) -> None:
    """The snippet is a config's data, from the directory of the command; spaces and colons too."""
    root = write_yolo(tmp_path / "my set: 1", TWO, ["dog"])
    done = tool("convert", root, "--to", tmp_path / "out", "--split", "0.5")
    assert (done.returncode, done.stderr) == (0, "")
    snippet = (tmp_path / "out" / "data.yaml").read_text()
    assert snippet in done.stdout and yaml.safe_load(snippet).keys() == {"data"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "data.yaml", "train.json", "val.json",
    }  # fmt: skip
    config = tmp_path / "mine.yaml"
    config.write_text("base: [retinanet.yaml, out/data.yaml]\n")
    part = load(config).data.train
    assert len(CocoIndex.read(part.annotations, part.images)) == 1


def test_without_a_validation_part(tmp_path: Path) -> None:
    result = convert(write_labelme(tmp_path / "labelme", TWO))
    assert "--split 0.2" in result.out
    content = yaml.safe_load((result.folder / "data.yaml").read_text())
    assert list(content["data"]) == ["train"]
    json.loads((result.folder / "annotations.json").read_text())
