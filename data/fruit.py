"""Make a small data set in Pascal VOC's layout without a network: painted fruit on photographs.

As people's own label folders are: pictures of several sizes, some without an object, one XML file
a picture, corners counted from 1, sizes of 0 x 0 in some files, difficult objects. Picture i
depends on the seed and i alone. Photographs: `sklearn.datasets.load_sample_images`, of the package.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from detector.errors import InputError, exit_codes

Pixels = NDArray[np.float64]
Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels, from 0

SIDE = 224  # of a painted fruit, before it is scaled
SIZES = ((640, 480), (480, 640), (600, 400), (500, 500))  # width, height of the pictures
SHARE = (0.12, 0.55)  # a fruit's longer side, of the picture's shorter one
OVERLAP = 0.35  # of the smaller box
HIDDEN = 0.2  # of an object's box under later ones: from here on it is `difficult`
EMPTY = 20  # every so many-th picture has no object
UNSIZED = 8  # every so many-th XML file says that the picture has 0 x 0 pixels
LIGHT = np.array([-0.45, -0.6, 0.66])  # where it comes from: x, y, towards the eye
TRIES = 40  # positions and sizes tried for one fruit


def grid() -> tuple[Pixels, Pixels]:
    """x, y of a fruit's pixels (SIDE, SIDE), from -1 to 1."""
    axis = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    x, y = np.meshgrid(axis, axis)
    return x, y


def noise(cells: int, rng: Generator) -> Pixels:
    """Smooth noise (SIDE, SIDE) in 0 .. 1 of so many cells a side."""
    gray = Image.fromarray(np.uint8(rng.uniform(0, 255, (cells, cells))))
    return np.asarray(gray.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float64) / 255


def shaded(colour: Pixels, x: Pixels, y: Pixels, shine: float) -> Pixels:
    """Colours (SIDE, SIDE, 3) of a rounded surface whose normal is x, y, sqrt(1 - x² - y²)."""
    z = np.sqrt((1 - x**2 - y**2).clip(0, 1))
    lit = (np.stack([x, y, z], -1) @ LIGHT).clip(0, 1)[..., None]
    return (colour * (0.35 + 0.75 * lit) + shine * 255 * lit**24).clip(0, 255)


def opacity(distance: Pixels) -> Pixels:
    """1 inside (distance below 0), 0 outside, with an edge of two pixels."""
    return (0.5 - distance * SIDE / 4).clip(0, 1)


def apple(rng: Generator) -> Pixels:
    """Red, green or yellow, streaked, with a dent at the stem; RGBA (SIDE, SIDE, 4)."""
    x, y = grid()
    angle, radius = np.arctan2(x, -y), np.hypot(x, y)
    edge = 0.84 - 0.16 * np.exp(-((angle / 0.45) ** 2)) + 0.03 * np.cos(2 * angle)
    skins = np.array([[190, 25, 35], [110, 160, 45], [215, 175, 60]], float)
    base, other = skins[rng.choice(3, p=[0.5, 0.3, 0.2])], skins[rng.integers(3)]
    streaks = (noise(24, rng) * (0.5 + 0.5 * np.sin(9 * angle + rng.uniform(0, 6))))[..., None]
    rgb = shaded(base + (other - base) * 0.5 * streaks, x / 0.9, y / 0.9, 0.5)
    stem = (np.abs(x - 0.15 * (y + 0.7)) < 0.035) & (y < -0.45) & (y > -0.98)
    rgb[stem] = (75, 50, 30)
    return np.dstack([rgb, 255 * np.maximum(opacity(radius - edge), stem)])


def orange(rng: Generator) -> Pixels:
    """A ball with pores; RGBA (SIDE, SIDE, 4)."""
    x, y = grid()
    flat = rng.uniform(0.92, 1.0)
    peel = np.array([rng.uniform(225, 250), rng.uniform(110, 150), rng.uniform(5, 40)])
    pores = (noise(96, rng) - 0.5)[..., None]
    rgb = shaded(peel * (1 + 0.35 * pores), x / 0.9, y / (0.9 * flat), 0.25)
    rgb[np.hypot(x - 0.1, y + 0.25) < 0.06] = (90, 100, 40)
    return np.dstack([rgb, 255 * opacity(np.hypot(x, y / flat) - 0.86)])


