"""The index of hand-made annotation files; labels, boxes and sentences written out."""

from __future__ import annotations

import json
import math
import os
import pickle
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detector import build
from detector.config import parse
from detector.data import annotations, probe
from detector.data.coco import CocoIndex
from detector.data.images import read_image
from detector.engine.preflight import describe_data
from detector.errors import InputError


def document() -> dict[str, Any]:
    """Two images of 100 x 80, the first without boxes; category ids with a gap, out of order."""
    return {
        "images": [
            {"id": 30, "file_name": "a.jpg", "width": 100, "height": 80},
            {"id": 10, "file_name": "sub/b.jpg", "width": 100, "height": 80},
        ],
        "annotations": [
            {"id": 7, "image_id": 10, "category_id": 9, "bbox": [10, 20, 30, 40], "iscrowd": 0},
            {"id": 5, "image_id": 10, "category_id": 2, "bbox": [90, -5, 20, 25], "iscrowd": 1},
        ],
        "categories": [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat"}],
    }


def write(folder: Path, content: Any, *, missing: tuple[str, ...] = ()) -> Path:
    """The annotations file, and gray images of 100 x 80 that are not in `missing`."""
    images = content.get("images", []) if isinstance(content, dict) else []
    for image in images if isinstance(images, list) else []:
        name = image.get("file_name", "") if isinstance(image, dict) else ""
        if name and name not in missing and not os.path.isabs(name) and ".." not in name:
            (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (100, 80)).save(folder / "images" / name)
    (folder / "images").mkdir(exist_ok=True)
    path = folder / "boxes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_arrays(tmp_path: Path) -> None:
    """Labels by ascending category id, boxes x1 y1 x2 y2 clipped to 100 x 80, file order kept."""
    index = CocoIndex.read(write(tmp_path, document()), tmp_path / "images")
    assert index.image_ids.tolist() == [30, 10]
    assert index.category_ids.tolist() == [2, 9]
    assert index.category_names == ("cat", "dog")
    assert index.box_offsets.tolist() == [0, 0, 2]
    assert index.boxes.tolist() == [[10, 20, 40, 60], [90, 0, 100, 20]]
    assert index.annotation_ids.tolist() == [7, 5]
    assert index.label_values.tolist() == [1, 0]
    assert index.crowd.tolist() == [False, True]
    assert index.path(1) == tmp_path / "images" / "sub" / "b.jpg"
    assert index.size(0) == (80, 100)
    assert index.skipped == {}
    assert index.multi_label_annotation() is None


def test_truth_of_an_image_without_boxes(tmp_path: Path) -> None:
    truth = CocoIndex.read(write(tmp_path, document()), tmp_path / "images").truth(0)
    assert truth.boxes.shape == (0, 4) and truth.labels.shape == (0, 2)


def test_no_annotation_at_all(tmp_path: Path) -> None:
    content = document() | {"annotations": []}
    index = CocoIndex.read(write(tmp_path, content), tmp_path / "images")
    assert len(index) == 2 and index.boxes.shape == (0, 4)
    assert index.truth(1).boxes.shape == (0, 4)


def test_several_labels_on_one_box(tmp_path: Path) -> None:
    content = document()
    content["annotations"][1]["category_ids"] = [9, 2, 9]
    del content["annotations"][1]["category_id"]
    index = CocoIndex.read(write(tmp_path, content), tmp_path / "images")
    assert index.truth(1).labels.tolist() == [[False, True], [True, True]]
    assert index.multi_label_annotation() == (10, 5)


def spoil(content: dict[str, Any], group: str, entry: int, **changes: Any) -> dict[str, Any]:
    content[group][entry] |= changes
    return content


def without(content: dict[str, Any], group: str, entry: int, key: str) -> dict[str, Any]:
    del content[group][entry][key]
    return content


SKIPPABLE = {
    "unknown image": (spoil(document(), "annotations", 0, image_id=99), ["annotation 7", "99"]),
    "unknown category": (spoil(document(), "annotations", 0, category_id=4), ["annotation 7", "4"]),
    "no box": (
        spoil(document(), "annotations", 0, bbox=None),
        ["annotation 7", "null or empty", "image 10"],
    ),
    "box not finite": (
        spoil(document(), "annotations", 0, bbox=[math.nan, 0, 5, 5]),
        ["annotation 7", "nan", "image 10"],
    ),
    "box without area": (
        spoil(document(), "annotations", 0, bbox=[3, 4, 0, 5]),
        ["annotation 7", "[3, 4, 0, 5]", "image 10"],
    ),
    "box outside the image": (
        spoil(document(), "annotations", 0, bbox=[100, 0, 5, 5]),
        ["annotation 7", "[100, 0, 5, 5]", "image 10"],
    ),
}


@pytest.mark.parametrize("reason", SKIPPABLE)
def test_an_unusable_annotation(tmp_path: Path, reason: str) -> None:
    content, named = SKIPPABLE[reason]
    path = write(tmp_path, content)
    with pytest.raises(InputError) as caught:
        CocoIndex.read(path, tmp_path / "images", invalid="refuse")
    assert all(word in str(caught.value) for word in [str(path), reason, *named])
    index = CocoIndex.read(path, tmp_path / "images", invalid="skip")
    assert index.skipped == {reason: 1}
    assert index.annotation_ids.tolist() == [5] and index.box_offsets.tolist() == [0, 0, 1]
    assert index.label_values.tolist() == [0]


@pytest.mark.parametrize(
    "box", [[0, 0, -5, 5], [0, 0, 1e-12, 5], [0, 0, math.inf, 5], [0, 1e300, 1, 1]]
)
def test_other_useless_boxes(tmp_path: Path, box: list[float]) -> None:
    path = write(tmp_path, spoil(document(), "annotations", 0, bbox=box))
    assert CocoIndex.read(path, tmp_path / "images", invalid="skip").annotation_ids.tolist() == [5]


def test_many_of_a_kind_are_counted_and_the_first_named(tmp_path: Path) -> None:
    content = document()
    content["annotations"] = [
        {"id": i, "image_id": 10, "category_id": 2, "bbox": [0, 0, 0, 0]} for i in range(1, 13)
    ]
    with pytest.raises(InputError, match=r"12 annotations \(1, 2, 3, 4, 5, …\)"):
        CocoIndex.read(write(tmp_path, content), tmp_path / "images")


def test_a_missing_image_takes_its_boxes_along(tmp_path: Path) -> None:
    path = write(tmp_path, document(), missing=("sub/b.jpg",))
    with pytest.raises(InputError, match=r"boxes\.json: image 10: .*'sub/b\.jpg' is not in"):
        CocoIndex.read(path, tmp_path / "images")
    index = CocoIndex.read(path, tmp_path / "images", invalid="skip")
    assert index.skipped == {"missing image": 1}
    assert index.image_ids.tolist() == [30] and len(index.boxes) == 0


def test_missing_images_are_looked_for_at_every_read(tmp_path: Path) -> None:
    path = write(tmp_path, document())
    CocoIndex.read(path, tmp_path / "images")
    (tmp_path / "images" / "a.jpg").unlink()
    with pytest.raises(InputError, match="image 30"):
        CocoIndex.read(path, tmp_path / "images")


def unsized(*keys: str) -> dict[str, Any]:
    """The document, its second image without these keys."""
    content = document()
    for key in keys:
        content["images"][1][key] = None
    return content


@pytest.mark.parametrize("keys", [("width",), ("height",), ("width", "height")])
def test_a_size_that_is_not_annotated_is_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...]
) -> None:
    """100 x 80, to which the second box, 90 .. 110 x -5 .. 20, is clipped; remembered then."""
    path = write(tmp_path, unsized(*keys))
    for _ in range(2):
        index = CocoIndex.read(path, tmp_path / "images")
        monkeypatch.setattr(
            probe, "read_header", lambda *_: pytest.fail("the file was opened again")
        )
        assert index.sizes.tolist() == [[80, 100], [80, 100]] and index.sizes.dtype == np.int32
        assert index.boxes.tolist() == [[10, 20, 40, 60], [90, 0, 100, 20]]


