"""How pictures are drawn: SVG inside the page, in the page's own colours, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

from detector.report.blocks import Mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 8.6  # inches; the page shows it 1.7 times as large, and A4 paper 0.8 times
COLUMNS = 5  # of panels, at most
LETTERS = 110  # that fit into the width
# Black itself would not do: matplotlib leaves it out, as what SVG fills with anyway.
INK, MUTED, LINE, PAPER = "#010101", "#6b7280", "#d5d9df", "#fefefe"
# Any two, and ink, are at least 0.13 apart in OKLab, also for eyes without one kind of cone
# (Machado et al. 2009); each has a contrast of 3 or more. The page's stylesheet has those for
# dark mode under the same names.
COLORS = {"c1": "#143cc9", "c2": "#e1791b", "c3": "#2a9f9a", "c4": "#7e2d70",
          "c5": "#b264fb", "c6": "#b93004"}  # fmt: skip
DARK = {"c1": "#3e6fef", "c2": "#f59926", "c3": "#52caa5", "c4": "#b5689d",
        "c5": "#b995f6", "c6": "#ed3726"}  # fmt: skip
NAMES = {INK: "ink", MUTED: "muted", LINE: "line", PAPER: "paper"} | {
    value: name for name, value in COLORS.items()
}
SHAPES = {
    "o": "M6 2a4 4 0 1 0 .01 0z",
    "s": "M2.5 2.5h7v7h-7z",
    "D": "M6 1l5 5-5 5-5-5z",
    "^": "M6 1.5l5 9h-10z",
    "v": "M6 10.5l5-9h-10z",
    "P": "M4.3 1.5h3.4v2.8h2.8v3.4h-2.8v2.8h-3.4v-2.8h-2.8v-3.4h2.8z",
    "X": "M3.5 1L6 3.5 8.5 1 11 3.5 8.5 6 11 8.5 8.5 11 6 8.5 3.5 11 1 8.5 3.5 6 1 3.5z",
}
PATCH = "M0 1h12v10h-12z"
DASHES = {"-": "", "--": "6 3", ":": "1.5 2"}


@dataclass(frozen=True)
class Look:
    """How one thing is drawn, in every picture."""

    color: str
    marker: str
    line: str  # of DASHES

    def mark(self, label: str) -> Mark:
        """For a legend."""
        return Mark(label, NAMES[self.color], SHAPES[self.marker], DASHES[self.line])


BASELINE = Look(INK, "o", "-")


def look(place: int) -> Look:
    """Of the thing at `place`; 18 are different."""
    turn, place = divmod(place, len(COLORS))
    markers = list(SHAPES)[1:]
    marker = markers[(place + turn) % len(markers)]
    return Look(list(COLORS.values())[place], marker, list(DASHES)[turn % len(DASHES)])


def looks(names: Sequence[str], baseline: str) -> dict[str, Look]:
    """Each name's; the baseline is ink."""
    others = [name for name in names if name != baseline]
    return {baseline: BASELINE} | {name: look(place) for place, name in enumerate(others)}


def patch(label: str, color: str) -> Mark:
    """For the legend of an area."""
    return Mark(label, NAMES[color], PATCH)


def drawing(name: str, height: float, draw: Callable[[Figure], None]) -> str:
    """The SVG element of a picture of WIDTH x `height` inches; `name` is read out for it.

    Equal input gives equal text. Colours become the page's, text stays text.
    """
    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {**_style(), "svg.hashsalt": name}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _inline(buffer.getvalue(), name)


def rows_of(count: int, columns: int = COLUMNS) -> tuple[int, int]:
    """Rows and columns of so many panels; the rows are as even as can be."""
    rows = -(-count // columns)
    return rows, -(-count // rows)


def panels(
    figure: Figure, titles: Sequence[str], columns: int = COLUMNS, **options: Any
) -> list[Axes]:
    """One for each title, in rows; axes are shared as matplotlib's `subplots` is told."""
    rows, columns = rows_of(len(titles), columns)
    grid = figure.subplots(rows, columns, squeeze=False, **options).ravel().tolist()
    for axes in grid[len(titles) :]:
        axes.remove()
    for axes, title in zip(grid, titles, strict=False):
        axes.set_title(wrapped(title, LETTERS // columns))
    return list(grid[: len(titles)])


def name_outer(grid: Sequence[Axes], x: str, y: str) -> None:
    """Numbers and names at the outer axes alone: of the first column, and of the lowest in each.

    grid: the panels of `panels`; matplotlib's label_outer takes the last row to be full.
    """
    columns = rows_of(len(grid))[1]
    for axes in grid:
        axes.label_outer()
    for axes in grid[-columns:]:
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


def _style() -> dict[str, Any]:
    return {
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": MUTED,
        "axes.linewidth": 0.6,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": LINE,
        "grid.linewidth": 0.5,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "lines.linewidth": 1.4,
        "lines.markersize": 4,
    }


def _inline(svg: str, name: str) -> str:
    """Fit for a page of HTML: no prologue, no addresses, no style or ids for the whole page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf"<svg \1 role='img'{_label(name)}>", svg)
    for value, role in NAMES.items():
        paint = "currentColor" if value == INK else f"var(--{role})"
        svg = re.sub(rf"(?<=[:\"\s]){value}\b", paint, svg, flags=re.IGNORECASE)
    return svg


def _label(name: str) -> str:
    return " aria-label=" + quoteattr(name).replace("\\", r"\\")
