"""Make a detection data set without a network: handwritten digits on photographs, in COCO format.

Digits: `sklearn.datasets.load_digits` (Alpaydin and Kaynak 1998, 8 x 8 pixels, 1,797 instances).
Photographs: `sklearn.datasets.load_sample_images` (two, 427 x 640 pixels). Both lie in the package.
Train and val share no instance of a digit (every fifth of a class is val's) and no pixel of a
photograph (the right 30 % are val's). Image i depends on the seed, its split and i alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from detector.errors import InputError, exit_codes

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ALL = tuple(range(len(NAMES)))
SPLITS = ("train", "val")
VERSION = 1  # raise it when the same arguments give other pictures
VAL_EVERY = 5  # this share of a class's instances is val's
COLUMNS = {"train": slice(0, 448), "val": slice(448, 640)}  # of the photographs
CROP = (96, 192)  # pixels of a photograph; as wide as val's part allows, the same for both splits
TALLEST = 0.6  # of the scene
ROTATION = 15.0  # degrees to either side
CELL = 16  # pixels that one of the 8 x 8 becomes before it is turned and shrunk
EDGE = (0.32, 0.55)  # of the darkest ink: where a stroke begins and where it is opaque
VISIBLE = 0.5  # opacity at which a box begins
CONTRAST = 90.0  # of 255: luminance between a digit and the mean of what lies under its box
OVERLAP = 0.15  # of the smaller box
TRIES = 60  # places and heights tried for one digit, before the scene goes without it
LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, which JPEG uses

Pixels = NDArray[np.float64]
Box = tuple[int, int, int, int]  # x, y, width, height
Digits = list[tuple[int, Box]]  # index in `classes`, and box
Scene = tuple[Image.Image, Digits]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides the bytes of a data set; lengths in pixels."""

    train: int
    val: int
    size: int
    objects: tuple[int, int]
    scale: tuple[int, int]
    imbalance: float
    seed: int
    classes: tuple[int, ...] = ALL

    def __post_init__(self) -> None:
        (few, many), (low, high), tallest = self.objects, self.scale, self.tallest
        fewest = min(self.train, self.val)
        rules = {
            f"--train {self.train} --val {self.val}: expected at least 1 image each": fewest >= 1,
            f"--size is {self.size}; expected at least 32 pixels": self.size >= 32,
            f"--objects is {few} {many}; expected 0 <= MIN <= MAX": 0 <= few <= many,
            f"--scale is {low} {high}; expected 8 <= MIN <= MAX": 8 <= low <= high,
            f"--imbalance is {self.imbalance}; expected 1.0 to 1e6": 1 <= self.imbalance <= 1e6,
            f"--seed is {self.seed}; expected at least 0": self.seed >= 0,
            f"--classes is {' '.join(map(str, self.classes))}; expected digits 0 to 9, each once": (
                0 < len(set(self.classes)) == len(self.classes) and set(self.classes) <= {*ALL}
            ),
            f"--scale begins at {low}; a scene of --size {self.size} has digits of up to {tallest} "
            "pixels: lower --scale or raise --size": low <= tallest,
            f"{many} digits of {low} pixels (--objects, --scale) leave no room in a scene of "
            f"--size {self.size}: change one of the three": many * low**2 <= self.size**2 / 2,
        }
        for sentence, holds in rules.items():
            if not holds:
                raise InputError(f"{sentence}.")

    @property
    def tallest(self) -> int:
        """The greatest height of a digit: that of --scale, or less where the scene is small."""
        return min(self.scale[1], int(TALLEST * self.size))

    def count(self, split: str) -> int:
        """How many images a split has."""
        return self.train if split == "train" else self.val

    def class_shares(self, split: str) -> Pixels:
        """P of each of `classes`; the long tail is train's, so that val measures each alike."""
        ratio = self.imbalance if split == "train" else 1.0
        shares = ratio ** -np.linspace(0, 1, len(self.classes))
        return shares / shares.sum()

    @property
    def info(self) -> dict[str, Any]:
        """The `info` of both annotation files, as JSON gives it back."""
        arguments = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        if self.classes == ALL:
            del arguments["classes"]  # sets that were made before there was a choice are the same
        about = {"description": "handwritten digits on photographs", "version": VERSION}
        return about | {"seed": self.seed, "arguments": arguments}


@dataclass(frozen=True)
class Material:
    """What the scenes of one split are made of."""

    digits: list[list[Image.Image]]  # by class: instances, 8-bit gray, enlarged, ink is white
    photographs: list[NDArray[np.uint8]]  # (427, W, 3)


