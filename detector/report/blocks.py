"""What a page is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Cell:
    """Of a table: a main line, and a small one below it."""

    text: str
    note: str = ""
    style: str = "text"  # or number, strong, missing: a class of the stylesheet


@dataclass(frozen=True)
class Table:
    """The first cell of a row names it."""

    kind: ClassVar[str] = "table"
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    care: str = ""


@dataclass(frozen=True)
class Mark:
    """One line of a legend."""

    label: str
    color: str  # of the stylesheet: ink, c1 … c6
    path: str = ""  # of a drawing of 12 x 12; empty: none
    dashes: str | None = None  # stroke-dasharray of a line; None: no line


@dataclass(frozen=True)
class Picture:
    """An inlined drawing, and how to read it."""

    kind: ClassVar[str] = "picture"
    title: str
    svg: str
    read: str
    care: str
    legend: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str
    style: str = ""  # or missing, lead


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    kind: ClassVar[str] = "points"
    items: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """What a machine said, or is to be told, under a name."""

    kind: ClassVar[str] = "listing"
    name: str
    text: str


Block = Table | Picture | Text | Points | Listing


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; `key` is its address in the page."""

    key: str
    title: str
    blocks: Sequence[Block]


def missing(what: str, why: str) -> Text:
    """Instead of something that cannot be shown."""
    return Text(f"{what}: missing. {why}", "missing")
