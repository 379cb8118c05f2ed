"""Whether an exported program detects what the detector does that it was made from."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_iou

from detector.export.canvas import Canvas
from detector.export.program import Run
from detector.postprocess import Postprocess, nms_groups
from detector.structures import Detections
from detector.trained import Trained

SCORE = 0.05  # detections above are compared
BOX_DIFFERENCE = 0.5  # pixels of the canvas that a side may differ by
SCORE_DIFFERENCE = 1e-3
IOU_MARGIN = 1e-3  # of postprocess.nms, within which rounding may decide
MOST_UNDECIDED = 0.01  # of all detections; more of them would hide a fault

T = TypeVar("T")


@dataclass(frozen=True)
class Pairs:
    """The detections of one image or several, ours beside the exported program's."""

    detections: int  # above SCORE, of ours and of the program's
    matched: int  # of these
    undecided: int  # without a partner, but so near to a limit that rounding decides
    box: float  # largest difference of a side in a pair, pixels
    score: float  # largest difference of scores in a pair

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(
            self.detections + other.detections,
            self.matched + other.matched,
            self.undecided + other.undecided,
            max(self.box, other.box),
            max(self.score, other.score),
        )

    @property
    def agree(self) -> bool:
        """Whether every detection has a partner, but for a few undecided ones."""
        few = self.undecided <= MOST_UNDECIDED * self.detections
        return few and self.matched + self.undecided == self.detections


@dataclass(frozen=True)
class Parity:
    """The comparison over all images."""

    images: int
    pairs: Pairs
    milliseconds: float  # of the exported program, median of the images
    torch_milliseconds: float  # of the detector itself

    def table(self) -> str:
        """For a terminal."""
        pairs = self.pairs
        share = pairs.matched / pairs.detections if pairs.detections else 0.0
        rows = {
            "images": f"{self.images}",
            f"detections above {SCORE}, of both": f"{pairs.detections}",
            "with a partner": f"{pairs.matched} ({share:.2%})",
            "undecided, at a limit": f"{pairs.undecided}",
            "largest difference of a side": f"{pairs.box:.2g} pixels (up to {BOX_DIFFERENCE})",
            "largest difference of scores": f"{pairs.score:.2g} (up to {SCORE_DIFFERENCE})",
            "time an image, exported": f"{self.milliseconds:.1f} ms",
            "time an image, torch": f"{self.torch_milliseconds:.1f} ms",
            "exported / torch": f"{self.milliseconds / self.torch_milliseconds:.2f}",
        }
        return "\n".join(f"{name:36}{value}" for name, value in rows.items())


def measure(trained: Trained, canvas: Canvas, run: Run, images: Iterable[Tensor]) -> Parity:
    """Both on each image, uint8 (3, h, w) RGB, one at a time; on the CPU."""
    predictor, pairs = trained.predictor, Pairs(0, 0, 0, 0.0, 0.0)
    times: list[tuple[float, float]] = []
    for image in images:
        batch = canvas.batch(image)
        own = partial(predictor, trained.net, batch)
        exported = partial(run, batch.images, batch.sizes)
        if not times:  # the first call allocates buffers and chooses kernels
            own(), exported()
        (_, ours), own_time = timed(own)
        theirs, exported_time = timed(exported)
        pairs += pairs_of(ours, theirs, predictor.postprocess)
        times.append((exported_time, own_time))
    return Parity(
        len(times), pairs, *(statistics.median(each) for each in zip(*times, strict=True))
    )


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """What `call` gives, and the milliseconds that it took."""
    start = time.perf_counter()
    result = call()
    return result, 1000 * (time.perf_counter() - start)


def pairs_of(ours: Detections, theirs: Detections, limits: Postprocess) -> Pairs:
    """Two lots of detections of one image, as sets: each has at most one partner in the other.

    limits: by what both were chosen; detections that are near to them may be of one lot only.
    """
    a, b = _present(ours), _present(theirs)
    box = (a.boxes[:, None] - b.boxes).abs().amax(dim=-1)
    score = (a.scores[:, None] - b.scores).abs()
    same = a.labels[:, None] == b.labels
    fits = same & (box <= BOX_DIFFERENCE) & (score <= SCORE_DIFFERENCE)
    # any cost above the number of pairs keeps one from being given up for nearer others
    row, column = linear_sum_assignment(torch.where(fits, box, 1e6).numpy())
    paired = fits[row, column].numpy()
    row, column = torch.from_numpy(row[paired]), torch.from_numpy(column[paired])
    lots = [(a, row, b), (b, column, a)]
    counts = [_counts(lot, partners, other, limits) for lot, partners, other in lots]
    judged, matched, undecided = (sum(values) for values in zip(*counts, strict=True))
    shown = torch.maximum(a.scores[row], b.scores[column]) > SCORE
    return Pairs(
        judged,
        matched,
        undecided,
        max(box[row, column][shown].tolist(), default=0.0),
        max(score[row, column][shown].tolist(), default=0.0),
    )


class _Lot(NamedTuple):
    boxes: Tensor  # (D, 4)
    scores: Tensor  # (D,)
    labels: Tensor  # (D,)
    full: bool  # there may have been more, which postprocess.per_image cut off


def _present(detections: Detections) -> _Lot:
    """Those of the only image."""
    present = detections.present[0]
    return _Lot(
        detections.boxes[0][present],
        detections.scores[0][present],
        detections.labels[0][present],
        bool(present.all()),
    )


def _counts(lot: _Lot, partners: Tensor, other: _Lot, limits: Postprocess) -> tuple[int, int, int]:
    """Detections of `lot` above SCORE: all, those at the indices `partners`, undecided others."""
    judged = lot.scores > SCORE
    paired = torch.zeros_like(judged).index_fill(0, partners, value=True)
    lowest = max(SCORE, limits.score, other.scores.min().item() if other.full else 0.0)
    near = lot.scores <= lowest + SCORE_DIFFERENCE
    overlap = (box_iou(lot.boxes, other.boxes) - limits.nms).abs() <= IOU_MARGIN
    ours, theirs = (nms_groups(one.labels, agnostic=limits.agnostic) for one in (lot, other))
    near |= (overlap & (ours[:, None] == theirs)).any(dim=1)
    masks = judged, judged & paired, judged & ~paired & near
    return tuple(int(mask.sum()) for mask in masks)  # type: ignore[return-value]
