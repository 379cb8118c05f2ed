"""What every section is made of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, TypeGuard, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

T = TypeVar("T")

Fraction = Annotated[float, Field(ge=0, le=1)]
Proper = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Below1 = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, lt=2**63)]
Whole = Annotated[int, Field(ge=0, lt=2**63)]
Pair = tuple[Positive, Positive]


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"found {list(pair)}, it should be [low, high]")
    return pair


Range = Annotated[Pair, AfterValidator(_ordered)]


def _filled(values: tuple[T, ...]) -> tuple[T, ...]:
    if not values:
        raise ValueError("found [], it should hold at least one value")
    return values


# not pydantic's min_length: that reports a list with one wrong item as empty, too
NotEmpty = AfterValidator(_filled)


def nameable(path: Path) -> Path:
    """The path; ValueError if no file system could have a file of this name."""
    if "\0" in str(path):
        raise ValueError(f"found {str(path)!r}, a path cannot hold the character of code 0")
    if any(len(os.fsencode(part)) > 255 for part in path.parts):
        raise ValueError("a folder or file in it has a name of more than 255 bytes; shorten it")
    return path


FilePath = Annotated[Path, AfterValidator(nameable)]


class Section(BaseModel):
    """A mapping of the config: frozen, no unknown keys, no conversions between types."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )


def is_section(kind: Any) -> TypeGuard[type[Section]]:
    """Whether a type is a section."""
    return isinstance(kind, type) and issubclass(kind, Section)


def item(default: Any, description: str) -> Any:
    """A key with its default and the one line that reference.yaml shows."""
    return Field(default, description=description)
