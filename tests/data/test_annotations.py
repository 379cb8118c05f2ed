"""One annotation file in many spellings: what is read of each, and what is refused by both readers.

Values written out; a file of COCO's own form is read by msgspec, any other row by row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.data import document as reading
from detector.data.annotations import Annotations, _arrays, read_annotations
from detector.data.document import Document, read_document
from detector.errors import InputError
from detector.files import read_json

IMAGE = {"id": 30, "file_name": "a.jpg", "width": 100, "height": 80}
BOX = {"id": 7, "image_id": 30, "category_id": 9, "bbox": [10, 20, 30, 40], "area": 900.5}
CATEGORIES = [{"id": 9, "name": "dog"}, {"id": -2, "name": "cat"}]


def content(*boxes: dict[str, Any], **image: Any) -> dict[str, Any]:
    return {
        "images": [IMAGE | image],
        "annotations": [dict(box) for box in boxes],
        "categories": [dict(entry) for entry in CATEGORIES],
    }


def write(folder: Path, document: Any) -> Path:
    path = folder / "boxes.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def read(folder: Path, *boxes: dict[str, Any], **image: Any) -> Annotations:
    return read_annotations(write(folder, content(*boxes, **image)))


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read row by row."""
    paths: list[Path] = []
    careful = reading.row_by_row

    def seen(path: Path, document: Any) -> Any:
        paths.append(path)
        return careful(path, document)

    monkeypatch.setattr(reading, "row_by_row", seen)
    return paths


@pytest.mark.parametrize("ignored", ["of COCO's form", "row by row"])
def test_every_array(tmp_path: Path, rows_read: list[Path], ignored: str) -> None:
    """The second reader is chosen by a NaN, which JSON does not have, under a key nobody reads."""
    document = content(
        BOX | {"iscrowd": 1, "segmentation": [[1, 2]]},
        {"id": 5, "image_id": 31, "category_ids": [9, -2, 9], "bbox": [0.5, 1, 2, 3]},
    )
    if ignored == "row by row":
        document["info"] = math.nan
    arrays = read_annotations(write(tmp_path, document))
    assert len(rows_read) == (ignored == "row by row")
    assert {key: value.tolist() for key, value in vars(arrays).items()} == {
        "image_ids": [30], "file_names": ["a.jpg"], "sizes": [[80, 100]],
        "category_ids": [-2, 9], "category_names": ["cat", "dog"],
        "ids": [7, 5], "owners": [30, 31], "boxes": [[10, 20, 30, 40], [0.5, 1, 2, 3]],
        "areas": [900.5, 6], "area_replaced": [False, False], "crowd": [True, False],
        "label_offsets": [0, 1, 3], "label_ids": [9, 9, -2],
    }  # fmt: skip
    assert arrays.boxes.dtype == arrays.areas.dtype == np.float64
    assert arrays.sizes.dtype == np.int32 and arrays.ids.dtype == np.int64


def test_every_array_without_annotations(tmp_path: Path) -> None:
    annotations = read(tmp_path)
    assert annotations.boxes.shape == (0, 4) and annotations.label_offsets.tolist() == [0]
    assert len(annotations.areas) == len(annotations.crowd) == len(annotations.label_ids) == 0


ODD = [
    None, "", 0, 1, 7, 7.0, 7.5, -7, "7", " 7", "7.0", "img_7", "٧", True, False, math.nan,
    math.inf, 2**53, -(2**63), 2**64, 10**400, "9" * 5000, [], [7], ["7"], [7, 7], [None] * 4,
    [1, 2, 3, 4], [1.5, 2, 3, 4], [1, 2, 3], [1, 2, 3, None], [1, 2, 3, "4"], [1, 2, 3, True],
    {}, "\ud800",
]  # fmt: skip
KEYS = [
    *[("images", key) for key in ("id", "file_name", "width", "height", "license")],
    *[("categories", key) for key in ("id", "name")],
    *[("annotations", key) for key in (*BOX, "category_ids", "iscrowd", "segmentation")],
]


def outcome(path: Path, reader: Callable[[Path], Document]) -> str:
    """The arrays, or the refusal."""
    try:
        return repr([array.tolist() for array in vars(_arrays(path, reader(path))).values()])
    except InputError as error:
        return str(error)


