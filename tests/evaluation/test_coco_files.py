"""COCO files for evaluation: what is read, what is refused and in which words."""

import json

import numpy as np
import pytest

from detector.errors import InputError
from detector.evaluation import coco_files

EMPTY = {
    "images": [{"id": 1}, {"id": 2}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [],
}


def save(path, content):
    path.write_text(json.dumps(content))
    return path


GOOD = {"id": 7, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}


def truth_of(tmp_path, *annotations, only=None, **changes):
    content = EMPTY | {"annotations": list(annotations)} | changes
    return coco_files.load_ground_truth(save(tmp_path / "truth.json", content), only=only)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": []}, "'images' is empty"),
        ({"categories": None}, "'categories' is a NoneType"),
        ({"annotations": None}, "'annotations' is a NoneType"),
        ({"images": [{"id": "img_1"}]}, "image 'img_1' .* expected a whole number"),
        ({"images": [{"id": 2**53}]}, "expected a whole number within ±9007199254740991"),
        ({"images": [{"id": 1}, {"id": 1}]}, "image id 1 occurs 2 times"),
        ({"categories": [{"id": 1}]}, "category 1 .* has no 'name'"),
        ({"annotations": [GOOD, GOOD]}, "annotation id 7 occurs 2 times"),
        ({"annotations": [GOOD | {"image_id": 8}]}, "annotation 7 has image_id 8, .*'images'"),
        ({"annotations": [GOOD | {"category_id": 8}]}, "annotation 7 has category_id 8"),
        ({"annotations": [GOOD | {"category_ids": [1, 8]}]}, "annotation 7 has category_id 8"),
        ({"annotations": [GOOD | {"bbox": [1, 2, 3]}]}, r"annotation 7 .* has bbox \[1, 2, 3\]"),
        ({"annotations": [GOOD | {"bbox": [0, 0, float("nan"), 1]}]}, "nan, .* finite numbers"),
        ({"annotations": [GOOD | {"bbox": [0, 1e301, 1, 1]}]}, "1e.301, .* finite numbers"),
        ({"annotations": [GOOD | {"bbox": [0, 0, -1, 1]}]}, "not negative"),
        ({"annotations": [GOOD | {"bbox": [0, 0, 1e200, 1e200]}]}, "area inf, .* a finite number"),
        ({"annotations": [GOOD | {"bbox": None}]}, "annotation 7 has no box: .*null"),
        ({"annotations": [GOOD | {"area": "9"}]}, "annotation 7 .* has area '9'"),
        ({"annotations": ["box"]}, "entry 0 of 'annotations' is 'box'; expected an object"),
    ],
)
def test_wrong_ground_truth_is_named(tmp_path, change, says):
    path = save(tmp_path / "truth.json", EMPTY | change)
    with pytest.raises(InputError, match=says) as error:
        coco_files.load_ground_truth(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "cannot be read"), ("{", "not a JSON file"), ("[]", "holds a list")],
)
def test_files_that_are_no_data_set(tmp_path, text, says):
    path = tmp_path / "truth.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=says):
        coco_files.load_ground_truth(path)


def test_annotations_get_new_ids_and_what_they_lack(tmp_path):
    """9 x 9 = 81 where no area is given; each of two labels makes an annotation."""
    truth = truth_of(
        tmp_path,
        GOOD | {"id": 0, "area": None, "segmentation": [[1, 2]]},
        GOOD | {"id": 9, "area": 5.5, "iscrowd": True, "image_id": 2},
        {**GOOD, "id": 4, "category_ids": [3, 1, 3], "iscrowd": None, "category_id": 77},
        categories=[{"id": 3, "name": "dog", "supercategory": "x"}, {"id": 1, "name": "cat"}],
    )
    assert truth["images"] == [{"id": 1}, {"id": 2}]
    assert truth["categories"] == [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}]
    rows = [tuple(annotation.values()) for annotation in truth["annotations"]]
    assert list(truth["annotations"][0]) == [
        "id", "image_id", "category_id", "bbox", "area", "iscrowd"
    ]  # fmt: skip
    assert rows == [
        (1, 1, 1, [0, 0, 9, 9], 81, 0),
        (2, 2, 1, [0, 0, 9, 9], 5.5, 1),
        (3, 1, 3, [0, 0, 9, 9], 81, 0),
        (4, 1, 1, [0, 0, 9, 9], 81, 0),
    ]


def test_only_some_annotations(tmp_path):
    """What is left out may point nowhere or have no box."""
    wrong = GOOD | {"id": 8, "image_id": 99, "bbox": [0, 0, float("nan"), -1]}
    last = GOOD | {"id": 9, "bbox": [1, 2, 3, 4]}
    truth = truth_of(tmp_path, GOOD, wrong, last, only=np.array([9, 7]))
    assert [(a["id"], a["bbox"]) for a in truth["annotations"]] == [
        (1, [0, 0, 9, 9]), (2, [1, 2, 3, 4]),
    ]  # fmt: skip
    assert truth_of(tmp_path, GOOD, only=np.array([], np.int64))["annotations"] == []


@pytest.mark.parametrize("area", [-900, 0, float("nan"), float("inf")])
def test_areas_that_are_not_above_zero_are_replaced_and_counted(tmp_path, area):
    """9 x 9 = 81. The last is left out."""
    boxes = [GOOD | {"area": area}, GOOD | {"id": 8, "area": 5}, GOOD | {"id": 9, "area": area}]
    truth = truth_of(tmp_path, *boxes, only=np.array([7, 8]))
    assert [annotation["area"] for annotation in truth["annotations"]] == [81, 5]
    assert truth["areas_replaced"] == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32-le"])