def load_material(split: str) -> Material:
    """The split's share of scikit-learn's digits and photographs."""
    try:
        from sklearn.datasets import load_digits, load_sample_images
    except ImportError as error:
        raise InputError(f"No scikit-learn ({error}): pip install 'scikit-learn>=1.4'.") from error
    images, labels = load_digits(return_X_y=True)
    digits = []
    for label in range(len(NAMES)):
        instances = images[labels == label].reshape(-1, 8, 8) / 16
        is_val = np.arange(len(instances)) % VAL_EVERY == VAL_EVERY - 1
        digits.append([enlarge(digit) for digit in instances[is_val == (split == "val")]])
    photographs = [photo[:, COLUMNS[split]] for photo in load_sample_images().images]
    return Material(digits, photographs)


def enlarge(digit: Pixels) -> Image.Image:
    """A digit (8, 8) in 0..1, with a margin for turning, as smooth gray of CELL pixels a cell."""
    gray = Image.fromarray(np.uint8(255 * np.pad(digit, 2)))
    return gray.resize((12 * CELL, 12 * CELL), Image.Resampling.BICUBIC)


def turn(digit: Image.Image, degrees: float) -> Image.Image:
    """The opacity of the turned digit, 8-bit, cut tightly to what is visible."""
    gray = np.asarray(digit.rotate(degrees, Image.Resampling.BICUBIC), np.float64) / 255
    # A slope, not a step: faint strokes stay joined, holes stay open, edges stay antialiased.
    opacity = ((gray - EDGE[0]) / (EDGE[1] - EDGE[0])).clip(0, 1)
    mask = Image.fromarray(np.uint8(255 * opacity))
    return mask.crop(Image.fromarray(np.uint8(opacity >= VISIBLE)).getbbox())


def background(material: Material, size: int, rng: Generator) -> Pixels:
    """(size, size, 3) in 0..255: a random square of a photograph, turned, mirrored, recoloured."""
    photograph = material.photographs[rng.integers(len(material.photographs))]
    side = int(rng.integers(CROP[0], CROP[1] + 1))
    top, left = (rng.integers(length - side + 1) for length in photograph.shape[:2])
    square = np.rot90(photograph[top : top + side, left : left + side], int(rng.integers(4)))
    mirrored = square[:, :: int(rng.choice([1, -1]))]
    scene = Image.fromarray(mirrored).resize((size, size), Image.Resampling.BICUBIC)
    faded = 128 + (np.asarray(scene, np.float64) - 128) * rng.uniform(0.5, 1.0)
    return ((faded + rng.uniform(-40, 40)) * rng.uniform(0.8, 1.2, 3)).clip(0, 255)


def contrasting(luminance: float, rng: Generator) -> Pixels:
    """(3,) in 0..255: a random colour at least CONTRAST darker or lighter than the luminance."""
    darker, lighter = max(luminance - CONTRAST, 0), max(255 - CONTRAST - luminance, 0)
    draw = rng.uniform(0, darker + lighter)
    wanted = draw if draw < darker else luminance + CONTRAST + draw - darker
    rgb = rng.uniform(0, 255, 3)
    found = float(rgb @ LUMINANCE)
    if found > wanted:
        return rgb * (wanted / found)
    return rgb + (255 - rgb) * ((wanted - found) / (255 - found))


