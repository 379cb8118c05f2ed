"""data/fruit.py: pictures of fruit in Pascal VOC's layout."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import load_script
from PIL import Image

from detector.errors import InputError

fruit = load_script(Path(__file__).parents[1] / "data" / "fruit.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("data") / "fruit"
    assert fruit.main(["--output", str(output), "--images", "24", "--seed", "3"]) == 0
    return output


def objects(file: Path) -> list[tuple[str, list[int], str]]:
    """Name, corners as written, difficult."""
    keys = ("xmin", "ymin", "xmax", "ymax")
    return [
        (
            str(item.findtext("name")),
            [int(item.findtext(f"bndbox/{key}") or 0) for key in keys],
            str(item.findtext("difficult")),
        )
        for item in ElementTree.parse(file).iter("object")
    ]


def test_each_picture_has_its_label_file(folder: Path) -> None:
    pictures = sorted(path.stem for path in (folder / "JPEGImages").iterdir())
    assert pictures == [f"{index:04d}" for index in range(1, 25)]
    assert sorted(path.stem for path in (folder / "Annotations").iterdir()) == pictures
    assert not objects(folder / "Annotations" / "0020.xml")  # every twentieth has none


def test_corners_count_from_one_and_lie_in_the_picture(folder: Path) -> None:
    sizes, classes = set(), set()
    for file in (folder / "Annotations").iterdir():
        with Image.open(folder / "JPEGImages" / f"{file.stem}.jpg") as image:
            sizes.add(image.size)
        stated = [int(ElementTree.parse(file).findtext(f"size/{k}")) for k in ("width", "height")]
        assert stated == ([0, 0] if int(file.stem) % 8 == 0 else list(image.size))
        for name, (x1, y1, x2, y2), _ in objects(file):
            classes.add(name)
            assert 1 <= x1 < x2 <= image.width and 1 <= y1 < y2 <= image.height
    assert len(sizes) > 2 and classes == {"apple", "banana", "orange"}


def test_a_box_is_tight_around_its_fruit() -> None:
    """The alpha of a sprite reaches all four sides of the box that it is pasted into."""
    rng = np.random.default_rng(0)
    for name in fruit.FRUIT:
        sprite = fruit.sprite(name, 90.0, rng)
        opaque = np.asarray(sprite.getchannel("A")) > 100
        assert max(sprite.size) == 90
        assert opaque[0].any() and opaque[-1].any() and opaque[:, 0].any() and opaque[:, -1].any()


def test_what_is_hidden_is_difficult() -> None:
    """The first lies under a quarter of the second: 50 x 100 of 200 x 100 pixels."""
    scene = Image.new("RGB", (400, 200))
    pair = [("apple", (0, 0, 200, 100)), ("orange", (150, 0, 350, 100))]
    root = fruit.label_file("a.jpg", scene, pair, sized=True)
    assert [item.findtext("difficult") for item in root.iter("object")] == ["1", "0"]
    assert [item.findtext("bndbox/xmin") for item in root.iter("object")] == ["1", "151"]
    assert [item.findtext("bndbox/xmax") for item in root.iter("object")] == ["200", "350"]


def test_a_picture_depends_on_seed_and_index_alone(folder: Path) -> None:
    scene, found = fruit.picture(fruit.photographs(), 3, 7)
    written = [
        (name, tuple(corners)) for name, corners, _ in objects(folder / "Annotations/0007.xml")
    ]
    assert [(name, (b[0] + 1, b[1] + 1, b[2], b[3])) for name, b in found] == written
    other, _ = fruit.picture(fruit.photographs(), 4, 7)
    assert scene.size != other.size or scene.tobytes() != other.tobytes()


@pytest.mark.parametrize("arguments", [["--images", "0"], ["--seed", "-1"]])
def test_wrong_arguments_are_refused(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(InputError, match=arguments[0]):
        fruit.main(["--output", str(tmp_path / "fruit"), *arguments])
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists"):
        fruit.main(["--output", str(tmp_path)])
