"""Figures as Markdown tables, for the terminal and documents; their heads are the keys of JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from benchmarking.timing import Figures


def tables(name: str, figures: Figures) -> str:
    """A row of each group of figures; rows with the same heads are one table."""
    groups = groupby(_rows(name, figures), key=lambda row: list(row)[1:])
    return "\n\n".join(table(list(rows)) for _, rows in groups)


def _rows(name: str, figures: Figures) -> Iterator[dict[str, str]]:
    """First the figures of the group itself, then those of the groups within, whose names grow."""
    within = {key for key, own in figures.items() if isinstance(own, dict) and "median" not in own}
    if figures.keys() - within:
        yield {"what": name} | {k: cell(own) for k, own in figures.items() if k not in within}
    for key in figures:
        if key in within:
            yield from _rows(f"{name}: {key}", figures[key])


def cell(value: Any) -> str:
    """A figure as text: a ratio as its median with the range in brackets, None as a dash."""
    match value:
        case {"median": median, "lowest": lowest, "highest": highest}:
            digits = 3 if median < 0.1 else 2
            return f"{median:.{digits}f} ({lowest:.{digits}f} to {highest:.{digits}f})"
        case list():
            return " x ".join(map(str, value))
        case float():
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
        case int():
            return f"{value:,}"
    return "-" if value is None else str(value)


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Cells by their heads; columns are padded, so that the text reads as a table too."""
    cells = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    padded = [[c.ljust(width) for c, width in zip(row, widths, strict=True)] for row in cells]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    return "\n".join([lines[0], f"|{'|'.join('-' * (w + 2) for w in widths)}|", *lines[1:]])