def overlap(a: Box, b: Box) -> float:
    """The intersection of two boxes, as a share of the smaller one."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) / min(a[2] * a[3], b[2] * b[3])


def find_place(aspect: float, taken: list[Box], recipe: Recipe, rng: Generator) -> Box | None:
    """A nearly free box of random place and height (uniform in its logarithm), width / height."""
    for _ in range(TRIES):
        height = round(np.exp(rng.uniform(np.log(recipe.scale[0]), np.log(recipe.tallest))))
        width = min(round(height * aspect), recipe.size)
        x, y = rng.integers(recipe.size - width + 1), rng.integers(recipe.size - height + 1)
        box = (int(x), int(y), width, height)
        if all(overlap(box, other) <= OVERLAP for other in taken):
            return box
    return None


def paint(scene: Pixels, mask: Image.Image, box: Box, rng: Generator) -> None:
    """Draw the mask, shrunk to the box, into the scene, in a colour that stands out there."""
    x, y, width, height = box
    small = mask.resize((width, height), Image.Resampling.BICUBIC)
    opacity = np.asarray(small, np.float64)[..., None] / 255
    under = scene[y : y + height, x : x + width]
    ink = contrasting(float((under @ LUMINANCE).mean()), rng)
    under += (ink - under) * opacity


def make_scene(material: Material, recipe: Recipe, split: str, index: int) -> Scene:
    """Image `index` of the split, and its digits."""
    rng = np.random.default_rng([recipe.seed, SPLITS.index(split), index])
    scene = background(material, recipe.size, rng)
    count = rng.integers(recipe.objects[0], recipe.objects[1] + 1)
    found: Digits = []
    for label in rng.choice(len(recipe.classes), size=count, p=recipe.class_shares(split)):
        instances = material.digits[recipe.classes[label]]
        mask = turn(instances[rng.integers(len(instances))], rng.uniform(-ROTATION, ROTATION))
        place = find_place(mask.width / mask.height, [box for _, box in found], recipe, rng)
        if place is not None:
            paint(scene, mask, place, rng)
            found.append((int(label), place))
    return Image.fromarray(np.uint8(scene.round())), found


def write_split(folder: Path, recipe: Recipe, split: str) -> None:
    """Write FOLDER/SPLIT/*.jpg and FOLDER/annotations/SPLIT.json; an `area` is its box's."""
    (folder / split).mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    material = load_material(split)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in tqdm(range(recipe.count(split)), desc=split, unit="image", disable=None):
        scene, digits = make_scene(material, recipe, split, index)
        name = f"{index + 1:06d}.jpg"
        scene.save(folder / split / name, quality=90, subsampling="4:2:0")
        size = {"width": recipe.size, "height": recipe.size}
        images.append({"id": index + 1, "file_name": name, **size})
        for label, box in digits:
            ids = {"id": len(annotations) + 1, "image_id": index + 1, "category_id": label + 1}
            shape = {"bbox": [float(v) for v in box], "area": float(box[2] * box[3])}
            annotations.append({**ids, **shape, "iscrowd": 0})
    coco = {
        "info": recipe.info,
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": NAMES[c]} for i, c in enumerate(recipe.classes, 1)],
    }
    (folder / "annotations" / f"{split}.json").write_text(json.dumps(coco), encoding="utf-8")
    print(f"{split}: {len(images):,} images, {len(annotations):,} digits")


def is_there(output: Path, recipe: Recipe) -> bool:
    """Whether this very data set lies there already; InputError where anything else does."""
    if not output.exists():
        return False
    advice = "choose another --output, or remove it"
    for split in SPLITS:
        try:
            info = json.loads((output / "annotations" / f"{split}.json").read_bytes())["info"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(f"{output} exists and is no digits data set: {advice}.") from error
        if info != recipe.info:
            raise InputError(f"{output} was made with other arguments ({info}): {advice}.")
        if len(list((output / split).glob("*.jpg"))) != recipe.count(split):
            raise InputError(f"{output / split} lacks images, or has too many: {advice}.")
    return True


def make(output: Path, recipe: Recipe) -> None:
    """Make the data set beside `output`, then move it there, so that it appears whole."""
    partial = Path(f"{output.resolve()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for split in SPLITS:
            write_split(partial, recipe, split)
        partial.rename(output)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def parse(arguments: Sequence[str] | None) -> tuple[Path, Recipe]:
    """The command line: where to, and what."""
    defaults = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Make the digits data.", formatter_class=defaults)
    add, pair = parser.add_argument, ("MIN", "MAX")
    add("--output", type=Path, default="data/digits", help="folder")
    add("--train", type=int, default=3000, help="images to train on")
    add("--val", type=int, default=300, help="images to validate on")
    add("--size", type=int, default=128, help="side of an image, pixels")
    add("--objects", type=int, nargs=2, default=(1, 5), metavar=pair, help="digits an image")
    add("--scale", type=int, nargs=2, default=(20, 80), metavar=pair, help="digits' height, pixels")
    add("--imbalance", type=float, default=1.0, help="most frequent class : rarest, in train")
    add("--classes", type=int, nargs="+", default=ALL, metavar="D", help="digits drawn")
    add("--seed", type=int, default=0, help="the same seed gives the same bytes")
    options = vars(parser.parse_args(arguments))
    options |= {name: tuple(options[name]) for name in ("objects", "scale", "classes")}
    return options.pop("output"), Recipe(**options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: made, or already there."""
    output, recipe = parse(arguments)
    there = is_there(output, recipe)
    if not there:
        make(output, recipe)
    print(f"{output} is {'already there' if there else 'ready'}")
    return 0


if __name__ == "__main__":
    with exit_codes():
        sys.exit(main())