def test_that_size_is_of_the_image_as_exif_turns_it(tmp_path: Path) -> None:
    """Stored as 100 x 80 and to be turned by 90 degrees, it is 80 wide and 100 high."""
    path = write(tmp_path, unsized("width", "height") | {"annotations": []})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (100, 80)).save(tmp_path / "images" / "sub" / "b.jpg", exif=exif)
    index = CocoIndex.read(path, tmp_path / "images")
    assert index.size(1) == (100, 80)
    assert read_image(index.path(1), index.size(1)).shape == (3, 100, 80)


def test_a_remembered_size_is_of_the_file_as_it_is_now(tmp_path: Path) -> None:
    path = write(tmp_path, unsized("width", "height"))
    CocoIndex.read(path, tmp_path / "images")
    Image.new("L", (50, 70)).save(tmp_path / "images" / "sub" / "b.jpg")
    content = unsized("width", "height") | {"annotations": []}
    path.write_text(json.dumps(content))
    assert CocoIndex.read(path, tmp_path / "images").size(1) == (70, 50)


def test_one_annotated_side_must_still_be_the_files(tmp_path: Path) -> None:
    path = write(tmp_path, spoil(unsized("width"), "images", 1, height=90))
    with pytest.raises(InputError, match="image 10: .*100 x 80.*100 x 90"):
        CocoIndex.read(path, tmp_path / "images")


