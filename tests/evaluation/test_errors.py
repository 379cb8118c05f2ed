"""The AP50 that each kind of error costs, on cases that can be redone on paper.

Over the 101 thresholds of recall, a box of two that is found alone gives an AP of 51/101.
"""

import random
from typing import Any

import hotcoco
import numpy as np
import pytest

from detector.evaluation.coco import evaluate
from detector.evaluation.errors import Errors, error_split

Box = tuple[int, int, float, float]  # image, class, x, y; 40 by 40 pixels
Found = tuple[int, int, float, float, float]  # image, class, score, x, y

# The IoU of two such boxes that are 4, 20 and 34 pixels apart is 9/11, 1/3 and 3/37.
NONE = dict.fromkeys(
    ["classification", "localisation", "both", "duplicate", "background", "missed"], 0.0
)
TWO: list[Box] = [(1, 1, 0, 0), (1, 2, 200, 200)]
SECOND: Found = (1, 2, 0.5, 200, 200)


def truth_of(boxes: list[Box], crowds: tuple[int, ...] = ()) -> dict[str, Any]:
    """Three images, three classes, and these boxes; `crowds` are places in the list."""
    annotations = [
        {"id": n + 1, "image_id": image, "category_id": label, "bbox": [x, y, 40, 40],
         "area": 1600, "iscrowd": int(n in crowds)}
        for n, (image, label, x, y) in enumerate(boxes)
    ]  # fmt: skip
    return {
        "images": [{"id": image} for image in (1, 2, 3)],
        "categories": [{"id": label, "name": str(label)} for label in (1, 2, 3)],
        "annotations": annotations,
    }


def rows_of(actual: list[Found]) -> np.ndarray:
    rows = [(image, x, y, 40, 40, score, label) for image, label, score, x, y in actual]
    return np.array(rows, np.float64).reshape(-1, 7)


def split(boxes: list[Box], actual: list[Found], crowds: tuple[int, ...] = ()) -> Errors:
    """Of all three images."""
    return error_split(rows_of(actual), truth_of(boxes, crowds), [1, 2, 3])


