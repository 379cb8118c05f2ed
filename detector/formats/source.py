"""What the readers of label formats take and give: a source of files, and images with labels."""

from __future__ import annotations

import math
import os
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from detector.data.images import suffixes
from detector.errors import InputError

# reasons of a Tally; the first four are faults of the source, which make the exit code 1
UNREADABLE_IMAGE = "images that cannot be read, left out"
BROKEN_LABELS = "label files that cannot be read, left out with their image"
NO_IMAGE = "label files without an image, left out"
IMAGE_MISSING = "labelled images whose file is not there, left out"
NO_LABELS = "images without a label file, kept as images without objects"
FAULTS = (UNREADABLE_IMAGE, BROKEN_LABELS, NO_IMAGE, IMAGE_MISSING)

YAML = (".yaml", ".yml")
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


class BrokenLabels(InputError):
    """The labels of one image cannot be read: that image is left out, and the others go on."""


class Label(NamedTuple):
    """One box as a label file has it."""

    box: tuple[float, float, float, float]  # x1, y1, x2, y2; pixels from 0, or fractions
    name: str  # of the class
    place: str  # file and line, or file and the number of the object
    ignored: bool = False  # becomes `iscrowd`
    area: float | None = None  # pixels; None: that of the box


@dataclass(frozen=True)
class LabelledImage:
    """An image file, what a label file says of it, and the part that the source has it in."""

    file: Path
    labels: Sequence[Label]
    origin: str  # the file, or file and line, that labels it
    split: str = ""  # train, val or test; "" where the source has no parts
    declared: tuple[int, int] | None = None  # height, width as the label file says


@dataclass(frozen=True)
class Labels:
    """What a reader gives."""

    images: Sequence[LabelledImage]
    classes: Sequence[str] | None = None  # in the source's order; None: it has none
    fractions: bool = False  # boxes are fractions of the width and height of their image


class Tally:
    """What was left out or changed: how often for each reason, and the first case."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, reason: str, case: object) -> None:
        """Count one more case of a reason."""
        self.counts[reason] += 1
        self.first.setdefault(reason, str(case).removesuffix("."))

    @property
    def faults(self) -> int:
        """How many files are broken or missing, and left out."""
        return sum(self.counts[reason] for reason in FAULTS)


class ImageFiles:
    """The image files of a source, found by the names that label files use."""

    def __init__(self, root: Path, files: Iterable[Path]) -> None:
        self.root = root
        self.files = tuple(files)
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        for file in self.files:
            name = composed(file.name)
            self._by_name.setdefault(name, []).append(file)
            self._by_stem.setdefault(name.rpartition(".")[0], []).append(file)

    def named(self, name: str, near: Path, split: str = "") -> Path | None:
        """The image of a path or file name in a label file, nearest to that file; None: no such.

        The folders in `name` are those of another computer often enough: they decide only between
        images of the same file name, and after them whether one is in a folder of the part
        `split`. Raises InputError where two are equally near.
        """
        parts = composed(name).replace("\\", "/").split("/")
        files = self._by_name.get(parts[-1], [])
        tail = [part for part in parts if part not in ("", ".", "..")]
        ending = [f for f in files if list(map(composed, f.parts[-len(tail) :])) == tail]
        candidates = ending or files
        inside = [f for f in candidates if split and split_of_folders(f, self.root) == split]
        return _nearest(inside or candidates, near)

    def of_stem(self, file: Path, name: str) -> Path | None:
        """The image of a label file: of the same stem, else the one `named` in it; None: no such.

        Raises InputError where two are equally near.
        """
        files = self._by_stem.get(composed(file.stem), [])
        return _nearest([f for f in files if f.name == name] or files, file) or (
            self.named(name, file) if name else None
        )


def _nearest(files: Sequence[Path], near: Path) -> Path | None:
    """The file that shares most folders with `near`."""

    def shared(file: Path) -> int:
        return len(os.path.commonprefix([file.parts, near.parts]))

    most = max(map(shared, files), default=0)
    nearest = [file for file in files if shared(file) == most]
    if len(nearest) > 1:
        raise InputError(
            f"{near}: its image may be {nearest[0]} or {nearest[1]}; take one of them away, or "
            "name the folder of the right ones by --images."
        )
    return nearest[0] if nearest else None


@dataclass(frozen=True)
class LabelSource:
    """The files to convert."""

    path: Path  # a folder, or one file
    root: Path  # that folder, or the file's
    files: Sequence[Path]  # all but hidden ones and images; of one file, itself
    images: ImageFiles
    image_root: Path  # the folder of these
    classes: Sequence[str] | None = None  # of --classes

    def of_suffix(self, *endings: str) -> list[Path]:
        """The files whose name ends in one of `endings`, lower case."""
        return [file for file in self.files if file.suffix.lower() in endings]


def open_source(path: Path, images: Path | None, classes: Path | None) -> LabelSource:
    """The files of a folder or of one label file; `images`: where the images are, if elsewhere.

    Raises InputError where one of the three is not there, and where there is no image.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such folder or file to convert.")
    root = path if path.is_dir() else path.parent
    image_root = root if images is None else images
    if not image_root.is_dir():
        raise InputError(f"--images {image_root}: there is no such folder.")
    files = sorted({file for folder in {root, image_root} for file in _visible_files(folder)})
    kinds = suffixes()
    pictures = [f for f in files if f.suffix.lower() in kinds and f.is_relative_to(image_root)]
    if not pictures:
        raise InputError(
            f"{image_root}: there is no image in this folder; name the one that has them by "
            "--images DIR."
        )
    # YOLO's data.yaml stands for its folder; any other file has all labels itself
    alone = path.is_file() and path.suffix.lower() not in YAML
    return LabelSource(
        path=path,
        root=root,
        files=[path] if alone else [f for f in files if f.suffix.lower() not in kinds],
        images=ImageFiles(image_root, pictures),
        image_root=image_root,
        classes=None if classes is None else read_classes(classes),
    )


