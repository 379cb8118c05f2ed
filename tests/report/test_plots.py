"""Where things lie in the plots, and whether eyes can tell them apart."""

import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from detector.report import model_plots, result_plots, style
from detector.report.result_plots import ForestRow
from detector.report.seed_means import Curve
from detector.report.style import DARK, LIGHT, line_style, line_styles, svg_plot

# Machado et al. 2009, severity 1, on linear RGB: what eyes without one kind of cone see.
EYES = {
    "all": np.eye(3),
    "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                        [-0.003882, -0.048116, 1.051998]]),
    "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                        [-0.011820, 0.042940, 0.968881]]),
    "tritan": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                        [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip
TO_CONES = np.array([[0.4122214708, 0.5363325363, 0.0514459929],
                     [0.2119034982, 0.6806995451, 0.1073969566],
                     [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
TO_OKLAB = np.array([[0.2104542553, 0.7936177850, -0.0040720468],
                     [1.9779984951, -2.4285922050, 0.4505937099],
                     [0.0259040371, 0.7827717662, -0.8086757660]])  # fmt: skip


def linear(color: str) -> NDArray[np.float64]:
    values = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


def oklab(color: str, eyes: str) -> NDArray[np.float64]:
    seen = np.clip(EYES[eyes] @ linear(color), 0, 1)
    return TO_OKLAB @ np.cbrt(TO_CONES @ seen)


@pytest.mark.parametrize(
    ("colors", "paper", "text"), [(LIGHT, "#ffffff", "#1b1f24"), (DARK, "#14171b", "#e6e8ea")]
)
def test_colours_can_be_told_apart(colors: dict[str, str], paper: str, text: str) -> None:
    assert colors.keys() == LIGHT.keys()
    assert min(contrast(color, paper) for color in colors.values()) >= 3
    for eyes in EYES:
        seen = [oklab(color, eyes) for color in (*colors.values(), text)]
        distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
        assert min(distances) > 0.13, eyes


def test_eighteen_variants_look_different() -> None:
    names = [f"v{k}" for k in range(19)]
    styles = line_styles(names, "v3")
    assert styles["v3"] == style.BASELINE and len(set(styles.values())) == 19
    assert styles["v4"] == line_style(3)


def marks(svg: str, color: str) -> list[tuple[float, float]]:
    """Where marks (not lines) of a colour lie, in points of the drawing."""
    return [
        (float(a["x"]), float(a["y"]))
        for node in ElementTree.fromstring(svg).iter("use")
        if (a := node.attrib) and f"fill: {color}" in a.get("style", "")
    ]


def test_forest_points_lie_at_their_values() -> None:
    """On one axis a value twice as far from the first lies twice as far in the drawing."""
    rows = [
        ForestRow("base", 0.30, (0.28, 0.32), (0.29, 0.31)),
        ForestRow("other", 0.40, None, (0.35, 0.45)),
    ]
    differences = [ForestRow("other", 0.1, None, (0.06, 0.14))]
    svg = result_plots.forest_plot(rows, differences, line_styles(["base", "other"], "base"), "AP")
    left, right, mean, *paired = [x for x, _ in marks(svg, "var(--c1)")]
    assert (mean - left) / (right - left) == pytest.approx(0.5, abs=1e-3)
    assert (paired[2] - paired[0]) / (paired[1] - paired[0]) == pytest.approx(0.5, abs=1e-3)
    base = [x for x, _ in marks(svg, "currentColor")]
    scale = (right - left) / 0.1  # points per AP
    assert left - base[2] == pytest.approx(0.05 * scale, abs=0.05)
    assert len({round(y, 3) for _, y in marks(svg, "var(--c1)")}) == 2  # dots, and the mean


def test_zoom_is_for_rows_far_from_the_others() -> None:
    """Reaches .02, .04 and .4: the last is ten times the one before."""
    rows = [
        ForestRow("a", 0.01, (-0.02, 0.02), (0.01,)),
        ForestRow("b", 0.03, (0.02, 0.04), (0.03,)),
        ForestRow("c", -0.35, (-0.4, -0.3), (-0.35,)),
    ]
    assert result_plots.zoom_width(rows) == pytest.approx(0.05)
    assert result_plots.zoom_width(rows[:2]) is None and result_plots.zoom_width(rows[2:]) is None
    assert result_plots.zoom_width([ForestRow("a", 0.0, None, (0.0,))]) is None


def test_shares_of_one_epoch_have_an_area() -> None:
    """Shares that were logged once are drawn half an epoch wide, not as nothing."""

    def area(x: tuple[float, ...]) -> float:
        line = (0.25,) * len(x)
        curves = {group: Curve(x, line, line, line) for group in result_plots.GROUP_COLORS}
        svg = result_plots.share_plot({"a": curves}, {"a": curves})
        (path, *_) = re.findall(r'<path d="([^"]*)"[^>]*fill: var\(--c1\)', svg)
        ends = [float(number) for number in re.findall(r"[ML] ([\d.]+) ", path)]
        return max(ends) - min(ends)

    assert area((1.0,)) == pytest.approx(area((1.0, 2.0)), rel=0.01)
    assert area((1.0,)) > 100


def test_a_failed_runs_line_ends_in_a_cross() -> None:
    curve = Curve((1.0, 2.0), (0.1, 0.2), (0.1, 0.2), (0.1, 0.2))
    draw = result_plots.metric_plot
    with_failure = draw({"a": curve}, [[(1.0, 0.15)]], line_styles(["a"], "a"), "AP")
    without = draw({"a": curve}, [], line_styles(["a"], "a"), "AP")
    cross = r'<use [^>]*style="[^"]*stroke: var\(--muted\)'
    assert len(re.findall(cross, with_failure)) == len(re.findall(cross, without)) + 1


def test_right_end_keeps_nine_tenths_of_the_loss() -> None:
    spread = (np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    hard = (np.array([0.0, 0.995, 1.0]), np.array([0.0, 0.05, 1.0]))
    extreme = (np.array([0.0, 0.9995, 1.0]), np.array([0.0, 0.05, 1.0]))
    assert model_plots.right_end([extreme]) == 0.999
    assert model_plots.right_end([extreme, hard]) == 0.99
    assert model_plots.right_end([extreme, hard, spread]) == 0.9


def test_a_drawing_is_fit_for_a_page() -> None:
    svg = svg_plot('a "name" \\1 & more', 1.0, lambda figure: None)
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == 'a "name" \\1 & more'
    assert root.attrib["viewBox"].endswith(" 72")
    assert "http" not in svg and "<style" not in svg and "metadata" not in svg


def test_text_is_no_formula_and_is_escaped() -> None:
    svg = svg_plot("t", 1.0, lambda figure: figure.text(0, 0, "<b> $x_1$") and None)
    assert "&lt;b&gt; $x_1$" in svg


def test_names_break_where_they_can() -> None:
    assert style.wrapped("sigmoid_negatives_focal", 18) == "sigmoid_negatives_\nfocal"
    assert style.wrapped("short", 18) == "short"
    assert style.wrapped("lr=0.01,alpha=0.25", 10) == "lr=0.01,\nalpha=0.25"


def test_the_lowest_panel_of_each_column_has_its_numbers() -> None:
    """Seven panels in rows of four and three: the fourth has none below it."""
    seen: list[tuple[bool, str]] = []

    def draw(figure: Figure) -> None:
        grid = style.panels(figure, list("abcdefg"), sharex=True, sharey=True)
        style.label_outer(grid, "score", "anchors")
        figure.canvas.draw()
        for axes in grid:
            ticks = axes.get_xticklabels()
            seen.append((any(tick.get_visible() for tick in ticks), axes.get_xlabel()))

    svg_plot("t", 3.0, draw)
    assert seen == [*[(False, "")] * 3, *[(True, "score")] * 4]


def test_grid_shape_panels_are_even() -> None:
    assert [style.grid_shape(n) for n in (1, 5, 6, 9, 11)] == [
        (1, 1),
        (1, 5),
        (2, 3),
        (2, 5),
        (3, 4),
    ]
