"""COCO files for evaluation: what is read, what is refused and in which words."""

import json

import pytest

from detector.errors import InputError
from detector.evaluation import coco

EMPTY = {
    "images": [{"id": 1}, {"id": 2}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [],
}


def save(path, content):
    path.write_text(json.dumps(content))
    return path


GOOD = {"id": 7, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": []}, "'images' should be a list of at least one; found an empty list"),
        ({"categories": None}, "'categories' should be a list of at least one; found nothing"),
        ({"annotations": None}, "'annotations' should be a list"),
        ({"images": [{"id": "1"}]}, r"images\[0\] has the id '1'; expected an integer"),
        ({"images": [{"id": 1}, {"id": 1}]}, "two of the images have the id 1"),
        ({"categories": [{"id": 1}]}, "category 1 has the name None"),
        ({"annotations": [GOOD | {"image_id": 8}]}, "annotation 7 has image_id 8"),
        ({"annotations": [GOOD | {"category_id": 8}]}, "annotation 7 has category_id 8"),
        ({"annotations": [GOOD | {"bbox": [1, 2, 3]}]}, r"annotation 7 has bbox \[1, 2, 3\]"),
        ({"annotations": [GOOD | {"bbox": [0, 0, float("nan"), 1]}]}, "finite number; found nan"),
        ({"annotations": [GOOD | {"bbox": [0, 0, -1, 1]}]}, "must not be negative"),
        ({"annotations": ["box"]}, r"annotations\[0\] should be an object"),
    ],
)
def test_wrong_ground_truth_is_named(tmp_path, change, says):
    path = save(tmp_path / "truth.json", EMPTY | change)
    with pytest.raises(InputError, match=says) as error:
        coco.load_ground_truth(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"), [(None, "cannot be read"), ("{", "is not JSON"), ("[]", "found a JSON list")]
)
def test_files_that_are_no_data_set(tmp_path, text, says):
    path = tmp_path / "truth.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=says):
        coco.load_ground_truth(path)


FOUND = {"image_id": 2, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}


def test_detections_become_rows(tmp_path):
    path = save(tmp_path / "found.json", [FOUND, FOUND | {"score": 1}])
    rows = coco.load_detections(path, EMPTY)
    assert rows.tolist() == [[2, 1, 2, 3, 4, 0.5, 1], [2, 1, 2, 3, 4, 1, 1]]


def test_an_empty_result_file_is_fine(tmp_path):
    assert coco.load_detections(save(tmp_path / "found.json", []), EMPTY).shape == (0, 7)


@pytest.mark.parametrize(
    ("change", "says"),
    [
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
        coco.load_detections(path, EMPTY)


def test_detections_must_be_a_list(tmp_path):
    with pytest.raises(InputError, match="found a JSON object"):
        coco.load_detections(save(tmp_path / "found.json", EMPTY), EMPTY)
