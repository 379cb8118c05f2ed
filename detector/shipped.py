"""The configs that come with the package, by name where no such file is there."""

from __future__ import annotations

from pathlib import Path, PurePath

PACKAGE = Path(__file__).parent
# the end of a sentence on a config that is not there
HINT = "; shipped are digits.yaml, losses/focal.yaml, ablations/gamma.yaml and others of configs/"


def folder() -> Path:
    """Of the shipped configs: in the installed package, or beside it in a checkout."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def resolve(path: Path, name: PurePath | None = None) -> Path:
    """`path` if there is such a file (or nothing else is), or the shipped config of this name.

    name: as a person wrote it, relative to the shipped folder: digits.yaml, losses/focal.yaml; the
        documents' configs/digits.yaml will do. None: `path` itself.
    """
    name = name or path
    if path.exists() or name.is_absolute() or ".." in name.parts:
        return path
    parts = name.parts[1:] if name.parts[:1] == ("configs",) else name.parts
    shipped = folder().joinpath(*parts)
    return shipped if parts and shipped.is_file() else path