CASES: dict[str, tuple[list[Box], list[Found], float, dict[str, float]]] = {
    "nothing wrong": (TWO, [(1, 1, 0.9, 0, 0), SECOND], 1, {}),
    # Class 2 has a wrong one above its right one, 1/2; as class 1 it is right, and both are 1.
    "classification": (TWO, [(1, 2, 0.9, 0, 0), SECOND], 0.25, {"classification": 0.75}),
    "localisation": (TWO, [(1, 1, 0.9, 20, 0), SECOND], 0.5, {"localisation": 0.5}),
    # Without it class 2 is 1; without the missed box class 1 has nothing and leaves 1/2 alone.
    "both": (TWO, [(1, 2, 0.9, 20, 0), SECOND], 0.25, {"both": 0.25, "missed": 0.25}),
    # Precision 1 up to a recall of 1/2, and 2/3 at the other 50 thresholds.
    "duplicate": (
        [(1, 1, 0, 0), (1, 1, 200, 200)],
        [(1, 1, 0.9, 0, 0), (1, 1, 0.8, 4, 0), (1, 1, 0.7, 200, 200)],
        (51 + 50 * 2 / 3) / 101,
        {"duplicate": 50 / 3 / 101},
    ),
    "background": (
        TWO,
        [(1, 1, 0.9, 0, 0), (1, 2, 0.9, 400, 400), SECOND],
        0.75,
        {"background": 0.25},
    ),
    "background beside a box": (
        TWO,
        [(1, 1, 0.9, 0, 0), (1, 2, 0.9, 234, 200), SECOND],
        0.75,
        {"background": 0.25},
    ),
    "background in an image without boxes": (
        [(1, 1, 0, 0)],
        [(1, 1, 0.5, 0, 0), (2, 1, 0.9, 0, 0)],
        0.5,
        {"background": 0.5},
    ),
    "missed": (
        [(1, 1, 0, 0), (1, 1, 200, 200)],
        [(1, 1, 0.9, 0, 0)],
        51 / 101,
        {"missed": 50 / 101},
    ),
    # The class has no curve to stretch: it leaves the mean, as a class without boxes does.
    "a class missed whole": (TWO, [SECOND], 0.5, {"missed": 0.5}),
    # Its curve is 0 at every recall, and stays so.
    "a class missed, something else found": (
        TWO,
        [SECOND, (1, 1, 0.9, 400, 400)],
        0.5,
        {},
    ),
    "a class without boxes costs nothing": (
        TWO[:1],
        [(1, 1, 0.5, 0, 0), (1, 3, 0.9, 9, 400)],
        1,
        {},
    ),
    "from a class without boxes": (TWO[:1], [(1, 3, 0.9, 0, 0)], 0, {"classification": 1}),
    # The likelier is meant for box 1 and becomes right, the other one goes: 1, 2/3 where the
    # background one stays, over 34 and 33 thresholds; before, 1/4 up to 1/3.
    "two meant for one box": (
        [(1, 1, 0, 0), (1, 1, 200, 200), (1, 1, 400, 0)],
        [(1, 1, 0.9, 20, 0), (1, 1, 0.8, 300, 400), (1, 1, 0.7, 0, 20), (1, 1, 0.6, 200, 200)],
        34 / 4 / 101,
        {
            "localisation": (34 + 33 * 2 / 3) / 101 - 34 / 4 / 101,
            "background": (34 / 3 - 34 / 4) / 101,
            "missed": (51 - 34) / 4 / 101,
        },
    ),
    # The wrong class is likelier: it alone may take the box, and mending localisation only takes
    # the other out (class 1 from 1/2 to 1 up to a recall of 1/2).
    "the likeliest of both kinds": (
        [(1, 1, 0, 0), (1, 1, 200, 200), (1, 2, 400, 400)],
        [(1, 2, 0.9, 0, 0), (1, 1, 0.8, 20, 0), (1, 1, 0.6, 200, 200), (1, 2, 0.5, 400, 400)],
        (51 / 101 / 2 + 1 / 2) / 2,
        {
            "localisation": 51 / 101 / 4,
            "classification": ((51 + 50 * 2 / 3) / 101 + 1) / 2 - (51 / 101 / 2 + 1 / 2) / 2,
        },
    ),
    # Localisation of a box that is found already only takes it out.
    "meant for a box that is taken": (
        [(1, 1, 0, 0), (1, 1, 200, 200)],
        [(1, 1, 0.9, 0, 0), (1, 1, 0.8, 20, 0), (1, 1, 0.7, 200, 200)],
        (51 + 50 * 2 / 3) / 101,
        {"localisation": 50 / 3 / 101},
    ),
    # Near its own class and right on another one: tidecv's order says localisation.
    "localisation comes before classification": (
        [(1, 1, 0, 0), (1, 2, 20, 0)],
        [(1, 1, 0.9, 20, 0), (1, 2, 0.5, 20, 0)],
        0.5,
        {"localisation": 0.5},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_cost_of_each_kind(case: str) -> None:
    boxes, actual, base, gains = CASES[case]
    result = split(boxes, actual)
    assert result.ap50 == pytest.approx(base)
    assert result.gains == pytest.approx({**NONE, **gains})


def test_what_a_crowd_hides_is_no_error() -> None:
    """Nor is it right: of two detections that count, the likelier is wrong."""
    boxes: list[Box] = [(1, 1, 0, 0), (1, 1, 400, 400)]
    hidden: list[Found] = [(1, 1, 0.9, 400, 400), (1, 1, 0.8, 404, 400)]
    result = split(boxes, [*hidden, (1, 1, 0.7, 200, 200), (1, 1, 0.5, 0, 0)], crowds=(1,))
    assert result.ap50 == pytest.approx(0.5)
    assert result.gains == pytest.approx({**NONE, "background": 0.5})


def test_a_crowd_is_nothing_that_a_detection_could_be_meant_for() -> None:
    """25 pixels beside a crowd: it hides 3/8 of the detection, too little, and has an IoU of 3/13.

    So the detection is wrong, and is about nothing: hotcoco calls it wrongly placed."""
    boxes: list[Box] = [(1, 1, 0, 0), (1, 1, 200, 0)]
    result = split(boxes, [(1, 1, 0.9, 225, 0), (1, 1, 0.5, 0, 0)], crowds=(1,))
    assert result.ap50 == pytest.approx(0.5)
    assert result.gains == pytest.approx({**NONE, "background": 0.5})


@pytest.mark.parametrize(("wrong_first", "ap", "gain"), [(True, 0.5, 0.5), (False, 1.0, 0.0)])
def test_equal_scores_count_in_the_order_of_the_rows(
    wrong_first: bool, ap: float, gain: float
) -> None:
    actual: list[Found] = [(1, 1, 0.5, 400, 400), (1, 1, 0.5, 0, 0)]
    result = split(TWO[:1], actual if wrong_first else actual[::-1])
    assert result.ap50 == pytest.approx(ap)
    assert result.gains == pytest.approx({**NONE, "background": gain})


@pytest.mark.parametrize(("wrong_first", "gain"), [(True, 0.5), (False, 1.0)])
def test_a_mended_detection_keeps_its_row(wrong_first: bool, gain: float) -> None:
    """Of class 2 it becomes one of class 1, of which another one has the same score."""
    actual: list[Found] = [(1, 1, 0.5, 400, 400), (1, 2, 0.5, 0, 0)]
    result = split(TWO[:1], actual if wrong_first else actual[::-1])
    assert result.ap50 == 0
    assert result.gains == pytest.approx({**NONE, "classification": gain})


def test_of_equal_scores_the_first_row_takes_the_box() -> None:
    """Wrong class and wrong place, both meant for box 1; above SECOND the former costs class 2 1/2.

    The one that takes the box gives class 1 an AP of 1; to mend the other one takes it out."""
    wrong_class, wrong_place = (1, 2, 0.6, 0, 0), (1, 1, 0.6, 20, 0)
    result = split(TWO, [wrong_class, wrong_place, SECOND])
    assert result.gains == pytest.approx({**NONE, "classification": 0.75})
    result = split(TWO, [wrong_place, wrong_class, SECOND])
    assert result.gains == pytest.approx({**NONE, "classification": 0.25, "localisation": 0.5})


def test_only_the_images_that_are_named() -> None:
    boxes: list[Box] = [(1, 1, 0, 0), (2, 1, 0, 0)]
    actual: list[Found] = [(1, 1, 0.5, 0, 0), (2, 1, 0.9, 400, 0)]
    result = error_split(rows_of(actual), truth_of(boxes), [1])
    assert result.ap50 == pytest.approx(1)
    assert result.gains == NONE


def test_nothing_found_and_nothing_to_find() -> None:
    """Without a detection no class is left once the missed boxes are out: that is no number."""
    assert split(TWO, []) == Errors(0, {**NONE, "missed": None})
    assert split([], [(1, 1, 0.5, 0, 0)]) == Errors(None, dict.fromkeys(NONE))


def scene(chance: random.Random) -> tuple[list[Box], list[Found]]:
    """Boxes close together, and detections of them with errors of all kinds, no two alike."""

    def spot() -> Box:
        image, label = chance.randint(1, 3), chance.randint(1, 3)
        return image, label, chance.uniform(0, 99), chance.uniform(0, 99)

    boxes = [spot() for _ in range(chance.randint(3, 12))]
    near = [
        (image, label if chance.random() < 0.7 else chance.randint(1, 3),
         x + chance.uniform(-20, 20), y + chance.uniform(-8, 8))
        for image, label, x, y in boxes for _ in range(chance.choice([0, 1, 1, 2]))
    ]  # fmt: skip
    far = [spot() for _ in range(chance.randint(0, 3))]
    everywhere = [(3, label, 300, 300) for label in (1, 2, 3)]
    scores = iter(chance.sample(range(1, 1000), 100))
    return boxes, [(i, k, next(scores) / 1000, x, y) for i, k, x, y in near + far + everywhere]


NAMES = dict(zip(["Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"], NONE, strict=True))


@pytest.mark.parametrize("seed", range(60))
def test_hotcoco_agrees_where_every_class_is_detected(seed: int) -> None:
    boxes, actual = scene(random.Random(seed))
    result = split(boxes, actual)
    truth = hotcoco.COCO(truth_of(boxes))
    evaluation = hotcoco.COCOeval(truth, truth.loadRes(rows_of(actual)), "bbox")
    evaluation.evaluate()
    theirs = evaluation.tide_errors(pos_thr=0.5, bg_thr=0.1)
    assert result.ap50 == pytest.approx(theirs["ap_base"], abs=1e-9)
    gains = {name: theirs["delta_ap"][key] for key, name in NAMES.items()}
    assert result.gains == pytest.approx(gains, abs=1e-9)
    ours = evaluate(rows_of(actual), truth_of(boxes))
    assert result.ap50 == pytest.approx(ours.summary["AP50"], abs=1e-9)