@pytest.mark.parametrize("kind", ["missing image", "unreadable image"])
def test_no_size_anywhere(tmp_path: Path, kind: str) -> None:
    """Its boxes leave with it and are no defects of their own."""
    path = write(tmp_path, unsized("width", "height"), missing=("sub/b.jpg",))
    if kind == "unreadable image":
        (tmp_path / "images" / "sub").mkdir()
        (tmp_path / "images" / "sub" / "b.jpg").write_text("no image")
    with pytest.raises(InputError, match=r"image 10: .*b\.jpg(?!.*more kind)"):
        CocoIndex.read(path, tmp_path / "images")
    index = CocoIndex.read(path, tmp_path / "images", invalid="skip")
    assert index.skipped == {kind: 1} and index.image_ids.tolist() == [30]


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("annotated", ["NFC", "NFD"])
def test_accents_are_found_composed_or_not(tmp_path: Path, annotated: str, on_disk: str) -> None:
    """Folders made on a Mac hold e and an accent where the annotations have é."""
    name = "Été/café 가.jpg"
    content = document()
    content["images"][1]["file_name"] = unicodedata.normalize(annotated, name)
    path = write(tmp_path, content, missing=(content["images"][1]["file_name"],))
    stored = tmp_path / "images" / unicodedata.normalize(on_disk, name)
    stored.parent.mkdir()
    Image.new("L", (100, 80)).save(stored)
    index = CocoIndex.read(path, tmp_path / "images")
    assert index.path(1) == stored and len(index) == 2


def test_accents_of_class_names_are_composed(tmp_path: Path) -> None:
    """Train and val may spell them in two ways and still have the same classes."""
    content = document()
    content["categories"][0]["name"] = unicodedata.normalize("NFD", "café")
    index = CocoIndex.read(write(tmp_path, content), tmp_path / "images")
    assert unicodedata.normalize("NFC", "café") in index.category_names