def test_neither_file_must_be_in_utf_8(tmp_path, encoding):
    for name, content in (("truth.json", EMPTY), ("found.json", [FOUND])):
        (tmp_path / name).write_bytes(json.dumps(content).encode(encoding))
    truth = coco_files.load_ground_truth(tmp_path / "truth.json")
    assert truth["categories"] == EMPTY["categories"]
    assert coco_files.load_detections(tmp_path / "found.json", truth).shape == (1, 7)


FOUND = {"image_id": 2, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}


def test_detections_become_rows(tmp_path):
    path = save(tmp_path / "found.json", [FOUND, FOUND | {"score": 1}])
    rows = coco_files.load_detections(path, EMPTY)
    assert rows.tolist() == [[2, 1, 2, 3, 4, 0.5, 1], [2, 1, 2, 3, 4, 1, 1]]


def test_ids_of_detections_written_as_text(tmp_path):
    text = FOUND | {"image_id": "2", "category_id": "1", "file_name": "b.jpg"}
    truth = EMPTY | {"images": [{"id": 1}, {"id": 2, "file_name": "b.jpg"}]}
    rows = coco_files.load_detections(save(tmp_path / "found.json", [text]), truth)
    assert rows.tolist() == [[2, 1, 2, 3, 4, 0.5, 1]]


def test_an_empty_result_file_is_fine(tmp_path):
    assert coco_files.load_detections(save(tmp_path / "found.json", []), EMPTY).shape == (0, 7)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_id": "img_2"}, "detection 1: 'image_id' should be a whole number.*'img_2'"),
        ({"image_id": 2.5}, "detection 1: 'image_id' should be a whole number"),
        ({"image_id": 10**400}, "detection 1: 'image_id' should be a whole number"),
        ({"category_id": None}, "detection 1: 'category_id' .* found no such key"),
        ({"image_id": 3}, "detection 1 has image_id 3, which is not among the images"),
        ({"category_id": 4}, "detection 1 has category_id 4, which is not among the categories"),
        ({"score": float("nan")}, "detection 1: 'score' should be a finite number; found nan"),
        ({"score": None}, "detection 1: 'score' should be a finite number; found no such key"),
        ({"score": "0.5"}, "detection 1: 'score' should be a finite number; found '0.5'"),
        ({"bbox": [0, 0, float("inf"), 1]}, "detection 1: 'bbox' should be a finite number"),
        ({"bbox": [0, 0, 10**400, 1]}, "detection 1: 'bbox' should be a finite number"),
        ({"bbox": None}, "detection 1 has bbox None"),
        ({"bbox": [0, 0, 1, -1]}, "detection 1 has bbox .* must not be negative"),
    ],
)
def test_wrong_detections_are_named(tmp_path, change, says):
    path = save(tmp_path / "found.json", [FOUND, FOUND | change])
    with pytest.raises(InputError, match=says):
        coco_files.load_detections(path, EMPTY)


def test_detections_must_be_a_list(tmp_path):
    with pytest.raises(InputError, match="found a JSON object"):
        coco_files.load_detections(save(tmp_path / "found.json", EMPTY), EMPTY)


def test_a_detection_that_names_another_file_than_its_image_id(tmp_path):
    truth = {
        "images": [{"id": 1, "file_name": "val/a.jpg"}, {"id": 2}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [],
    }
    entry = {"category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}
    file = tmp_path / "found.json"
    right = [{**entry, "image_id": 1, "file_name": "a.jpg"}, {**entry, "image_id": 2}]
    file.write_text(json.dumps(right))
    assert len(coco_files.load_detections(file, truth)) == 2
    file.write_text(json.dumps([*right, {**entry, "image_id": 1, "file_name": "z/b.jpg"}]))
    with pytest.raises(
        InputError, match=r"detection 2 of z/b\.jpg has image_id 1, which is val/a\.jpg"
    ):
        coco_files.load_detections(file, truth)


def test_a_file_name_is_a_text(tmp_path):
    entry = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5, "file_name": 7}
    file = save(tmp_path / "found.json", [entry])
    with pytest.raises(InputError, match="detection 0 has the file_name 7.*text"):
        coco_files.load_detections(file, EMPTY | {"images": [{"id": 1, "file_name": "7.jpg"}]})


@pytest.mark.parametrize(
    ("annotated", "given", "same"),
    [
        ("film_a/0001.jpg", "/data/film_a/0001.jpg", True),
        ("film_a/0001.jpg", "/data/film_b/0001.jpg", False),
        ("film_a/0001.jpg", "0001.jpg", False),  # film_b has one, too
        ("film_a/only.jpg", "only.jpg", True),
        ("film_a/0001.jpg", "C:\\data\\film_a\\0001.jpg", True),
        ("film_a\\0001.jpg", "data/film_a/0001.jpg", True),
        ("0001.jpg", "data/film_b/0001.jpg", True),
        ("01.jpg", "data/0001.jpg", False),
        ("film_a/caf\u00e9.jpg", "data/film_a/cafe\u0301.jpg", True),
    ],
)
def test_the_image_of_a_detection_by_the_end_of_its_path(tmp_path, annotated, given, same):
    images = [{"id": 1, "file_name": annotated}, {"id": 2, "file_name": "film_b/0001.jpg"}]
    entry = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}
    file = save(tmp_path / "found.json", [entry | {"file_name": given}])
    if same:
        assert len(coco_files.load_detections(file, EMPTY | {"images": images})) == 1
    else:
        with pytest.raises(InputError, match="image_id 1"):
            coco_files.load_detections(file, EMPTY | {"images": images})