def banana(rng: Generator) -> Pixels:
    """A piece of a ring that thins towards its ends; RGBA (SIDE, SIDE, 4)."""
    x, y = grid()
    bend, reach = rng.uniform(0.75, 1.1), rng.uniform(0.75, 1.0)
    y = y + bend - 0.15
    angle, radius = np.arctan2(x, y), np.hypot(x, y)
    along = angle / reach  # -1 .. 1 from end to end
    half = 0.24 * np.sqrt((1 - along**2).clip(0, 1)) * rng.uniform(0.8, 1.1)
    across = np.divide(radius - bend, half, out=np.full_like(radius, 2.0), where=half > 0.01)
    skin = np.array([rng.uniform(215, 245), rng.uniform(180, 210), rng.uniform(40, 80)])
    spots = ((noise(40, rng) > rng.uniform(0.7, 1.0)) * 0.45)[..., None]
    ridge = 1 - 0.12 * (np.abs(across - 0.15) < 0.06)[..., None]
    rgb = shaded(skin * (1 - spots) * ridge, 0.3 * along, across.clip(-1, 1) * 0.9, 0.2)
    rgb[np.abs(along) > 0.9] *= 0.45
    return np.dstack([rgb, 255 * opacity((np.abs(across) - 1) * half.clip(0.01))])


FRUIT: dict[str, Callable[[Generator], Pixels]] = {
    "apple": apple,
    "banana": banana,
    "orange": orange,
}


def photographs() -> list[NDArray[np.uint8]]:
    """Two photographs (427, 640, 3)."""
    try:
        from sklearn.datasets import load_sample_images
    except ImportError as error:
        raise InputError(f"No scikit-learn ({error}): pip install 'scikit-learn>=1.4'.") from error
    return list(load_sample_images().images)


def background(photos: Sequence[NDArray[np.uint8]], rng: Generator) -> Image.Image:
    """A piece of a photograph, enlarged to one of SIZES, its colours changed."""
    width, height = SIZES[rng.integers(len(SIZES))]
    photo, share = Image.fromarray(photos[int(rng.integers(len(photos)))]), rng.uniform(0.4, 0.9)
    scale = share * min(photo.width / width, photo.height / height)
    w, h = width * scale, height * scale
    left, top = rng.uniform(0, photo.width - w), rng.uniform(0, photo.height - h)
    piece = photo.resize((width, height), Image.Resampling.BICUBIC, (left, top, left + w, top + h))
    colours = np.asarray(piece, np.float64) * rng.uniform(0.6, 1.2, 3) + rng.uniform(-30, 60)
    return Image.fromarray(np.uint8(colours.clip(0, 255)))


def sprite(name: str, longest: float, rng: Generator) -> Image.Image:
    """A fruit, turned and lit anew, cut tightly, its longer side so many pixels; RGBA."""
    painted = Image.fromarray(np.uint8(FRUIT[name](rng)))
    turned = painted.rotate(rng.uniform(-180, 180), Image.Resampling.BICUBIC, expand=True)
    tight = turned.crop(turned.getchannel("A").point(lambda a: 255 * (a > 127)).getbbox())
    scale = longest / max(tight.size)
    small = tight.resize((max(1, round(tight.width * scale)), max(1, round(tight.height * scale))))
    pixels = np.asarray(small, np.float64).copy()
    pixels[..., :3] *= rng.uniform(0.7, 1.15)
    return Image.fromarray(np.uint8(pixels.clip(0, 255)))


