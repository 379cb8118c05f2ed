"""The split: each class in both parts, copies in one, the same for one seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from writers import Picture, convert, write_coco, write_image, write_images, write_voc

from detector.data.sampling import stratified
from detector.formats.split import groups_of_copies


def test_every_class_is_in_both_parts() -> None:
    """A fifth of 50, 10 and 5: 10, 2 and 1; a plain draw misses the rare one every third time."""
    classes = [{"common"}] * 50 + [{"rare"}] * 10 + [{"rarest"}] * 5
    for seed in range(20):
        train, val = stratified(classes, range(65), 0.2, seed)
        counts = Counter(name for index in val for name in classes[index])
        assert counts == {"common": 10, "rare": 2, "rarest": 1}
        assert sorted(train + val) == list(range(65))


def test_images_without_objects_are_split_too() -> None:
    train, val = stratified([set()] * 20 + [{"dog"}] * 20, range(40), 0.25, 3)
    assert len([index for index in val if index < 20]) == 5 == len(val) - 5


def test_several_classes_of_an_image() -> None:
    """Both are in all images with a, one of b alone: of 40 a and 60 b a quarter, give or take 1."""
    classes = [{"a", "b"}] * 40 + [{"b"}] * 20
    _, val = stratified(classes, range(60), 0.25, 0)
    counts = Counter(name for index in val for name in classes[index])
    assert abs(counts["a"] - 10) <= 1 and abs(counts["b"] - 15) <= 1


def test_the_rarest_class_goes_first() -> None:
    """Its two images have the common class as well, by which alone they might be in one part."""
    for seed in range(20):
        _, val = stratified([{"a common"}] * 10 + [{"a common", "rare"}] * 2, range(12), 0.5, seed)
        assert len([index for index in val if index >= 10]) == 1 and len(val) == 6


def test_where_both_parts_lack_the_same_the_emptier_one_gets_it() -> None:
    train, val = stratified([{name} for name in "abcdefghij"], range(10), 0.5, 0)
    assert len(train) == len(val) == 5


@given(
    groups=st.lists(st.integers(0, 9), min_size=2, max_size=30),
    seed=st.integers(0, 99),
    share=st.floats(0.05, 0.95),
)
def test_groups_stay_together(groups: list[int], seed: int, share: float) -> None:
    classes = [{"dog"} if index % 3 else {"cat", "dog"} for index in range(len(groups))]
    train, val = stratified(classes, groups, share, seed)
    assert sorted(train + val) == list(range(len(groups)))
    assert not {groups[index] for index in train} & {groups[index] for index in val}
    assert (train, val) == stratified(classes, groups, share, seed)


def test_the_seed_matters() -> None:
    draws = {tuple(stratified([{"dog"}] * 30, range(30), 0.5, seed)[1]) for seed in range(5)}
    assert len(draws) == 5


@pytest.fixture
def photograph(tmp_path: Path) -> Image.Image:
    """Waves: smooth, so that another compression changes it little, as it does photographs."""
    y, x = np.mgrid[:120, :200]
    waves = 127 + 60 * np.sin(x / 20) + 60 * np.cos(y / 15)
    return Image.fromarray(np.stack([waves, waves, waves], -1).astype(np.uint8))


def test_copies_are_of_one_group(photograph: Image.Image, tmp_path: Path) -> None:
    """By bytes, by another compression and by another size; not with an object of 1 % of it."""
    photograph.save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    photograph.save(tmp_path / "c.jpg", quality=70)
    photograph.resize((400, 240)).save(tmp_path / "d.png")
    pixels = np.array(photograph)
    pixels[40:56, 60:76] = 255
    Image.fromarray(pixels).save(tmp_path / "e.png")
    write_image(tmp_path / "f.png", (200, 120))
    a, b, c, d, e, f = groups_of_copies(sorted(tmp_path.glob("*.*")))
    assert a == b == c == d and len({a, e, f}) == 3


def test_a_small_faint_object_makes_another_image(tmp_path: Path) -> None:
    """One pixel of 16 x 16 differs by 40 levels, the mean of its 4 x 4 by 2.5."""
    pixels = np.full((160, 320), 100, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    pixels[40:50, 60:80] = 140
    Image.fromarray(pixels).save(tmp_path / "b.png")
    assert len(set(groups_of_copies(sorted(tmp_path.glob("*.png"))))) == 2


def test_deep_and_broken_images_are_no_copies(tmp_path: Path) -> None:
    """Pillow cuts 16 bits off at white, so all of them would look the same."""
    for index in (1, 2):
        pixels = np.full((20, 30), index * 3000, np.uint16)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        whole = write_image(tmp_path / f"broken_{index}.png", (40, 30), seed=index)
        whole.write_bytes(whole.read_bytes()[:200])
    groups = groups_of_copies(sorted(tmp_path.glob("*.png")))
    assert len(set(groups)) == 4


def test_a_split_of_files(tmp_path: Path) -> None:
    """The ids are one numbering, the categories the same, the boxes with their image."""
    pictures = [
        Picture(f"{index}.png", (30, 20 + index), [("dog", (0, 0, index + 1, 5))])
        for index in range(10)
    ]
    root = write_voc(tmp_path / "voc", pictures)
    (root / "JPEGImages" / "9.png").write_bytes((root / "JPEGImages" / "0.png").read_bytes())
    result = convert(root, "--split", "0.3")
    train, val = result.boxes("train"), result.boxes("val")
    assert len(val) == 3 and sorted([*train, *val]) == [picture.name for picture in pictures]
    assert {"0.png", "9.png"} <= set(train) or {"0.png", "9.png"} <= set(val)
    for name, ((_, box),) in {**train, **val}.items():
        assert box == (0, 0, int(name[0]) + 1, 5)
    ids = [row["id"] for part in ("train", "val") for row in result.content(part)["images"]]
    assert sorted(ids) == list(range(1, 11))
    assert result.content("train")["categories"] == result.content("val")["categories"]
    again = convert(root, "--split", "0.3", "--seed", "1")
    assert list(again.boxes("val")) != list(val)


def test_split_mixes_the_sources_own_parts(tmp_path: Path) -> None:
    for seed, part in enumerate(("train", "valid")):
        content = {
            "images": [{"id": i, "file_name": f"{part}{i}.png"} for i in range(4)],
            "categories": [{"id": 1, "name": "dog"}],
            "annotations": [
                {"image_id": i, "category_id": 1, "bbox": [1, 1, 5, 5]} for i in range(4)
            ],
        }
        folder = write_coco_part(tmp_path / "coco" / part, content)
        for i in range(4):
            write_image(folder / f"{part}{i}.png", (30, 20), seed=10 * seed + i)
    source = tmp_path / "coco"
    assert list(convert(source).boxes("val")) == [f"valid{i}.png" for i in range(4)]
    assert len(convert(source, "--split", "0.25").boxes("val")) == 2


def write_coco_part(folder: Path, content: dict[str, object]) -> Path:
    folder.mkdir(parents=True)
    return write_coco(folder, content)


def test_one_image_is_a_group_of_its_own(tmp_path: Path) -> None:
    write_images(tmp_path, [Picture("a.png", (30, 20))])
    assert groups_of_copies([tmp_path / "a.png"]) == [0]
