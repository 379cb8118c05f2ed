"""From outputs to boxes in the images' own pixels, on oblong images of different sizes."""

import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from detector import build
from detector.anchors.box_coder import BoxCoder
from detector.anchors.class_code import ClassCode
from detector.anchors.generator import AnchorGenerator
from detector.anchors.matching import Matcher
from detector.cli.predict import predict
from detector.data.batch import Sample, collate
from detector.engine.restore import Classes
from detector.evaluation import predict as predict_module
from detector.evaluation.predict import Evaluator, Predictor, coco_json, coco_rows
from detector.loss.box import L1, BoxLoss
from detector.loss.classification import ClassificationLoss
from detector.loss.detection import DetectionLoss
from detector.loss.focal import Focal
from detector.loss.normalizer import Images
from detector.loss.sampling import All
from detector.postprocess import Postprocess
from detector.structures import Batch, Outputs

HOME = Path(__file__).parents[2]
CPU = torch.device("cpu")
CODE = ClassCode(num_classes=2, prior=None)
IDS = [3, 7]  # of the categories
ANCHORS = AnchorGenerator([32], [[(32, 32)]])  # the anchor of a cell is the cell


class Sees(nn.Module):
    """The second class, with score sigmoid(5), at one row and column of each image's cells."""

    def __init__(self, *cells: tuple[int, int], base: float = -10.0) -> None:
        super().__init__()
        self.cells = cells
        self.base = base
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Outputs:
        self.modes.append(self.training)
        count, (height, width) = len(images), images.shape[-2:]
        logits = torch.full((count, height // 32, width // 32, 2), self.base)
        for image, (row, column) in enumerate(self.cells[:count]):
            logits[image, row, column, 1] = 5.0
        return Outputs(logits.flatten(1, 2), torch.zeros(count, logits[0, ..., 0].numel(), 4))


def predictor() -> Predictor:
    post = Postprocess(CODE, BoxCoder(), score=0.5, per_level=100, nms=0.5, per_image=3)
    return Predictor(anchor_generator=ANCHORS, postprocess=post, autocast=nullcontext, device=CPU)


def sample(
    height: int, width: int, original: tuple[int, int], number: int, boxes: Sequence[Any] = ()
) -> Sample:
    return Sample(
        image=torch.full((3, height, width), number, dtype=torch.uint8),
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor([[False, True]] * len(boxes), dtype=torch.bool).reshape(-1, 2),
        crowd=torch.zeros(len(boxes), dtype=torch.bool),
        image_id=number,
        original_size=original,
        key=0,
    )


def mixed() -> Batch:
    """96 x 64 pixels, that is 3 x 2 cells: 90 x 50, of a file as large, and 40 x 60, of one twice
    as large (width x height)."""
    return collate([sample(50, 90, (50, 90), 42), sample(60, 40, (120, 80), 9)])


def test_boxes_are_in_pixels_of_each_file() -> None:
    """Cells [64 32 96 64], cut to 90 x 50, and [0 32 32 64], cut to 40 x 60 and then doubled."""
    batch = mixed()
    outputs, detections = predictor()(Sees((1, 2), (1, 0)), batch)
    assert outputs.class_logits.shape == (2, 6, 2)
    assert detections.present.tolist() == [[True, False, False]] * 2
    assert detections.boxes[:, 0].tolist() == [[64, 32, 90, 50], [0, 64, 64, 120]]
    score = 1 / (1 + math.exp(-5))
    rows = coco_rows(detections, batch.image_ids, IDS)
    expected = [[42, 64, 32, 26, 18, score, 7], [9, 0, 64, 64, 56, score, 7]]
    np.testing.assert_allclose(rows, expected, rtol=1e-6)


def test_an_oblong_image_made_square() -> None:
    """90 x 50 to 128 x 128; cell [64 32 96 64]: x times 90 / 128, y times 50 / 128."""
    batch = collate([sample(128, 128, (50, 90), 1)])
    _, detections = predictor()(Sees((1, 2)), batch)
    assert detections.boxes[0, 0].tolist() == [45, 12.5, 67.5, 25]


def test_rows_become_entries_with_nine_digits() -> None:
    rows = np.array([[42, 1 / 3, 2, 30, 123.456789012, 0.123456789012, 7]])
    assert coco_json(rows) == [
        {
            "image_id": 42,
            "category_id": 7,
            "bbox": [0.333333333, 2.0, 30.0, 123.456789],
            "score": 0.123456789,
        }
    ]


def test_predict_names_pixels_of_the_file(tmp_path: Path) -> None:
    """A file of 90 x 50, resized to 128 x 128, and one of 64 x 96: each has its own factors."""
    for name, (width, height) in {"a.png": (90, 50), "b.png": (64, 96)}.items():
        Image.new("RGB", (width, height)).save(tmp_path / name)
    config = build.load_config(
        HOME / "configs/retinanet.yaml", ["data.resize={width: 128, height: 128}"]
    )
    trained: Any = SimpleNamespace(
        config=config,
        classes=Classes(["cat", "dog"], IDS),
        net=Sees((1, 2)).eval(),
        predictor=predictor(),
        device=CPU,
    )
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    assert predict(trained, trained.predictor, files, tmp_path, warn=pytest.fail) == 0
    entries = json.loads((tmp_path / "detections.json").read_text())
    assert [entry["bbox"] for entry in entries] == [[45, 12.5, 22.5, 12.5], [32, 24, 16, 24]]
    assert [entry["category"] for entry in entries] == ["dog", "dog"]
    assert [Path(entry["file_name"]).name for entry in entries] == ["a.png", "b.png"]


def evaluator(loader: list[Batch], *, pictures: int = 0) -> Evaluator:
    """Cross entropy by image; the box of each image is what `Sees` sees, in the file's pixels."""
    truth = [(42, [64, 32, 26, 18]), (9, [0, 64, 64, 56]), (5, [0, 0, 10, 10])]
    ground_truth = {
        "images": [{"id": i} for i, _ in truth],
        "categories": [{"id": i, "name": str(i)} for i in IDS],
        "annotations": [
            {"id": n, "image_id": i, "category_id": 7, "bbox": box,
             "area": box[2] * box[3], "iscrowd": 0}
            for n, (i, box) in enumerate(truth, start=1)
        ],
    }  # fmt: skip
    return Evaluator(
        loader=loader,
        predictor=predictor(),
        matcher=Matcher(foreground=0.5, background=0.4, low_quality=True),
        criterion=DetectionLoss(
            ClassificationLoss(code=CODE, elementwise=Focal(alpha=None, gamma=0), sampler=All()),
            BoxLoss(compare=L1(box_coder=BoxCoder())),
            Images(),
        ),
        ground_truth=ground_truth,
        image_ids=[42, 9],
        category_ids=IDS,
        class_names=["cat", "dog"],
        engine="hotcoco",
        pictures=pictures,
    )


def test_an_evaluation_judges_each_file_in_its_own_pixels() -> None:
    """Both boxes are met; the third image is not asked for, so its box is not missed."""
    net = Sees((1, 2), (1, 0)).train()
    validation = evaluator([mixed()])(net)
    assert validation.metrics["AP"] == pytest.approx(1) and validation.metrics[
        "AP/7"
    ] == pytest.approx(1)
    assert validation.metrics["AP/3"] == -1
    assert net.modes == [False] and net.training


def test_the_validation_loss_is_the_mean_over_all_batches() -> None:
    """All scores are 1/2, so that each anchor costs 2 ln 2, foreground or not: 6 of an image of 3 x
    2 cells, 4 of one of 2 x 2."""
    batches = [collate([sample(64, 96, (64, 96), 42, [[0, 0, 32, 32]])]),
               collate([sample(64, 64, (64, 64), 9)])]  # fmt: skip
    net = Sees(base=0.0)
    assert evaluator(batches).run(net).losses["loss"] == pytest.approx(2 * math.log(2) * 10 / 2)


def test_pictures_show_the_resized_images_without_their_padding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = []

    def draw_detections(image: Tensor, boxes: Tensor, *_: Any, truth: Tensor, **__: Any) -> Tensor:
        drawn.append((tuple(image.shape[1:]), int(image.max()), boxes.tolist(), truth.tolist()))
        return image

    monkeypatch.setattr(predict_module, "draw_detections", draw_detections)
    batch = collate([sample(50, 90, (25, 90), 42, [[1, 2, 3, 4]]), sample(60, 40, (120, 80), 9)])
    evaluation = evaluator([batch, batch], pictures=3).run(Sees((1, 2), (1, 0)))
    assert len(evaluation.pictures) == 3
    assert drawn[0] == ((50, 90), 42, [[64, 32, 90, 50]], [[1, 2, 3, 4]])
    assert drawn[1] == ((60, 40), 9, [[0, 32, 32, 60]], [])
