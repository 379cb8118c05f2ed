"""How plots look, and how they get into the page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

WIDTH = 8.6  # inches; the page shows it 1.7 times as large, and A4 paper 0.8 times
COLUMNS = 5  # of panels, at most
LETTERS = 110  # that fit into the width
TEXT, MUTED, LINE, PAPER = "#1b1f24", "#6b7280", "#d5d9df", "#ffffff"
# Any two, and the text colour, are at least 0.13 apart in OKLab, also for eyes without one kind of
# cone (Machado et al. 2009); each has a contrast of 3 or more to the paper.
COLORS = ("#143cc9", "#e1791b", "#2a9f9a", "#7e2d70", "#b264fb", "#b93004")
BLUE, ORANGE, GREEN, *_ = COLORS
# What stands for each on dark paper: at least 0.12 apart there, with a contrast of 3 or more.
DARK = dict(
    zip(
        (TEXT, MUTED, LINE, PAPER, *COLORS),
        ("#e6e8ea", "#9aa4b1", "#333a44", "#1c2026",
         "#a39fef", "#fba30b", "#2ad69a", "#b24aa9", "#8356fc", "#ed2e1c"),
        strict=True,
    )
)  # fmt: skip
MARKERS = "sD^vPX"
LINES = ("-", "--", ":")
STYLE: Any = {
    "svg.fonttype": "none",  # text, that a reader's own font draws
    # matplotlib names clip paths by a hash with this salt, random by default: two reports of one
    # folder would differ
    "svg.hashsalt": "report",
    "text.parse_math": False,  # names of variants may hold a $
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.frameon": False,
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), MUTED),
    **dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size"), 2.5),
    **dict.fromkeys(("xtick.labelcolor", "ytick.labelcolor", "text.color"), TEXT),
    "axes.labelcolor": TEXT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
}


class LineStyle(NamedTuple):
    """How one variant is drawn, in every plot."""

    color: str
    marker: str
    line: str


BASELINE = LineStyle(TEXT, "o", "-")


def line_style(index: int) -> LineStyle:
    """The style of that index; the first 18 differ."""
    turn, index = divmod(index, len(COLORS))
    marker = MARKERS[(index + turn) % len(MARKERS)]
    return LineStyle(COLORS[index], marker, LINES[turn % len(LINES)])


def line_styles(names: Sequence[str], baseline: str) -> dict[str, LineStyle]:
    """One for each name; the baseline has the colour of text."""
    others = [name for name in names if name != baseline]
    return {baseline: BASELINE} | {name: line_style(k) for k, name in enumerate(others)}


def new_figure(height: float) -> Figure:
    """Of WIDTH x `height` inches."""
    # not pyplot, which keeps every figure alive and may look for a display
    return Figure(figsize=(WIDTH, height), layout="constrained")


class Drawing(NamedTuple):
    """A figure as SVG in two addresses of an image; equal figures give equal ones."""

    light: str
    dark: str


def drawing(figure: Figure) -> Drawing:
    """The figure in the colours of STYLE, and in those that DARK has for them."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue().decode()
    dark = re.sub("(?<=: )#[0-9a-f]{6}", lambda color: DARK.get(color[0], color[0]), svg)
    return Drawing(_address(svg), _address(dark))


def _address(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def legend(figure: Figure, entries: Mapping[str, LineStyle | str]) -> None:
    """Above the panels, which keep their height: of each label its line, or its area's colour."""
    handles: list[Line2D | Patch] = [
        Patch(color=entry, label=label)
        if isinstance(entry, str)
        else Line2D([], [], color=entry.color, marker=entry.marker, ls=entry.line, label=label)
        for label, entry in entries.items()
    ]
    columns = max(1, LETTERS // (8 + max(map(len, entries))))
    rows = -(-len(entries) // columns)
    figure.set_figheight(figure.get_figheight() + 0.1 + 0.17 * rows)
    figure.legend(handles=handles, loc="outside upper left", ncols=columns)


def grid_shape(count: int, columns: int = COLUMNS) -> tuple[int, int]:
    """Rows and columns of `count` panels; the rows are as even as can be."""
    rows = -(-count // columns)
    return rows, -(-count // rows)


def panels(
    figure: Figure, titles: Sequence[str], columns: int = COLUMNS, **options: Any
) -> list[Axes]:
    """One for each title, in rows; `options` are those of matplotlib's `subplots`."""
    rows, columns = grid_shape(len(titles), columns)
    grid = figure.subplots(rows, columns, squeeze=False, **options).ravel().tolist()
    for axes in grid[len(titles) :]:  # an empty panel would draw its frame
        axes.remove()
    for axes, title in zip(grid, titles, strict=False):
        axes.set_title(wrapped(title, LETTERS // columns))
    return list(grid[: len(titles)])


def name_rows(grid: Sequence[Axes], names: Sequence[str], *, width: int, ticks: int) -> None:
    """A row for each name in panels that share them, the first on top; `ticks` on their x axes."""
    for axes in grid:
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=ticks)  # the default overlaps in narrow panels
    grid[0].set(yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
    grid[0].set_yticklabels([wrapped(name, width) for name in names])


def label_outer(grid: Sequence[Axes], x: str, y: str) -> None:
    """Labels and numbers on the outer axes of `panels` alone: first column, lowest of each column.

    matplotlib's label_outer by itself takes the last row to be full, and leaves a column that ends
    above it without numbers.
    """
    for axes in grid:
        axes.label_outer()
    for axes in grid[-grid_shape(len(grid))[1] :]:
        axes.set_xlabel(x)
        axes.tick_params(labelbottom=True)
    grid[0].set_ylabel(y)


def wrapped(name: str, width: int) -> str:
    """A name on lines of at most `width` characters where it has _ or , or spaces to break at."""
    lines = [""]
    for part in re.split(r"(?<=[_, ])", name):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)
