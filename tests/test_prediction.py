"""What is found in an image, as rows, as another library has it, and drawn; written by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from detector import prediction
from detector.anchors.box_coder import BoxCoder
from detector.anchors.class_code import ClassCode
from detector.data.images import Decoding
from detector.evaluation.predict import Predictor
from detector.postprocess import Postprocess
from detector.prediction import Prediction, detect, predictor_above
from detector.structures import Batch, Detections
from detector.trained import Trained

FOUND = Prediction(
    boxes=torch.tensor([[10.0, 20, 30, 60], [50, 4, 90, 9]]),
    scores=torch.tensor([0.75, 0.5]),
    labels=torch.tensor([2, 0]),
    class_names=["cow", "cat"],
    path=Path("a.jpg"),
)


def test_rows_by_hand() -> None:
    first, second = FOUND.rows()
    assert first == {
        "image": "a.jpg", "class_name": "cow", "class_id": 2, "score": 0.75,
        "x1": 10, "y1": 20, "x2": 30, "y2": 60,
    }  # fmt: skip
    assert (second["class_name"], second["class_id"], second["x1"]) == ("cat", 0, 50)


def test_detections_of_supervision_by_hand() -> None:
    theirs = FOUND.to_supervision()
    assert theirs.xyxy.tolist() == FOUND.boxes.tolist()
    assert theirs.confidence.tolist() == [0.75, 0.5] and theirs.class_id.tolist() == [2, 0]
    assert theirs.data["class_name"].tolist() == ["cow", "cat"]


def test_boxes_are_drawn_where_they_are() -> None:
    """On black, 120 wide and 80 high: something on each of a box's sides, nothing within it."""
    drawn = np.array(replace(FOUND, path=None).draw(np.zeros((80, 120, 3), np.uint8), shorter=1))
    assert drawn.shape == (80, 120, 3)
    bright = drawn.max(axis=2) > 60
    assert not bright[62:, 5:].any()
    columns = np.flatnonzero(bright[50])  # below the label
    assert abs(columns.min() - 10) <= 2 and abs(columns.max() - 30) <= 2
    assert not bright[50, 14:27].any()


def test_the_given_image_is_drawn_on_rather_than_its_own() -> None:
    white = torch.full((3, 80, 120), 255, dtype=torch.uint8)
    own = replace(FOUND, path=None, image=white)
    assert own.draw(shorter=1).getpixel((100, 70)) == (255, 255, 255)
    black = np.zeros((80, 120, 3), np.uint8)
    assert own.draw(black, shorter=1).getpixel((100, 70)) == (0, 0, 0)


DECODING = Decoding(depth=12)


@dataclass(frozen=True)
class Stub:
    """Of a predictor what is exchanged."""

    postprocess: Postprocess


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A detector in name: its batch is the image, its decoding not the usual one."""
    monkeypatch.setattr(prediction, "batch_of", lambda trained, image: image)
    monkeypatch.setattr(prediction.build, "decoding", lambda config: DECODING)
    limits = Postprocess(
        ClassCode(num_classes=3), BoxCoder(), score=0.01, per_level=9, nms=0.5, per_image=4
    )
    return cast(Trained, SimpleNamespace(
        net=None, config=None, device=torch.device("cpu"),
        classes=SimpleNamespace(names=["cat", "dog", "cow"]),
        predictor=Stub(limits),
    ))  # fmt: skip


def test_only_what_is_present_is_kept(trained: Trained) -> None:
    """Two detections and a place left empty; the image is kept if it is of no file."""
    found = Detections(
        torch.cat([FOUND.boxes, torch.zeros(1, 4)])[None], torch.tensor([[0.75, 0.5, 0.0]]),
        torch.tensor([[2, 0, 1]]), torch.tensor([[True, True, False]]),
    )  # fmt: skip

    def predictor(net: object, batch: Batch) -> tuple[None, Detections]:
        return None, found

    image = torch.zeros(3, 80, 120, dtype=torch.uint8)
    one = detect(trained, cast(Predictor, predictor), image)
    other = detect(trained, cast(Predictor, predictor), image, Path("a.jpg"))
    for each in (one, other):
        assert each.boxes.equal(FOUND.boxes) and each.scores.tolist() == [0.75, 0.5]
        assert each.labels.tolist() == [2, 0] and each.class_names == ["cow", "cat"]
        assert each.decoding == DECODING
    assert isinstance(one.image, Tensor) and one.path is None
    assert other.image is None and other.path == Path("a.jpg")


def test_each_class_has_its_own_score(trained: Trained) -> None:
    postprocess = predictor_above(trained, [0.1, 0.2, 0.3]).postprocess
    assert torch.as_tensor(postprocess.score).tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert postprocess.nms == 0.5 and trained.predictor.postprocess.score == 0.01
