"""The images set aside for tuning, and an index of some of its images."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detector import build
from detector.config import Config
from detector.data.coco import CocoIndex
from detector.data.sampling import tuning_part
from detector.errors import InputError


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> CocoIndex:
    """40 images; image 3 n has n % 4 boxes, each with one or two labels."""
    folder = tmp_path_factory.mktemp("tuning")
    boxes = [(3 * n, b) for n in range(1, 41) for b in range(n % 4)]
    content = {
        "images": [
            {"id": 3 * n, "file_name": f"{n}.png", "width": 20, "height": 10 + n}
            for n in range(1, 41)
        ],
        "categories": [{"id": 1, "name": "a"}, {"id": 7, "name": "b"}],
        "annotations": [
            {"id": 100 + k, "image_id": i, "bbox": [b, b, 5 + b, 4], "area": 20, "iscrowd": 0,
             **({"category_ids": [1, 7]} if k % 3 == 0 else {"category_id": 1 if k % 2 else 7})}
            for k, (i, b) in enumerate(boxes)
        ],
    }  # fmt: skip
    for n in range(1, 41):
        Image.new("RGB", (20, 10 + n)).save(folder / f"{n}.png")
    (folder / "all.json").write_text(json.dumps(content))
    return CocoIndex.read(folder / "all.json", folder)


@settings(max_examples=30)
@given(chosen=st.lists(st.booleans(), min_size=40, max_size=40).filter(any))
def test_some_images_keep_all_that_is_theirs(index: CocoIndex, chosen: list[bool]) -> None:
    some = index.only(np.array(chosen))
    rows = np.flatnonzero(chosen)
    assert some.image_ids.tolist() == index.image_ids[rows].tolist()
    kept = []
    for new, old in enumerate(rows.tolist()):
        assert some.path(new) == index.path(old) and some.size(new) == index.size(old)
        for ours, theirs in zip(some.truth(new), index.truth(old), strict=True):
            assert ours.equal(theirs)
        kept += index.annotation_ids[slice(*index.box_offsets[old : old + 2])].tolist()
    assert some.annotation_ids.tolist() == kept and len(some.crowd) == len(kept)


def test_the_parts_are_apart_and_whole(index: CocoIndex) -> None:
    train, val = (tuning_part(index, 0.3, part) for part in ("train", "val"))
    assert sorted([*train.image_ids, *val.image_ids]) == index.image_ids.tolist()
    assert 5 <= len(val) <= 19  # 12 of 40 are expected, with a deviation of 2.9


def test_the_image_id_alone_decides(index: CocoIndex) -> None:
    val = tuning_part(index, 0.3, "val").image_ids
    fewer = index.only(np.arange(40) % 2 == 0)
    assert set(tuning_part(fewer, 0.3, "val").image_ids) == set(val) & set(fewer.image_ids)
    assert set(val) <= set(tuning_part(index, 0.5, "val").image_ids)


def test_no_image_is_left(index: CocoIndex) -> None:
    one = index.only(np.arange(40) == 0)
    aside, kept = (
        [part for part in ("train", "val") if not _empty(one, share, part)]
        for share in (1 - 1e-9, 1e-9)
    )
    assert (aside, kept) == (["val"], ["train"])


def _empty(index: CocoIndex, share: float, part: str) -> bool:
    try:
        tuning_part(index, share, part)
    except InputError as error:
        assert "of the 1 images" in str(error) and "data.tuning" in str(error)
        return True
    return False


def test_val_is_never_touched(index: CocoIndex) -> None:
    """data.val names nothing that exists."""
    data = {"train": {"images": str(index.images_dir), "annotations": str(index.annotations_file)},
            "val": {"images": "gone", "annotations": "gone.json"}, "tuning": 0.3}  # fmt: skip
    config = Config.model_validate_json(json.dumps({"data": data}))
    train, val = (build.data_index(config, part) for part in ("train", "val"))
    assert train.image_ids.tolist() == tuning_part(index, 0.3, "train").image_ids.tolist()
    assert val.image_ids.tolist() == tuning_part(index, 0.3, "val").image_ids.tolist()
    empty = Config.model_validate_json(json.dumps({"data": {"tuning": 0.3}}))
    with pytest.raises(InputError, match="data.train: images and annotations"):
        build.data_index(empty, "val")
