"""Groups of classes by frequency, and means that leave no seed out, by hand."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import folder, results, write

from detector.evaluation.froc import Froc
from detector.lab.results import read_results
from detector.report import measures
from detector.report.diagnostics import ClassDiagnosis, Diagnostics
from detector.report.folder import AblationFolder, read_folder
from detector.report.markdown import measures_table
from detector.report.seed_means import recall_curve


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> AblationFolder:
    return read_folder(folder(tmp_path_factory.mktemp("measures") / "tiny"))


def with_classes(
    ablation: AblationFolder, *runs: Sequence[tuple[int | None, float]]
) -> AblationFolder:
    """The ablation with the first variant alone, whose runs have classes (boxes, AP) a, b, …"""
    variant = ablation.variants[0]
    results = [
        replace(
            run,
            diagnostics=Diagnostics(
                classes=[
                    ClassDiagnosis(name, boxes, ap)
                    for name, (boxes, ap) in zip("abcdefg", classes, strict=False)
                ]
            ),
        )
        for run, classes in zip(variant.runs, runs, strict=False)
    ]
    return replace(ablation, variants=(replace(variant, runs=tuple(results)),))


def test_thirds_are_of_the_classes(ablation: AblationFolder) -> None:
    """Four, by falling number: a thousand boxes alone, then 30, and 20 and 10 together."""
    classes = [(1000, 0.9), (30, 0.5), (20, 0.3), (10, 0.1)]
    better = [(boxes, ap + 0.1) for boxes, ap in classes]
    head, rows = measures.class_groups(with_classes(ablation, classes, better))
    assert head[1:] == [
        "rare: 2 classes, 10 to 20 boxes",
        "common: 1 class, 30 to 30 boxes",
        "frequent: 1 class, 1000 to 1000 boxes",
    ]
    assert rows == [
        (
            "focal",
            [
                ("0.250", "0.200 to 0.300"),
                ("0.550", "0.500 to 0.600"),
                ("0.950", "0.900 to 1.000"),
            ],
        )
    ]


def test_training_sets_of_seeds_may_differ(ablation: AblationFolder) -> None:
    """Means of 100 and 300, of 60 and 20, and of 20 and 20."""
    first, second = [(100, 0.3), (60, 0.2), (20, 0.1)], [(300, 0.3), (20, 0.2), (20, 0.1)]
    head, _ = measures.class_groups(with_classes(ablation, first, second))
    assert head[1:] == [
        "rare: 1 class, 20 to 20 boxes",
        "common: 1 class, 40 to 40 boxes",
        "frequent: 1 class, 200 to 200 boxes",
    ]


@pytest.mark.parametrize(
    "classes",
    [
        [(30, 0.9), (20, 0.5), (10, 0.3)],  # three to one, and not more
        [(1000, 0.9), (10, 0.5)],
        [(1000, 0.9), (20, 0.5), (10, -1.0)],  # one without validation boxes
        [(None, 0.9), (None, 0.5), (None, 0.3)],
    ],
)
def test_no_groups(ablation: AblationFolder, classes: list[tuple[int | None, float]]) -> None:
    assert measures.class_groups(with_classes(ablation, classes)) == ([], [])


def model(*recall: float | None) -> Diagnostics:
    return Diagnostics(froc=Froc(1000, (0.5, 1.0, 2.0), recall, {}))


def test_the_mean_curve_ends_with_the_first_that_does() -> None:
    curve = recall_curve([model(0.2, 0.4, 0.8), model(0.4, 0.5, None)])
    assert curve is not None
    assert curve[0].tolist() == [0.5, 1.0] and np.allclose(curve[1], [0.3, 0.45])
    assert recall_curve([Diagnostics()]) is None


def test_the_table_of_a_file(tmp_path: Path) -> None:
    """(1.25 + 2 + 4) / 3 = 2.417; no mean of recall 0.8, which one run of three never reaches.

    Nor of plain_ce, one of whose runs diverged: that of the others would hide it.
    """
    content = deepcopy(results())
    content["variants"][1] |= {"diverged": [2], "measures": {"AP50": {"0": 0.5, "1": 0.5}}}
    content["variants"][1]["values"]["2"] = None
    content["variants"][0]["measures"] = {
        "AP50": {"0": 0.5, "1": 0.625, "2": 0.75},
        "FP an image, recall 0.5": {"0": 1.25, "1": 2.0, "2": 4.0},
        "FP an image, recall 0.8": {"0": 1.25, "1": None, "2": 4.0},
    }
    write(tmp_path / "results.json", content)
    head, _, focal, *others = measures_table(read_results(tmp_path / "results.json")).splitlines()
    assert head == (
        "| variant | AP | AP50 | AR | FP an image, recall 0.5 | FP an image, recall 0.8 "
        "| optimal LRP error | D-ECE |"
    )
    assert focal == (
        "| focal | – | 0.625 (0.500 to 0.750) | – | 2.417 (1.25 to 4) | – (2 of 3 runs have it) "
        "| – | – |"
    )
    assert others[0].startswith("| plain_ce | – | – (2 of 3 runs have it) |") and len(others) == 2
