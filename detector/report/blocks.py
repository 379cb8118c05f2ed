"""What a page is made of; page.html.j2 lays each kind out."""

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
    caveat: str = ""


@dataclass(frozen=True)
class LegendEntry:
    """One line of a legend."""

    label: str
    color: str  # a class of the stylesheet: text, muted, c1 … c6
    path: str = ""  # SVG path of the marker in a square of 12 x 12; empty: none
    dashes: str | None = None  # stroke-dasharray of a line; None: no line


@dataclass(frozen=True)
class Picture:
    """An inlined plot, and how to read it."""

    kind: ClassVar[str] = "picture"
    title: str
    svg: str
    caption: str
    caveat: str
    legend: tuple[LegendEntry, ...] = ()


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    kind: ClassVar[str] = "paragraph"
    text: str
    style: str = ""  # or missing, lead


@dataclass(frozen=True)
class BulletList:
    """A list of sentences."""

    kind: ClassVar[str] = "bullets"
    items: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """The output of a program, or a command, under a name."""

    kind: ClassVar[str] = "listing"
    name: str
    text: str


Block = Table | Picture | Paragraph | BulletList | Listing


@dataclass(frozen=True)
class PageSection:
    """A heading and the blocks under it; `key` is its id in the page."""

    key: str
    title: str
    blocks: Sequence[Block]


def missing(what: str, why: str) -> Paragraph:
    """In place of something that cannot be shown."""
    return Paragraph(f"{what}: missing. {why}", "missing")
