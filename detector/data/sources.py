"""Which files a person means who names files, folders and patterns such as "photos/*.jpg"."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from detector.data.images import suffixes
from detector.errors import InputError

VIDEOS = frozenset(
    ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split()
)


def is_video(file: Path) -> bool:
    """Whether a file is one of moving pictures, by the ending of its name."""
    return file.suffix.lower() in VIDEOS


def source_files(names: Sequence[str | Path]) -> list[Path]:
    """The files named, those that match patterns, and the images anywhere under folders, in order.

    A pattern (`*`, `?`, `[ab]`, `**` for any folders) stands for the images, videos and folders
    among its matches. Hidden files in folders are left out, as macOS puts `._IMG.jpg` and
    `__MACOSX` beside pictures; so are videos, which phones put beside photographs. A file is
    listed once. Raises InputError for a name without a file, and for a folder or a pattern
    without an image.
    """
    files = (file for name in names for file in _files(name))
    return list(dict.fromkeys(files))


def _files(name: str | Path) -> list[Path]:
    if name == "":  # pathlib takes it for the current folder; shells make it of an unset variable
        raise InputError("an image, video or folder is named by an empty text; name a file or '.'.")
    path = Path(name)
    if path.is_dir():
        images = _images(path)
        if not images:
            raise InputError(
                f"{path}: there is no image in this folder, but for hidden ones; its videos need a "
                f"pattern, such as '{path}/*.mp4'."
            )
        return images
    if path.exists():
        return [path]
    if not glob.has_magic(str(name)):
        raise InputError(f"{path}: there is no such image, video or folder.")
    return _matches(str(name))


def _images(folder: Path) -> list[Path]:
    inside = sorted(folder.rglob("*"))
    return _of_kinds((file for file in inside if not _hidden(file, folder)), suffixes())


def _matches(pattern: str) -> list[Path]:
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    files = _of_kinds(matches, suffixes() | VIDEOS)
    files += [file for match in matches if match.is_dir() for file in _images(match)]
    if not files:
        kinds = "an image, a video or a folder of images"
        found = f"of {len(matches)} matches none is {kinds}" if matches else "it matches nothing"
        raise InputError(f"{pattern}: {found}; correct it.")
    return files


def _hidden(file: Path, folder: Path) -> bool:
    parts = file.relative_to(folder).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _of_kinds(files: Iterable[Path], kinds: Iterable[str]) -> list[Path]:
    return [file for file in files if file.suffix.lower() in kinds and not file.is_dir()]