def test_of_two_spellings_on_disk_the_annotated_one_is_taken(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD")]
    content = document()
    for image, name in zip(content["images"], names, strict=True):
        image["file_name"] = name
    index = CocoIndex.read(write(tmp_path, content), tmp_path / "images")
    assert index.file_names.tolist() == names


@pytest.mark.parametrize("name", ["é.jpg", "ü/é.jpg", "a.jpg/é.jpg"])
def test_a_name_that_is_not_there_in_any_spelling(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, spoil(document(), "images", 1, file_name=name), missing=(name,))
    with pytest.raises(InputError, match=f"image 10: file '{name}' is not in"):
        CocoIndex.read(path, tmp_path / "images")


def test_replaced_areas_are_counted_where_their_boxes_are_kept(tmp_path: Path) -> None:
    content = spoil(document(), "annotations", 0, area=-1200)
    content["annotations"].append(content["annotations"][0] | {"id": 8, "bbox": [0, 0, 0, 5]})
    index = CocoIndex.read(write(tmp_path, content), tmp_path / "images", invalid="skip")
    assert index.area_replaced.tolist() == [True, False]
    assert index.only(np.array([True, False])).area_replaced.tolist() == []
    assert "area not above 0: 1 boxes" in describe_data("train", index)


def test_boxes_by_class_leave_crowds_out(tmp_path: Path) -> None:
    """The dog counts; the cat is a crowd."""
    index = CocoIndex.read(write(tmp_path, document()), tmp_path / "images")
    assert index.boxes_per_class.tolist() == [0, 1]
    said = describe_data("train", index)
    assert "2 boxes (1 crowds)" in said and "cat 0, dog 1" in said and "area" not in said


@pytest.mark.parametrize("crowds", [(1, 1), (0, 0), ()])
def test_a_training_set_needs_a_box_that_is_no_crowd(
    tmp_path: Path, crowds: tuple[int, ...]
) -> None:
    """A validation set may do without."""
    content = document()
    content["annotations"] = [
        box | {"iscrowd": crowd} for box, crowd in zip(content["annotations"], crowds, strict=False)
    ]
    path = write(tmp_path, content)
    files = {"annotations": path, "images": tmp_path / "images"}
    config = parse(json.dumps({"data": {"train": files, "val": files}}, default=str), "a test")
    assert len(build.data_index(config, "val")) == 2
    if 0 in crowds:
        assert len(build.data_index(config, "train").boxes) == 2
        return
    with pytest.raises(InputError, match="nothing to learn") as caught:
        build.data_index(config, "train")
    assert ("2 crowds" in str(caught.value)) == (len(crowds) == 2)


@pytest.mark.parametrize("content", [b"", b"text", b"cut"])
def test_an_unreadable_image(tmp_path: Path, content: bytes) -> None:
    """Of b.jpg nothing, something else or the first half is left; it takes its two boxes along."""
    path = write(tmp_path, document())
    file = tmp_path / "images" / "sub" / "b.jpg"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content == b"cut" else content)
    with pytest.raises(InputError) as caught:
        CocoIndex.read(path, tmp_path / "images")
    message = str(caught.value)
    assert message.startswith(f"{path}: image 10: {file}: this is not a whole, readable image")
    assert message.endswith("; replace or remove it, or set data.invalid to skip.")
    index = CocoIndex.read(path, tmp_path / "images", invalid="skip")
    assert index.skipped == {"unreadable image": 1}
    assert index.image_ids.tolist() == [30] and len(index.boxes) == 0


def test_images_of_another_size(tmp_path: Path) -> None:
    """Both; 100 x 80 in the annotations, 80 x 100 without any EXIF, and 50 x 40."""
    path = write(tmp_path, document())
    Image.new("L", (80, 100)).save(tmp_path / "images" / "a.jpg")
    with pytest.raises(
        InputError, match=r"image 30: .*a\.jpg: the file is 80 x 100, but .* 100 x 80"
    ):
        CocoIndex.read(path, tmp_path / "images")
    index = CocoIndex.read(path, tmp_path / "images", invalid="skip")
    assert index.skipped == {"size differs": 1} and index.annotation_ids.tolist() == [7, 5]
    Image.new("L", (50, 40)).save(tmp_path / "images" / "sub" / "b.jpg")
    with pytest.raises(InputError, match=r"2 images \(30, 10\), the first: "):
        CocoIndex.read(path, tmp_path / "images")


def test_other_kinds_of_defect_are_counted(tmp_path: Path) -> None:
    content = document()
    for number, changes in enumerate([{"category_id": 4}, {"bbox": [100, 0, 5, 5]}] * 2):
        content["annotations"].append(content["annotations"][0] | {"id": 20 + number} | changes)
    del content["annotations"][-1]
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=r"to skip; 1 more kind of defect: box outside the image"):
        CocoIndex.read(path, tmp_path / "images")
    (tmp_path / "images" / "a.jpg").write_text("no image")
    with pytest.raises(InputError) as caught:
        CocoIndex.read(path, tmp_path / "images")
    assert str(caught.value).endswith(
        "; 2 more kinds of defect: unknown category (2), box outside the image (1)."
    )
    index = CocoIndex.read(path, tmp_path / "images", invalid="skip")
    assert index.skipped == {
        "unreadable image": 1, "unknown category": 2, "box outside the image": 1
    }  # fmt: skip


