"""Where things lie in the plots, and whether eyes can tell them apart."""

import base64
import itertools
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from made_up import folder
from matplotlib import rc_context
from matplotlib.axes import Axes
from numpy.typing import NDArray

from detector.report import model_plots, result_plots, style
from detector.report.folder import AblationFolder, read_folder
from detector.report.seed_means import Curve
from detector.report.style import (
    BLUE,
    COLORS,
    DARK,
    MUTED,
    PAPER,
    TEXT,
    line_style,
    line_styles,
)

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


def test_colours_can_be_told_apart() -> None:
    light = {color: color for color in DARK}
    for shown, least in ((light, 0.13), (DARK, 0.12)):
        assert min(contrast(shown[color], shown[PAPER]) for color in COLORS) >= 3
        for eyes in EYES:
            seen = [oklab(shown[color], eyes) for color in (*COLORS, TEXT)]
            distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
            assert min(distances) > least, eyes


def test_the_dark_variant_has_dark_colours_alone() -> None:
    with rc_context(style.STYLE):
        figure = style.new_figure(1)
        figure.subplots().plot([0, 1], color=BLUE)
        light, dark = (
            base64.b64decode(address.partition(",")[2]).decode()
            for address in style.drawing(figure)
        )
    assert f"stroke: {BLUE}" in light and f"stroke: {DARK[BLUE]}" in dark
    assert not [color for color in DARK if color in dark]


def test_eighteen_variants_look_different() -> None:
    names = [f"v{k}" for k in range(19)]
    styles = line_styles(names, "v3")
    assert styles["v3"] == style.BASELINE and len(set(styles.values())) == 19
    assert styles["v4"] == line_style(3)


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> AblationFolder:
    return read_folder(folder(tmp_path_factory.mktemp("plots") / "tiny"))


STYLES = line_styles(["focal", "plain_ce", "ignored"], "focal")


def drawn(axes: Axes, color: str) -> list[tuple[list[float], list[float]]]:
    """x and y of the lines and marks of a colour, in the order of their drawing."""
    return [
        (np.ravel(line.get_xdata()).tolist(), np.ravel(line.get_ydata()).tolist())
        for line in axes.lines
        if line.get_color() == color
    ]


def test_forest_rows_are_the_results(ablation: AblationFolder) -> None:
    """plain_ce: interval, seeds below it, mean; its contrast is the first row of the lower panels.

    Its simultaneous interval is .009 ± 6.2053 / sqrt 3 thousandths.
    """
    figure = result_plots.forest_plot(ablation, STYLES)
    assert figure is not None
    upper, lower, near = figure.axes
    assert [label.get_text() for label in upper.get_yticklabels()] == list(STYLES)
    names = [label.get_text() for label in lower.get_yticklabels()]
    assert names == ["plain_ce - focal", "ignored - focal"]
    assert drawn(upper, BLUE) == [
        ([0.3352, 0.3848], [1, 1]),
        ([0.340, 0.352, 0.361], [1.24] * 3),
        ([0.351], [1]),
    ]
    assert ([0.302], [1]) in drawn(upper, TEXT)
    assert drawn(upper, COLORS[1])[1] == ([0.001, 0.003], [2.24] * 2)  # one seed failed
    for axes in (lower, near):
        bar, seeds, mark = drawn(axes, BLUE)
        assert bar == (pytest.approx([-0.012583, -0.005417], abs=1e-6), [0, 0])
        assert seeds == (pytest.approx([-0.010, -0.008, -0.009]), [0.24] * 3)
        assert mark == (pytest.approx([-0.009]), [0])
    assert near.get_xlim() == pytest.approx((-1.25 * 0.012583, 1.25 * 0.012583), abs=1e-6)


def test_a_diverged_run_has_its_dot_at_the_worst(ablation: AblationFolder) -> None:
    """Or the mean would lie beside its dots."""
    gone = replace(ablation.variants[2], diverged=(1,))
    figure = result_plots.forest_plot(replace(ablation, variants=(gone,), contrasts=()), STYLES)
    assert figure is not None and len(figure.axes) == 1
    assert drawn(figure.axes[0], COLORS[1])[1] == ([0.001, 0.0, 0.003], [0.24] * 3)


def test_zoom_is_for_rows_far_from_the_others() -> None:
    """The last of .02, .04 and .4 is ten times the one before."""
    assert result_plots.zoom_width([0.4, 0.02, 0.04]) == pytest.approx(0.05)
    assert result_plots.zoom_width([0.02, 0.04]) is None and result_plots.zoom_width([0.4]) is None
    assert result_plots.zoom_width([0.0]) is None


