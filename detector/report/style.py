"""How plots look: SVG inside the page, in the page's own colours, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

from detector.report.blocks import LegendEntry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 8.6  # inches; the page shows it 1.7 times as large, and A4 paper 0.8 times
COLUMNS = 5  # of panels, at most
LETTERS = 110  # that fit into the width
# Not #000000: matplotlib writes no fill for black, SVG's default, and nothing could be replaced.
TEXT, MUTED, LINE, BACKGROUND = "#010101", "#6b7280", "#d5d9df", "#fefefe"
# Any two, and the text colour, are at least 0.13 apart in OKLab, also for eyes without one kind of
# cone (Machado et al. 2009); each has a contrast of 3 or more. DARK has those of dark mode, which
# the page's stylesheet puts in their place under the same names.
LIGHT = {"c1": "#143cc9", "c2": "#e1791b", "c3": "#2a9f9a", "c4": "#7e2d70",
          "c5": "#b264fb", "c6": "#b93004"}  # fmt: skip
DARK = {"c1": "#3e6fef", "c2": "#f59926", "c3": "#52caa5", "c4": "#b5689d",
        "c5": "#b995f6", "c6": "#ed3726"}  # fmt: skip
CSS_NAMES = {TEXT: "text", MUTED: "muted", LINE: "line", BACKGROUND: "background"} | {
    value: name for name, value in LIGHT.items()
}
MARKER_PATHS = {
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
STYLE = {
    "svg.fonttype": "none",  # text, that the page's font draws and a reader can search
    "text.parse_math": False,  # names of variants may hold a $
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), MUTED),
    **dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size"), 2.5),
    **dict.fromkeys(("xtick.labelcolor", "ytick.labelcolor"), TEXT),
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
}


@dataclass(frozen=True)
class LineStyle:
    """How one variant is drawn, in every plot."""

    color: str
    marker: str  # of MARKER_PATHS
    line: str  # of DASHES

    def legend(self, label: str) -> LegendEntry:
        """Its entry in a legend."""
        path, dashes = MARKER_PATHS[self.marker], DASHES[self.line]
        return LegendEntry(label, CSS_NAMES[self.color], path, dashes)


BASELINE = LineStyle(TEXT, "o", "-")


def line_style(index: int) -> LineStyle:
    """The style of that index; the first 18 differ."""
    turn, index = divmod(index, len(LIGHT))
    markers = list(MARKER_PATHS)[1:]
    marker = markers[(index + turn) % len(markers)]
    return LineStyle(list(LIGHT.values())[index], marker, list(DASHES)[turn % len(DASHES)])


def line_styles(names: Sequence[str], baseline: str) -> dict[str, LineStyle]:
    """One for each name; the baseline has the colour of text."""
    others = [name for name in names if name != baseline]
    return {baseline: BASELINE} | {name: line_style(k) for k, name in enumerate(others)}


def area_legend(label: str, color: str) -> LegendEntry:
    """The legend entry of an area."""
    return LegendEntry(label, CSS_NAMES[color], PATCH)


def svg_plot(name: str, height: float, draw: Callable[[Figure], None]) -> str:
    """The SVG element of a plot of WIDTH x `height` inches; screen readers say `name`.

    Equal input gives equal text. Colours become the page's, text stays text.
    """
    import matplotlib
    from matplotlib.figure import Figure

    # matplotlib names clip paths by a hash with this salt, random by default: two reports of one
    # folder would differ, and two plots of one page must not share a name
    style: Any = {**STYLE, "svg.hashsalt": name}
    with matplotlib.rc_context(style):
        # not pyplot, which keeps every figure alive and may look for a display
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _inline(buffer.getvalue(), name)


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


def label_outer(grid: Sequence[Axes], x: str, y: str) -> None:
    """Labels and numbers on the outer axes of `panels` alone: first column, lowest of each column.

    matplotlib's label_outer by itself takes the last row to be full, and leaves a column that ends
    above it without numbers.
    """
    columns = grid_shape(len(grid))[1]
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


def _inline(svg: str, name: str) -> str:
    """Fit for a page of HTML: no prologue, no addresses, no style or ids for the whole page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # its stylesheet names * and would restyle the whole page
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", svg)
    svg = svg.replace("xlink:href", "href")
    # every plot has the ids figure_1, axes_1 …, which in one page would be the same thing
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    # in the replacement of re.sub a backslash of the name would be an escape
    label = quoteattr(name).replace("\\", r"\\")
    head = rf"<svg \1 role='img' aria-label={label}>"
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', head, svg)
    for value, css_name in CSS_NAMES.items():
        paint = "currentColor" if value == TEXT else f"var(--{css_name})"
        svg = re.sub(rf"(?<=[:\"\s]){value}\b", paint, svg, flags=re.IGNORECASE)
    return svg