def shared(a: Box, b: Box) -> float:
    """The area that two boxes share, in pixels."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return float(max(width, 0) * max(height, 0))


def area(box: Box) -> float:
    """Of a box, in pixels."""
    return float((box[2] - box[0]) * (box[3] - box[1]))


def position(
    fruit: Image.Image, scene: Image.Image, boxes: list[Box], rng: Generator
) -> Box | None:
    """Where it goes; None if no nearly free position was drawn."""
    for _ in range(TRIES):
        x = int(rng.integers(max(1, scene.width - fruit.width)))
        y = int(rng.integers(max(1, scene.height - fruit.height)))
        box = (x, y, x + fruit.width, y + fruit.height)
        if all(shared(box, other) <= OVERLAP * min(area(box), area(other)) for other in boxes):
            return box
    return None


def picture(
    photos: Sequence[NDArray[np.uint8]], seed: int, index: int
) -> tuple[Image.Image, list[tuple[str, Box]]]:
    """Picture `index` and its fruit, those behind first."""
    rng = np.random.default_rng([seed, index])
    scene, objects = background(photos, rng), list[tuple[str, Box]]()
    for name in rng.choice(list(FRUIT), size=0 if index % EMPTY == 0 else rng.integers(1, 8)):
        longest = np.exp(rng.uniform(*np.log(SHARE))) * min(scene.size)
        fruit = sprite(str(name), float(longest), rng)
        box = position(fruit, scene, [box for _, box in objects], rng)
        if box is not None:
            scene.paste(fruit, box[:2], fruit)
            objects.append((str(name), box))
    return scene, objects


def label_file(
    name: str, scene: Image.Image, objects: list[tuple[str, Box]], *, sized: bool
) -> ElementTree.Element:
    """The XML of Pascal VOC, whose corners are the first and the last pixel, counted from 1."""
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = name
    size = ElementTree.SubElement(root, "size")
    width, height = scene.size if sized else (0, 0)
    for key, value in {"width": width, "height": height, "depth": 3}.items():
        ElementTree.SubElement(size, key).text = str(value)
    for rank, (label, box) in enumerate(objects):
        hidden = sum(shared(box, later) for _, later in objects[rank + 1 :]) / area(box)
        item = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(item, "name").text = label
        ElementTree.SubElement(item, "difficult").text = str(int(hidden > HIDDEN))
        bounds = ElementTree.SubElement(item, "bndbox")
        for key, corner in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            ElementTree.SubElement(bounds, key).text = str(corner + key.endswith("min"))
    return root


def write(folder: Path, images: int, seed: int) -> int:
    """Write FOLDER/JPEGImages and FOLDER/Annotations; how many objects there are."""
    photos, count = photographs(), 0
    for part in ("JPEGImages", "Annotations"):
        (folder / part).mkdir(parents=True)
    for index in tqdm(range(1, images + 1), unit="image", disable=None):
        scene, objects = picture(photos, seed, index)
        scene.save(folder / "JPEGImages" / f"{index:04d}.jpg", quality=90)
        tree = label_file(f"{index:04d}.jpg", scene, objects, sized=index % UNSIZED > 0)
        ElementTree.indent(tree)
        ElementTree.ElementTree(tree).write(folder / "Annotations" / f"{index:04d}.xml")
        count += len(objects)
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the data set beside --output, then move it there, so that it appears whole."""
    parser = argparse.ArgumentParser(description="Make pictures of fruit with Pascal VOC labels.")
    parser.add_argument("--output", type=Path, default=Path("data/fruit"), help="folder")
    parser.add_argument("--images", type=int, default=300, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same pictures")
    options = parser.parse_args(arguments)
    if options.images < 1 or options.seed < 0:
        raise InputError("--images should be at least 1, and --seed at least 0.")
    if options.output.exists():
        raise InputError(f"{options.output} exists: choose another --output, or remove it.")
    partial = Path(f"{options.output.resolve()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        count = write(partial, options.images, options.seed)
        partial.rename(options.output)
    except OSError as error:
        raise InputError(f"{options.output} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"{options.output}: {options.images} images, {count} objects")
    return 0


if __name__ == "__main__":
    with exit_codes():
        sys.exit(main())
