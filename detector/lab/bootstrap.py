"""A paired bootstrap over images: how far the choice of images alone moves a difference in AP.

Of one AP alone it gives no interval: AP of resampled images is higher (by 0.002 of 300 digits
images and 0.004 of 60), so that its percentiles lie beside it. In a difference this cancels.

Letters as in matches.py; H hits that count, over all thresholds; R = 101 recall thresholds 0 .. 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.lab.matches import Matches
from detector.lab.statistics import Interval

RECALLS = np.linspace(0, 1, 101)

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class BootstrapResult:
    """Two runs on the same images; the difference is AP of the second minus AP of the first."""

    first: float  # AP, a fraction
    second: float
    difference: float
    interval: Interval  # 95 % percentile interval of the difference
    p: float  # two-sided, of no difference; never below 2 / (resamples + 1)
    below_zero: float  # share of the resamples with a negative difference
    images: int
    resamples: int  # those in which AP is defined
    lacking: float  # share of them without a box of some class, which is not in their mean then


def paired_bootstrap(
    a: Matches, b: Matches, *, resamples: int = 1000, seed: int = 0
) -> BootstrapResult:
    """The first run `a` against the second `b` on the same resampled images.

    Each resample draws I of the I images with replacement. A resample without a box has no AP and
    is left out. The p-value is twice the smaller of the shares (n + 1) / (resamples + 1) of
    differences up to and from zero, at most 1; the added 1 keeps it from being 0, which no finite
    number of resamples can show (Davison and Hinkley 1997, section 4.2).
    """
    return paired_draws(*(resample(run, resamples=resamples, seed=seed) for run in (a, b)))


@dataclass(frozen=True, eq=False)
class Resampled:
    """A run with its AP over resampled images; of one seed, the same images for every run."""

    matches: Matches
    whole: float  # AP of every image once
    draws: NDArray[np.float64]  # (resamples,) AP; -1 where there is no box
    lacking: NDArray[np.bool_]  # (resamples,) whether a class has boxes, and none in the resample


def resample(matches: Matches, *, resamples: int, seed: int = 0) -> Resampled:
    """AP of I images that are drawn with replacement, `resamples` times.

    Images and not detections are drawn: detections of one image depend on each other.
    """
    ranking, images = Ranking(matches), len(matches.image_ids)
    generator = np.random.default_rng(seed)
    draws, lacking = np.empty(resamples), np.empty(resamples, np.bool_)
    classes = ranking.boxes(np.ones(images, np.int64)) > 0
    for index in range(resamples):
        weights = np.bincount(generator.integers(images, size=images), minlength=images)
        draws[index] = ranking.average_precision(weights)
        lacking[index] = not ranking.boxes(weights)[classes].all()
    whole = ranking.average_precision(np.ones(images, np.int64))
    return Resampled(matches, whole, draws, lacking)


def paired_draws(a: Resampled, b: Resampled) -> BootstrapResult:
    """The comparison of two runs that were resampled from one seed; as of paired_bootstrap."""
    for key in ("image_ids", "category_ids"):
        if not np.array_equal(getattr(a.matches, key), getattr(b.matches, key)):
            raise ValueError(f"the two have other {key}; expected the same")
    if not len(a.matches.truth_images):
        raise ValueError("there is no box, and so no AP; expected at least one")
    defined = a.draws > -1  # the two have the same boxes
    differences = (b.draws - a.draws)[defined]
    low, high = np.percentile(differences, (2.5, 97.5)).tolist()
    tail = min((differences <= 0).sum(), (differences >= 0).sum())
    return BootstrapResult(
        first=a.whole,
        second=b.whole,
        difference=b.whole - a.whole,
        interval=Interval(low, high),
        p=min(1.0, 2 * (int(tail) + 1) / (len(differences) + 1)),
        below_zero=float((differences < 0).mean()),
        images=len(a.matches.image_ids),
        resamples=len(differences),
        lacking=float(a.lacking[defined].mean()),
    )


class Ranking:
    """The detections by class and falling score, prepared for AP under many weights.

    Precision and recall are needed at the hits alone: between two of them recall stands still and
    precision falls. A segment is one threshold and class.
    """

    def __init__(self, matches: Matches) -> None:
        order = np.lexsort((matches.images, -matches.scores, matches.classes))
        classes = matches.classes[order]
        self.images = matches.images[order]
        self.truth_images, self.truth_classes = matches.truth_images, matches.truth_classes
        self.num_classes = len(matches.category_ids)
        ignored = matches.ignored[:, order]
        self.thresholds = len(ignored)
        threshold, self.hits = np.nonzero(matches.hit[:, order] & ~ignored)  # both (H,)
        self.classes = classes[self.hits]
        self.segments = threshold * self.num_classes + self.classes
        self.segment_starts = np.searchsorted(self.segments, self.segments)
        self.class_starts = np.searchsorted(classes, self.classes)
        ignored_threshold, self.ignored = np.nonzero(ignored)
        # The ignored before a hit in its segment: one running sum at two positions, subtracted.
        positions = ignored_threshold * len(order) + self.ignored
        self.ignored_until = np.searchsorted(positions, threshold * len(order) + self.hits)
        self.ignored_from = np.searchsorted(positions, threshold * len(order) + self.class_starts)

    def average_precision(self, weights: Ints) -> float:
        """COCO's AP (IoU .5:.95, all areas, 100 detections) of a multiset of images.

        `weights` int (I,) says how often each image is in it; -1 without a box. Equal scores stay
        in pycocotools' order, by image and in an image as in the file; copies of an image stand
        together, each of its detections as often as the image before the next detection.
        """
        boxes = self.boxes(weights)
        present = boxes > 0
        if not present.any():
            return -1.0
        true, shown = self._counts(weights[self.images])
        recall = true / np.maximum(boxes, 1)[self.classes]
        precision = true / (shown + np.spacing(1))  # pycocotools adds it, too
        return float(self._interpolated(recall, precision)[:, present].mean())

    def boxes(self, weights: Ints) -> Ints:
        """(K,) of each class in these images."""
        return np.bincount(self.truth_classes, weights[self.truth_images], self.num_classes)

    def _counts(self, copies: Ints) -> tuple[Ints, Ints]:
        """True positives, and all positives, up to each hit (H,) in its segment."""
        seen, true, ignored = map(_running, (copies, copies[self.hits], copies[self.ignored]))
        shown = seen[self.hits + 1] - seen[self.class_starts]
        shown -= ignored[self.ignored_until] - ignored[self.ignored_from]
        return true[1:] - true[self.segment_starts], shown

    def _interpolated(
        self, recall: NDArray[np.float64], precision: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The best precision at each recall threshold or beyond it, (T, K, R)."""
        best = np.zeros(self.thresholds * self.num_classes * len(RECALLS))
        # The last threshold that each hit attains; it rises in a segment, and with the segments.
        attained = np.searchsorted(RECALLS, recall, side="right") - 1
        cells = self.segments * len(RECALLS) + attained
        first = np.flatnonzero(np.diff(cells, prepend=-1))
        best[cells[first]] = np.maximum.reduceat(precision, first)
        curves = best.reshape(self.thresholds, self.num_classes, len(RECALLS))
        return np.maximum.accumulate(curves[..., ::-1], axis=-1)


def _running(counts: Ints) -> Ints:
    """(n,) -> (n + 1,): the sum of all before."""
    return np.concatenate([[0], np.cumsum(counts)])