def test_shares_of_one_epoch_have_an_area() -> None:
    """Shares that were logged once are drawn half an epoch wide, not as nothing."""

    def ends(x: tuple[float, ...]) -> tuple[float, float]:
        line = (0.25,) * len(x)
        curves = {group: Curve(x, line, line, line) for group in result_plots.GROUP_COLORS}
        figure = result_plots.share_plot({"a": curves}, {"a": curves})
        assert figure is not None
        (corners, *_) = [area.get_paths()[0].vertices for area in figure.axes[0].collections]
        return corners[:, 0].min(), corners[:, 0].max()

    assert ends((1.0,)) == (0.75, 1.25) and ends((1.0, 2.0)) == (1.0, 2.0)


def test_a_failed_runs_line_ends_in_a_cross(ablation: AblationFolder) -> None:
    """ignored, seed 1: it failed in its second epoch."""
    figure = result_plots.metric_plot(ablation, STYLES)
    assert figure is not None
    (cross,) = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert cross.get_color() == MUTED and cross.get_markevery() == [-1]
    assert drawn(figure.axes[0], MUTED) == [([1.0], [0.0])]


def test_right_end_keeps_nine_tenths_of_the_loss() -> None:
    spread = (np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    hard = (np.array([0.0, 0.995, 1.0]), np.array([0.0, 0.05, 1.0]))
    extreme = (np.array([0.0, 0.9995, 1.0]), np.array([0.0, 0.05, 1.0]))
    assert model_plots.right_end([extreme]) == 0.999
    assert model_plots.right_end([extreme, hard]) == 0.99
    assert model_plots.right_end([extreme, hard, spread]) == 0.9


def test_text_is_no_formula_and_is_escaped() -> None:
    with rc_context(style.STYLE):
        figure = style.new_figure(1.0)
        figure.text(0, 0, "<b> $x_1$")
        head, _, content = style.drawing(figure).light.partition(",")
    assert head == "data:image/svg+xml;base64"
    svg = base64.b64decode(content)
    assert b"&lt;b&gt; $x_1$" in svg and b"<dc:date>" not in svg
    assert ElementTree.fromstring(svg).attrib["viewBox"].endswith(" 72")


def test_a_legend_takes_no_height_from_the_panels() -> None:
    """Sixty characters: one entry a row, of which two need more than one."""
    heights = []
    for names in (["a" * 60], ["a" * 60, "b" * 60]):
        figure = style.new_figure(1.0)
        style.legend(figure, {name: line_style(0) for name in names})
        heights.append(figure.get_figheight())
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == names
    assert 1.0 < heights[0] < heights[1]


def test_names_break_where_they_can() -> None:
    assert style.wrapped("sigmoid_negatives_focal", 18) == "sigmoid_negatives_\nfocal"
    assert style.wrapped("short", 18) == "short"
    assert style.wrapped("lr=0.01,alpha=0.25", 10) == "lr=0.01,\nalpha=0.25"


def test_the_lowest_panel_of_each_column_has_its_numbers() -> None:
    """Seven panels in rows of four and three: the fourth has none below it."""
    figure = style.new_figure(3.0)
    grid = style.panels(figure, list("abcdefg"), sharex=True, sharey=True)
    style.label_outer(grid, "score", "anchors")
    figure.draw_without_rendering()
    seen = [
        (any(tick.get_visible() for tick in axes.get_xticklabels()), axes.get_xlabel())
        for axes in grid
    ]
    assert seen == [*[(False, "")] * 3, *[(True, "score")] * 4]


def test_grid_shape_panels_are_even() -> None:
    assert [style.grid_shape(n) for n in (1, 5, 6, 9, 11)] == [
        (1, 1),
        (1, 5),
        (2, 3),
        (2, 5),
        (3, 4),
    ]


def test_recall_lies_over_false_positives_on_a_logarithmic_axis(ablation: AblationFolder) -> None:
    """focal: .20, .21, .22, mean .21; `ignored` has no recall at 10, where its curve ends."""
    figure = model_plots.recall_plot(
        ablation, line_styles(["focal", "plain_ce", "ignored"], "focal")
    )
    assert figure is not None
    (axes,) = figure.axes
    focal, _, ignored = axes.get_lines()
    assert axes.get_xscale() == "log"
    assert np.allclose(focal.get_xydata(), [(0.1, 0.21), (1, 0.6), (10, 0.9)])
    assert np.allclose(ignored.get_xydata(), [(0.1, 0.21), (1, 0.6)])
