"""What a detector finds in one image, and what is done with it: drawn, listed, handed on.

D detections of an image, K classes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from detector import build
from detector.data.images import Decoding, ImageInput, to_image
from detector.errors import InputError
from detector.evaluation.draw import LEGIBLE, draw_detections
from detector.evaluation.predict import Predictor
from detector.trained import Trained, batch_of

if TYPE_CHECKING:
    from supervision import Detections


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction:
    """What was detected in one image, best first."""

    boxes: Tensor  # float32 (D, 4) x1 y1 x2 y2 in pixels of the image as it was given
    scores: Tensor  # float32 (D,) in 0 .. 1
    labels: Tensor  # int64 (D,) indices into the detector's `class_names`
    class_names: list[str]  # D, those of the labels
    path: Path | None = None  # of the image; None if it was no file
    # of an image that was no file; files are read again, since a thousand photographs fill memory
    image: Tensor | None = field(default=None, repr=False)  # uint8 (3, H, W) RGB
    decoding: Decoding = field(default=Decoding(), repr=False)

    def __len__(self) -> int:
        return len(self.scores)

    def draw(self, image: ImageInput | None = None, *, shorter: int = LEGIBLE) -> Image.Image:
        """The image with boxes, names and scores, in RGB.

        image: to draw on; None: the one that was predicted, whose file is read again. InputError
            where that is gone.
        shorter: an image whose shorter side has fewer pixels is enlarged by a whole factor, or
            the names would cover the objects; 1: no image is.
        """
        given = next(one for one in (image, self.image, self.path) if one is not None)
        drawn = draw_detections(
            to_image(given, "image", self.decoding),
            self.boxes,
            self.labels,
            self.scores,
            names=dict(zip(self.labels.tolist(), self.class_names, strict=True)),
            threshold=0,
            shorter=shorter,
        )
        return Image.fromarray(drawn.permute(1, 2, 0).numpy())

    def rows(self) -> list[dict[str, Any]]:
        """A dict a box, such as `pandas.DataFrame` takes: image, class_name, class_id, score,
        x1, y1, x2, y2. image: its path, None if it was no file; class_id: the label."""
        image = None if self.path is None else str(self.path)
        return [
            {
                "image": image, "class_name": name, "class_id": label, "score": score,
                **dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
            }
            for name, label, score, box in zip(
                self.class_names, self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(),
                strict=True,
            )
        ]  # fmt: skip

    def to_supervision(self) -> Detections:
        """`supervision.Detections`, with `data["class_name"]`; InputError where it is missing."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="OpenCV")  # of which nothing here needs more
            try:
                from supervision import Detections
            except ImportError:
                raise InputError(
                    "to_supervision needs supervision, which is not installed: "
                    "pip install supervision."
                ) from None
        import numpy as np

        return Detections(
            xyxy=self.boxes.numpy(),
            confidence=self.scores.numpy(),
            class_id=self.labels.numpy(),
            data={"class_name": np.array(self.class_names, dtype=str)},
        )

    def _repr_png_(self) -> bytes:
        """The drawn image, which a notebook shows."""
        file = io.BytesIO()
        self.draw().save(file, "PNG")
        return file.getvalue()


def predictor_above(trained: Trained, scores: Sequence[float]) -> Predictor:
    """The predictor of `trained` for detections above the score of their class (K,)."""
    lowest = torch.tensor(scores, device=trained.device)
    predictor = trained.predictor
    return replace(predictor, postprocess=replace(predictor.postprocess, score=lowest))


def detect(
    trained: Trained, predictor: Predictor, image: Tensor, path: Path | None = None
) -> Prediction:
    """What is in an image, uint8 (3, H, W) RGB, which is kept if it has no `path`."""
    _, found = predictor(trained.net, batch_of(trained, image))
    present = found.present[0]
    boxes, scores, labels = (
        values[0][present].cpu() for values in (found.boxes, found.scores, found.labels)
    )
    return Prediction(
        boxes=boxes,
        scores=scores,
        labels=labels,
        class_names=[trained.classes.names[label] for label in labels.tolist()],
        path=path,
        image=image if path is None else None,
        decoding=build.decoding(trained.config),
    )