def test_not_one_image(tmp_path: Path) -> None:
    path = write(tmp_path, document(), missing=("a.jpg", "sub/b.jpg"))
    with pytest.raises(InputError, match="not one of its images in .* can be used"):
        CocoIndex.read(path, tmp_path / "images", invalid="skip")


def test_no_folder_of_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: there is no such folder"):
        CocoIndex.read(write(tmp_path, document()), tmp_path / "nowhere", invalid="skip")


def test_no_annotation_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: cannot be read \(No such"):
        CocoIndex.read(tmp_path / "none.json", tmp_path)


WRONG_FORM = [
    ("{", ["not a JSON file"]),
    ("[" * 100_000, ["not a JSON file"]),
    ("<annotation>", ["this is XML", "convert"]),
    ([], ["holds a list"]),
    (document() | {"images": []}, ["'images' is empty"]),
    (document() | {"categories": []}, ["'categories' is empty"]),
    (document() | {"images": {}}, ["'images' is a dict"]),
    ({"images": document()["images"], "categories": []}, ["'categories' is empty"]),
    ({"images": document()["images"]}, ["'categories' is missing"]),
    (document() | {"annotations": [3]}, ["entry 0 of 'annotations'"]),
    (spoil(document(), "images", 1, id=30), ["image id 30"]),
    (spoil(document(), "categories", 1, id=9), ["category id 9"]),
    (spoil(document(), "annotations", 1, id=7), ["annotation id 7"]),
    (spoil(document(), "images", 1, id="b"), ["image 'b'", "whole number"]),
    (spoil(document(), "images", 1, width=-1), ["image 10", "width -1"]),
    (spoil(document(), "annotations", 1, id=2**70), ["whole number"]),
    (spoil(document(), "images", 1, id=2**53), ["whole number", "9007199254740991"]),
    (spoil(document(), "categories", 1, id=-(2**53)), ["whole number", "9007199254740991"]),
    (spoil(document(), "annotations", 0, area="7"), ["annotation 7", "area '7'"]),
    (spoil(document(), "annotations", 0, area=10**400), ["annotation 7", "area 1000"]),
    (spoil(document(), "annotations", 0, bbox=[1, 2, 3]), ["annotation 7", "[1, 2, 3]"]),
    (spoil(document(), "annotations", 0, bbox=[1, 2, 3, None]), ["annotation 7", "None"]),
    (spoil(document(), "annotations", 0, bbox=[1, 2, 3, 10**400]), ["annotation 7"]),
    (spoil(document(), "annotations", 0, category_ids=[]), ["annotation 7", "category_ids []"]),
    (spoil(document(), "images", 0, file_name="/etc/passwd"), ["image 30", "/etc/passwd"]),
    (spoil(document(), "images", 0, file_name="x/../../b.jpg"), ["image 30", "x/../../b.jpg"]),
    (spoil(document(), "images", 0, file_name="C:\\b.jpg"), ["image 30", "leads out"]),
    (spoil(document(), "images", 0, file_name="..\\b.jpg"), ["image 30", "leads out"]),
    (without(document(), "images", 0, "file_name"), ["image 30", "no 'file_name'"]),
    (without(document(), "annotations", 1, "bbox"), ["annotation 5", "no 'bbox'"]),
    (without(document(), "annotations", 1, "id"), ["entry 1", "no 'id'"]),
    (without(document(), "annotations", 1, "image_id"), ["annotation 5", "no 'image_id'"]),
    (without(document(), "annotations", 1, "category_id"), ["annotation 5", "no 'category_id'"]),
    (without(document(), "categories", 1, "name"), ["category 2", "no 'name'"]),
]  # fmt: skip


@pytest.mark.parametrize(("content", "named"), WRONG_FORM, ids=[str(n) for _, n in WRONG_FORM])
@pytest.mark.parametrize("invalid", ["refuse", "skip"])
def test_a_file_of_the_wrong_form_is_always_refused(
    tmp_path: Path, content: Any, named: list[str], invalid: Any
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(InputError) as caught:
        CocoIndex.read(path, tmp_path / "images", invalid=invalid)
    assert all(word in str(caught.value) for word in [str(path), *named])


def test_the_cache_is_used_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, document())
    first = CocoIndex.read(path, tmp_path / "images")
    assert (tmp_path / ".boxes.index.npz").is_file()
    with monkeypatch.context() as patched:
        patched.setattr(
            annotations, "read_document", lambda _: pytest.fail("the file was parsed again")
        )
        again = CocoIndex.read(path, tmp_path / "images")
    assert again.boxes.tolist() == first.boxes.tolist()
    assert again.category_names == first.category_names
    write(tmp_path, spoil(document(), "annotations", 0, bbox=[1, 2, 3, 4]))
    assert CocoIndex.read(path, tmp_path / "images").boxes[0].tolist() == [1, 2, 4, 6]


def test_the_largest_ids_and_a_byte_order_mark(tmp_path: Path) -> None:
    content = spoil(document(), "images", 0, id=2**53 - 1)
    spoil(spoil(content, "categories", 0, id=1 - 2**53), "annotations", 0, id=2**62, image_id=10)
    spoil(content, "annotations", 0, category_id=1 - 2**53)
    path = write(tmp_path, "\ufeff" + json.dumps(content))
    for name in ("a.jpg", "sub/b.jpg"):
        (tmp_path / "images" / name).parent.mkdir(exist_ok=True)
        Image.new("L", (100, 80)).save(tmp_path / "images" / name)
    index = CocoIndex.read(path, tmp_path / "images")
    assert index.image_ids.tolist() == [2**53 - 1, 10]
    assert index.category_ids.tolist() == [1 - 2**53, 2]
    assert index.annotation_ids.tolist() == [2**62, 5]


@pytest.mark.parametrize("keep", [0, 100, 2000])
def test_half_a_cache_is_read_anew(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path, document())
    CocoIndex.read(path, tmp_path / "images")
    cache = tmp_path / ".boxes.index.npz"
    cache.write_bytes(cache.read_bytes()[:keep])
    assert len(CocoIndex.read(path, tmp_path / "images")) == 2


def test_where_the_folder_cannot_be_written_the_users_cache_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    path = write(tmp_path, document())
    (tmp_path / ".boxes.index.npz").mkdir()  # root may write everywhere, but not over a folder
    (tmp_path / ".boxes.index.npz" / "x").touch()
    CocoIndex.read(path, tmp_path / "images")
    assert len(list((tmp_path / "home" / "detector").iterdir())) == 1
    assert len(list(tmp_path.glob(".boxes.images-*.npz"))) == 1
    assert not list(tmp_path.glob("*.draft")) and not list(tmp_path.glob(".*.draft"))


def test_it_can_be_sent_to_a_spawned_worker(tmp_path: Path) -> None:
    index = CocoIndex.read(write(tmp_path, document()), tmp_path / "images")
    copy = pickle.loads(pickle.dumps(index))
    assert torch.equal(copy.truth(1).boxes, index.truth(1).boxes)
    assert copy.boxes.dtype == np.float32


def test_a_crowd_is_one_in_the_truth_of_its_image(tmp_path: Path) -> None:
    truth = CocoIndex.read(write(tmp_path, document()), tmp_path / "images").truth(1)
    assert truth.crowd.tolist() == [False, True]


def test_several_labels_on_the_first_box_of_an_image(tmp_path: Path) -> None:
    """Each of the two images has a box; that of the second has two labels."""
    content = document()
    content["annotations"][0]["image_id"] = 30
    content["annotations"][1]["category_ids"] = [9, 2]
    index = CocoIndex.read(write(tmp_path, content), tmp_path / "images")
    assert index.multi_label_annotation() == (10, 5)