def _visible_files(folder: Path) -> list[Path]:
    """All files below a folder but for hidden ones, such as the `._a.jpg` that macOS makes."""
    files = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
        files += [Path(parent, name) for name in sorted(names) if not name.startswith(".")]
    return files


def read_classes(path: Path) -> tuple[str, ...]:
    """The class names of a text file, one a line; InputError for none, and for one twice."""
    names = [class_name(line) for line in read_lines(path) if line.strip()]
    if not names:
        raise InputError(f"{path}: it names no class; expected one name a line.")
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise InputError(f"{path}: the class {name!r} stands there {times} times; once is enough.")
    return tuple(names)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file in UTF-8; InputError if it is none."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise BrokenLabels(f"{path}: this is not a text file in UTF-8: {error}.") from None


def numbers(words: Sequence[object], place: str) -> list[float]:
    """Finite numbers; BrokenLabels, which names `place`, for anything else."""
    values = []
    for word in words:
        try:
            value = math.nan if isinstance(word, bool) else float(word)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            value = math.nan
        if not math.isfinite(value):
            raise BrokenLabels(f"{place}: found {reprlib.repr(word)}, expected a number.")
        values.append(value)
    return values


def bounds(points: Sequence[float]) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 around points x, y, x, y, ..."""
    across, down = points[0::2], points[1::2]
    return min(across), min(down), max(across), max(down)


def class_name(text: str) -> str:
    """A class name without spaces around it, and with composed accents."""
    return composed(text.strip())


def composed(text: str) -> str:
    """é as one character, whichever way a file system or an editor wrote it."""
    return unicodedata.normalize("NFC", text)


def split_of_folders(file: Path, root: Path) -> str:
    """train, val or test, where a folder between the two is named so (train2017, valid); or ""."""
    folders = Path(os.path.relpath(file, root)).parts[:-1]
    names = [re.sub(r"\d+$", "", folder.lower()) for folder in folders]
    return next((SPLITS[name] for name in names if name in SPLITS), "")


def split_of_name(file: Path, root: Path) -> str:
    """The same, where a word of the file's own name will do: instances_train2017.json."""
    words = re.split(r"[^a-z]+", file.stem.lower())
    named = next((SPLITS[word] for word in words if word in SPLITS), "")
    return named or split_of_folders(file, root)
