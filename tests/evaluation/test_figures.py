"""Precision-recall curves: what is drawn, in which colour, and what stands there instead."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from detector.evaluation.coco import CocoResult
from detector.evaluation.figures import precision_recall
from detector.evaluation.palette import color


def result(levels, *, detections=7, names=None):
    """Class k has precision `levels[k]` at every recall and overlap; -1: no ground truth."""
    names = names or [f"class {k}" for k in range(len(levels))]
    precision = np.broadcast_to(np.array(levels, dtype=float), (10, 101, len(levels)))
    return CocoResult(
        summary={}, per_class=dict(zip(names, levels, strict=True)), precision=precision,
        boxes={name: 1 for name in names}, images=1, detections=detections, engine="hotcoco",
    )  # fmt: skip


@pytest.fixture
def axes_of(tmp_path, monkeypatch):
    """The two axes of the figure that is written for a result."""
    saved = []
    write = Figure.savefig

    def savefig(figure, *args, **kwargs):
        saved.append(figure)
        write(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)

    def axes(result):
        precision_recall(result, tmp_path / "curves.png")
        return saved[-1].axes

    return axes


def legend(axes):
    """Text -> colour 0..255, in the order of the legend."""
    handles, texts = axes.get_legend_handles_labels()
    colors = [tuple(round(255 * c) for c in to_rgb(h.get_color())) for h in handles]
    return dict(zip(texts, colors, strict=True))


def test_a_class_keeps_its_drawing_colour_when_the_order_changes(axes_of):
    """Class 1 has no ground truth; the better class stands first, in its own colour."""
    _, first = axes_of(result([0.25, -1, 0.75]))
    _, second = axes_of(result([0.5, -1, 0.25]))
    assert list(legend(first).items()) == [
        ("class 2  AP 0.750", color(2)),
        ("class 0  AP 0.250", color(0)),
    ]
    assert list(legend(second).items()) == [
        ("class 0  AP 0.500", color(0)),
        ("class 2  AP 0.250", color(2)),
    ]


def test_with_many_classes_the_extremes_keep_their_colours(axes_of):
    """Twenty classes, AP k / 20: classes 19 to 16 and 3 to 0, and their mean 9.5 / 20."""
    _, axes = axes_of(result([k / 20 for k in range(20)]))
    expected = [(f"class {k}  AP {k / 20:.3f}", color(k)) for k in (19, 18, 17, 16, 3, 2, 1, 0)]
    assert list(legend(axes).items()) == [*expected, ("mean of all  AP 0.475", (0, 0, 0))]


@pytest.mark.parametrize(
    ("found", "words"),
    [(result([0.0] * 13, detections=0), "no detections"), (result([-1, -1]), "no ground truth"),
     (result([-1], detections=0), "no ground truth")],
)  # fmt: skip
def test_without_curves_the_axes_say_why(axes_of, found, words):
    for axes in axes_of(found):
        assert [text.get_text() for text in axes.texts] == [words]
        assert not axes.lines and axes.get_legend() is None


def test_perfect_curves_lie_inside_the_frame_and_show_each_other(axes_of):
    """Three equal curves: their marks stand at recall .03 .12 …, .06 .15 … and .09 .18 …"""
    for axes in axes_of(result([1.0, 1.0, 1.0])):
        low, high = axes.get_ylim()
        assert low < 0 and high > 1 and axes.get_xlim()[1] > 1
        marks = [set(range(101)[line.get_markevery()[0] :: 9]) for line in axes.lines[1::2]]
        assert [min(m) for m in marks] == [3, 6, 9] and not set.intersection(*marks)
        above = {line.get_zorder() for line in axes.lines[1::2]}
        assert min(above) > max(line.get_zorder() for line in axes.lines[::2])
        assert {line.get_markevery()[1] for line in axes.lines} == {9}


def test_both_panels_have_numbers_and_stand_close(axes_of):
    left, right = axes_of(result([0.5] * 12))
    for axes in (left, right):
        shown = {text.get_text() for text in axes.get_yticklabels() if text.get_visible()}
        assert {"0.0", "0.2", "1.0"} <= shown
        assert axes.yaxis.get_tick_params()["labelleft"]
    assert right.get_position().x0 - left.get_position().x1 < 0.1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["$5_$10 note", "_hidden", "\u732b", r"$\frac$", "a$"])
def test_any_name_is_drawn_as_it_is(axes_of, name):
    """Dollars are no formula, and a leading _ does not hide; letters that the font lacks: quiet."""
    _, classes = axes_of(result([0.5], names=[name]))
    (text,) = classes.get_legend().get_texts()
    assert text.get_text().strip() == f"{name}  AP 0.500" and not text.get_parse_math()
