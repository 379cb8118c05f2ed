"""What an evaluation says of classes, scores and images, of three images made by hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detector.data.coco import CocoIndex
from detector.errors import InputError
from detector.files import write_json
from detector.report.run_evaluation import (
    ImageErrors,
    RunEvaluation,
    best_score,
    class_figures,
    confusion,
    read_evaluation,
    score_curve,
    worst_images,
)

# image, class, x, y, width, height; a crowd of dogs (9) in image 3, no box in image 5
BOXES = [
    (7, 2, 0, 0, 10, 20), (7, 9, 30, 10, 12, 10), (3, 2, 5, 5, 20, 10), (3, 9, 20, 30, 20, 20),
]  # fmt: skip
# the last: of an image more, and its score
FOUND = [
    (7, 2, 0, 0, 10, 20, 0.9),  # right
    (7, 2, 30, 10, 12, 10, 0.8),  # the box of a dog
    (3, 2, 5, 5, 20, 6, 0.7996),  # IoU 0.6: right at three of the ten thresholds
    (3, 9, 22, 32, 10, 10, 0.95),  # in the crowd
    (5, 9, 50, 5, 9, 8, 0.6),  # nothing there
    (5, 2, 20, 5, 9, 8, 0.5),  # nor there
]
# cat: precision 1, 1/2, 2/3 and 1/2 at recalls 1/2, 1/2, 1, 1; above IoU .6 its second half is lost
AP50, AP_HALF = (51 + 50 * 2 / 3) / 101, 51 / 101
AP = (3 * AP50 + 7 * AP_HALF) / 10


def made(folder: Path, **metrics: float) -> RunEvaluation:
    """The evaluation, as its files say it is."""
    for image in (7, 3, 5):
        Image.new("RGB", (64, 48)).save(folder / f"{image}.png")
    rows: list[dict[str, Any]] = [
        {"id": n, "image_id": image, "category_id": k, "bbox": box, "iscrowd": int(n == 4)}
        for n, (image, k, *box) in enumerate(BOXES, start=1)
    ]
    write_json(folder / "truth.json", {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48}
                   for i in (7, 3, 5)],
        "categories": [{"id": 2, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": rows,
    })  # fmt: skip
    write_json(folder / "detections.json", [
        {"image_id": image, "category_id": k, "bbox": box, "score": score}
        for image, k, *box, score in FOUND
    ])  # fmt: skip
    write_json(
        folder / "metrics.json", {"AP": AP / 2, "images": 3, "detections": len(FOUND)} | metrics
    )
    return read_evaluation(folder, CocoIndex.read(folder / "truth.json", folder))


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> RunEvaluation:
    return made(tmp_path_factory.mktemp("evaluation"))


def test_figures_of_other_images_are_refused(evaluation: RunEvaluation, tmp_path: Path) -> None:
    """AP .0001 away is that of other boxes."""
    with pytest.raises(InputError, match="other images or boxes"):
        made(tmp_path, AP=AP / 2 + 1e-4)


def test_an_evaluation_is_old_where_its_checkpoint_is_younger(
    evaluation: RunEvaluation, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "best.pt"
    assert not evaluation.older_than(checkpoint)
    checkpoint.touch()
    for time, old in ((1e9, False), (4e9, True)):
        os.utime(checkpoint, (time, time))
        assert evaluation.older_than(checkpoint) == old


def test_a_score_curve_leaves_the_crowd_out(evaluation: RunEvaluation) -> None:
    """Three boxes; hits 1, 1, 2, 2, 2. Of cats two boxes and four detections, hits 1, 1, 2, 2."""
    curve = score_curve(evaluation.matches)
    assert curve.scores.tolist() == [0.9, 0.8, 0.7996, 0.6, 0.5]
    assert curve.f1.tolist() == pytest.approx([2 / 4, 2 / 5, 4 / 6, 4 / 7, 4 / 8])
    assert curve.recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3])
    cats = score_curve(evaluation.matches, 0)
    assert cats.f1.tolist() == pytest.approx([2 / 3, 2 / 4, 4 / 5, 4 / 6])


def test_the_best_score_keeps_its_detection(evaluation: RunEvaluation) -> None:
    """0.7996 is 0.800 when rounded."""
    assert best_score(evaluation.matches) == 0.799


def test_figures_of_classes(evaluation: RunEvaluation) -> None:
    """AR: both cats at .5 to .6, one above. The dog's box is not found, nor is the crowd a dog."""
    cat, dog = class_figures(evaluation)
    assert (cat.name, cat.boxes, cat.f1, cat.score) == ("cat", 2, pytest.approx(0.8), 0.799)
    assert (cat.ap, cat.ap50) == (pytest.approx(AP), pytest.approx(AP50))
    assert cat.ar == pytest.approx((3 * 1 + 7 * 0.5) / 10)
    assert (dog.boxes, dog.ap, dog.ap50, dog.ar, dog.f1, dog.score) == (1, 0, 0, 0, 0, None)


def test_the_matrix_has_truth_in_rows(evaluation: RunEvaluation) -> None:
    """A dog taken for a cat; from .55 on the one false dog, from .5 on a false cat, too."""
    assert confusion(evaluation, 0.55).tolist() == [[2, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert confusion(evaluation, 0.5).tolist() == [[2, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert confusion(evaluation, 0.8).tolist() == [[1, 0, 1], [1, 0, 0], [0, 0, 0]]


def test_the_worst_images_come_first(evaluation: RunEvaluation) -> None:
    """Two errors each in images 7 and 5: in 7 the false positive is surer. None in image 3."""
    worst = [
        ImageErrors(7, 2, 1, (("cat", 0.8),)), ImageErrors(5, 0, 0, (("dog", 0.6), ("cat", 0.5))),
    ]  # fmt: skip
    assert worst_images(evaluation, 0.5, 9) == worst
    assert worst_images(evaluation, 0.5, 1) == worst[:1]
    assert [(one.image_id, one.missed) for one in worst_images(evaluation, 0.85, 9)] == [
        (3, 1), (7, 1),
    ]  # fmt: skip


def test_errors_in_words() -> None:
    found = tuple((name, 0.9) for name in "abcd")
    assert str(ImageErrors(1, 5, 2, found)) == (
        "2 of 5 boxes missed, 4 false positives: a 0.90, b 0.90, c 0.90 and 1 more"
    )
    assert str(ImageErrors(1, 1, 0, ())) == "none of 1 box missed, no false positive"
