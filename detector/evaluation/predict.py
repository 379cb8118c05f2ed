"""Prediction and evaluation: from batches to detections in original coordinates and COCO metrics.

N images of a batch, D detections of a file or a data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detector.anchors.generator import AnchorGenerator
from detector.anchors.matching import Assignment
from detector.boxes import clip
from detector.distributed import gather_objects, is_main, sum_over_ranks, together
from detector.evaluation.coco import CocoResult, Engine, evaluate
from detector.evaluation.draw import draw_detections
from detector.evaluation.own_metrics import OwnMetric
from detector.loss.detection import DetectionLoss
from detector.postprocess import Postprocess
from detector.structures import Batch, Detections, Outputs, Validation


@dataclass(eq=False, kw_only=True)
class Predictor:
    """Runs a model on batches; the detections are in pixels of the original images."""

    anchor_generator: AnchorGenerator
    postprocess: Postprocess
    autocast: Callable[[], AbstractContextManager[None]]
    device: torch.device

    @torch.inference_mode()
    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Outputs, Detections]:
        """Outputs of the network, and the detections that they give."""
        with self.autocast():
            outputs = model(batch.images)
        return outputs, self.detections(outputs, batch)

    @torch.inference_mode()
    def detections(self, outputs: Outputs, batch: Batch) -> Detections:
        """Detections in pixels of images of `original_sizes`."""
        height, width = batch.images.shape[-2:]
        detections = self.postprocess(
            outputs,
            self.anchor_generator(height, width, batch.images.device),
            self.anchor_generator.level_lengths(height, width),
            batch.sizes,
        )
        boxes = _scaled(detections.boxes, batch.original_sizes / batch.sizes)
        return replace(detections, boxes=clip(boxes, batch.original_sizes))


def _scaled(boxes: Tensor, factors: Tensor) -> Tensor:
    """Boxes (N, D, 4) times factors (N, 2) of height and width, each side's rounded by itself."""
    return boxes * factors.flip(-1).repeat(1, 2)[:, None].to(boxes.dtype)


def coco_rows(detections: Detections, image_ids: Tensor, category_ids: Sequence[int]) -> np.ndarray:
    """Detections -> float64 (D, 7): image id, x, y, width, height, score, category id."""
    image, rank = detections.present.nonzero(as_tuple=True)
    boxes = detections.boxes[image, rank].double()  # float32 cannot hold every id up to 2**53
    ids = torch.as_tensor(category_ids, device=boxes.device)
    columns = [
        image_ids[image, None].double(),
        boxes[:, :2],
        boxes[:, 2:] - boxes[:, :2],
        detections.scores[image, rank, None].double(),
        ids[detections.labels[image, rank], None].double(),
    ]
    return torch.cat(columns, dim=1).cpu().numpy()


def coco_json(rows: np.ndarray) -> list[dict[str, Any]]:
    """Rows (D, 7) -> the entries of a COCO result file."""
    return [
        {
            "image_id": int(image),
            "category_id": int(category),
            "bbox": [_short(side) for side in box],
            "score": _short(score),
        }
        for image, *box, score, category in rows.tolist()
    ]


def _short(value: float) -> float:
    """Rounded to nine digits, which distinguish any two float32: the file gets no new ties."""
    return float(f"{value:.9g}")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of one pass over a data set."""

    rows: np.ndarray  # float64 (D, 7), of all ranks
    losses: dict[str, float]  # `loss`, `loss/classification`, `loss/box`
    pictures: list[Tensor]  # the first images, drawn


@dataclass(eq=False, kw_only=True)
class Evaluator:
    """Validation loss and COCO metrics from the same forward passes, each image exactly once."""

    loader: Iterable[Batch]  # of this rank's images
    predictor: Predictor
    matcher: Assignment
    criterion: DetectionLoss
    ground_truth: dict[str, Any]
    image_ids: Sequence[int]
    category_ids: Sequence[int]
    class_names: Sequence[str]
    engine: Engine
    pictures: int  # how many of the first images to draw
    own: Mapping[str, OwnMetric] = field(default_factory=dict)  # a user's metrics, by name

    def __call__(self, model: nn.Module) -> Validation:
        """The metrics for the training loop, the same on all ranks."""
        evaluation = self.run(model)
        metrics = None
        with together():  # a user's own metric may fail, and only here
            if is_main():
                metrics = {**self.metrics(evaluation.rows).figures, **evaluation.losses}
        shared = gather_objects(metrics)[0]
        assert isinstance(shared, dict)
        return Validation(shared, evaluation.pictures)

    def metrics(self, rows: np.ndarray) -> CocoResult:
        """COCO and own metrics of detections (D, 7) on this data set."""
        return evaluate(
            rows, self.ground_truth, image_ids=self.image_ids, engine=self.engine, own=self.own
        )

    def run(self, model: nn.Module) -> Evaluation:
        """One pass over the data; the model's training mode is restored."""
        training = model.training
        model.eval()
        rows = [np.zeros((0, 7))]
        tally = torch.zeros(4, dtype=torch.float64, device=self.predictor.device)
        pictures: list[Tensor] = []
        with together():  # each rank has its own images, and only one may meet a broken one
            for batch in self.loader:
                batch = batch.to(self.predictor.device)
                outputs, detections = self.predictor(model, batch)
                rows.append(coco_rows(detections, batch.image_ids, self.category_ids))
                tally += self._tally(outputs, batch)
                if is_main() and len(pictures) < self.pictures:
                    pictures += self._draw(batch, detections)[: self.pictures - len(pictures)]
        model.train(training)
        return self._gather(np.concatenate(rows), tally, pictures)

    @torch.inference_mode()
    def _tally(self, outputs: Outputs, batch: Batch) -> Tensor:
        height, width = batch.images.shape[-2:]
        targets = self.matcher(
            self.predictor.anchor_generator(height, width, batch.images.device), batch
        )
        return self.criterion.tally(outputs, targets)

    def _gather(self, rows: np.ndarray, tally: Tensor, pictures: list[Tensor]) -> Evaluation:
        classification, box = self.criterion.means(sum_over_ranks(tally)).tolist()
        losses = {
            "loss": classification + box,
            "loss/classification": classification,
            "loss/box": box,
        }
        all_rows: list[Any] = gather_objects(rows)
        return Evaluation(rows=np.concatenate(all_rows), losses=losses, pictures=pictures)

    def _draw(self, batch: Batch, detections: Detections) -> list[Tensor]:
        boxes = _scaled(detections.boxes, batch.sizes / batch.original_sizes)
        drawn = []
        for n in range(min(len(batch), self.pictures)):
            height, width = batch.sizes[n].tolist()
            kept = detections.present[n]
            drawn.append(
                draw_detections(
                    batch.images[n, :, :height, :width],
                    boxes[n][kept],
                    detections.labels[n][kept],
                    detections.scores[n][kept],
                    names=self.class_names,
                    threshold=0.3,
                    truth=batch.boxes[n][batch.present[n]],
                )
            )
        return drawn