@pytest.mark.parametrize(("group", "key"), KEYS, ids=str)
def test_the_fast_reader_takes_no_more_and_nothing_else_than_the_rows(
    tmp_path: Path, group: str, key: str
) -> None:
    for value in [*ODD, "left out"]:
        document = content(BOX, BOX | {"id": 8, "iscrowd": 1})
        document[group][0] = {**document[group][0], key: value}
        if value == "left out":
            del document[group][0][key]
        path = write(tmp_path, document)
        by_rows = outcome(path, lambda path: reading.row_by_row(path, read_json(path)))
        assert outcome(path, read_document) == by_rows, value


@pytest.mark.parametrize(
    "change",
    [{"id": "7"}, {"image_id": "30"}, {"category_id": "9"}, {"category_ids": ["9"]}, {"id": 7.0}]
    + [{"iscrowd": "0"}, {"iscrowd": 0.0}, {"iscrowd": None}, {"image_id": " 30 "}],
)
def test_whole_numbers_written_as_text(tmp_path: Path, change: dict[str, Any]) -> None:
    annotations = read(tmp_path, BOX | change, id="30", width="100", height="080")
    assert (
        annotations.ids.tolist(),
        annotations.owners.tolist(),
        annotations.label_ids.tolist(),
    ) == (
        [7],
        [30],
        [9],
    )
    assert annotations.image_ids.tolist() == [30] and annotations.sizes.tolist() == [[80, 100]]
    assert not annotations.crowd.any()


@pytest.mark.parametrize("text", ["img_7", "7.5", "", "٧", "0x7", "7 8", "9" * 20, "9" * 5000])
@pytest.mark.parametrize("key", ["id", "image_id", "category_id"])
def test_other_texts_are_no_ids(tmp_path: Path, key: str, text: str) -> None:
    with pytest.raises(InputError, match=f"{key} '.*whole number"):
        read(tmp_path, BOX | {key: text})


@pytest.mark.parametrize("nothing", [None, "", 0, 0.0, "0"])
def test_sizes_that_the_file_does_not_have(tmp_path: Path, nothing: Any) -> None:
    assert read(tmp_path, height=nothing).sizes.tolist() == [[0, 100]]


@pytest.mark.parametrize("wrong", [-1, 2**31, 1.5, True, "wide", [], math.nan])
def test_sizes_that_are_none(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(InputError, match="image 30 .*width"):
        read(tmp_path, width=wrong)


@pytest.mark.parametrize("nothing", [None, [], [None] * 4])
def test_boxes_that_the_file_does_not_have(tmp_path: Path, nothing: Any) -> None:
    annotations = read(tmp_path, BOX | {"bbox": nothing}, BOX | {"id": 8})
    assert np.isnan(annotations.boxes[0]).all() and annotations.boxes[1].tolist() == [
        10,
        20,
        30,
        40,
    ]


@pytest.mark.parametrize("area", [-900, 0, -0.5, math.nan, math.inf, -math.inf])
def test_an_area_that_is_not_above_zero_is_width_times_height(tmp_path: Path, area: float) -> None:
    """30 x 40 = 1200; a missing one (the second) is none of the file's that was replaced."""
    annotations = read(
        tmp_path, BOX | {"area": area}, BOX | {"id": 8, "area": None}, BOX | {"id": 9}
    )
    assert annotations.areas.tolist() == [1200, 1200, 900.5]
    assert annotations.area_replaced.tolist() == [True, False, False]


def test_an_empty_box_has_the_area_zero_by_right(tmp_path: Path) -> None:
    annotations = read(tmp_path, BOX | {"bbox": [5, 5, 0, 0], "area": 0})
    assert annotations.areas.tolist() == [0] and not annotations.area_replaced.any()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings(tmp_path: Path, rows_read: list[Path], encoding: str) -> None:
    path = tmp_path / "boxes.json"
    document = json.dumps(content(BOX, file_name="café.jpg"), ensure_ascii=False)
    path.write_bytes(document.encode(encoding))
    assert read_annotations(path).file_names.tolist() == ["café.jpg"]
    assert not rows_read


@pytest.mark.parametrize("data", [b'{"images": "\xe9"}', b"\xff\xfe{", b"\x00\xd8", b""])
def test_bytes_that_are_no_text(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "boxes.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match="not a JSON file"):
        read_annotations(path)


@pytest.mark.parametrize("key", ["file_name", "name"])
def test_half_of_a_surrogate_pair_is_no_text(tmp_path: Path, key: str) -> None:
    document = content(BOX)
    document["images" if key == "file_name" else "categories"][0] |= {key: "a\ud83d.jpg"}
    with pytest.raises(InputError, match=rf"{key} 'a\\ud83d.jpg'.*surrogate"):
        read_annotations(write(tmp_path, document))
