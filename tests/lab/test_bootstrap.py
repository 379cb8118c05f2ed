"""AP of any images: against pycocotools itself; the bootstrap: against paper and pencil."""

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.lab.bootstrap import Ranking, paired_bootstrap
from detector.lab.matches import Matches, match

BOX = (10, 10, 50, 40)
AWAY = (200, 200, 50, 40)


def data_set(boxes, images, categories=(1,)):
    """COCO content; boxes are (image id, category id, crowd, x, y, w, h)."""
    return {
        "images": [{"id": i} for i in images],
        "categories": [{"id": c, "name": f"c{c}"} for c in categories],
        "annotations": [
            {"id": n, "image_id": int(i), "category_id": int(c), "iscrowd": int(crowd)}
            | {"bbox": box, "area": box[2] * box[3]}
            for n, (i, c, crowd, *box) in enumerate(boxes, start=1)
        ],
    }


def random_case(seed, scores):
    """Truth and detections: sparse ids, crowds, empty images, absent classes, 260 strays.

    `scores` gives those of n detections.
    """
    rng = np.random.default_rng(seed)
    images = rng.choice(5_000, size=rng.integers(1, 9), replace=False)
    categories = rng.choice(500, size=rng.integers(1, 5), replace=False)
    count, strays = int(rng.choice([0, 1, *range(5, 40)])), int(rng.choice([0, 20, 260]))

    def places(n):
        return np.column_stack([rng.choice(images, n), rng.choice(categories, n)])

    def boxes(n):
        return np.hstack([rng.integers(0, 150, (n, 2)), rng.integers(20, 90, (n, 2))])

    where, what = places(count), boxes(count)
    truth = np.column_stack([where, rng.random(count) < 0.2, what]).tolist()
    shifted = what + rng.normal(0, 3, (count, 4)) * (rng.random((count, 1)) < 0.7)
    found = np.vstack([np.hstack([where, shifted]), np.hstack([places(strays), boxes(strays)])])
    found = rng.permutation(found)
    detections = np.column_stack(
        [found[:, 0], found[:, 2:4], found[:, 4:].clip(0), scores(rng, len(found)), found[:, 1]]
    )
    return data_set(truth, images.tolist(), categories.tolist()), detections


def tied(rng, n):
    """Eleven values, so that there are ties in and between images."""
    return rng.random(n).round(1)


def distinct(rng, n):
    return rng.permutation(n) / (n + 1)


def reference(content, detections, image_ids):
    """AP of these images by pycocotools alone."""
    truth = COCO()
    truth.dataset = json.loads(json.dumps(content))
    truth.createIndex()
    found = truth.loadRes(detections) if len(detections) else COCO()
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.params.imgIds = image_ids
    evaluation.params.catIds = sorted(c["id"] for c in content["categories"])
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 2]
    defined = precision[precision > -1]
    return defined.mean() if defined.size else -1


def copied(content, detections, weights):
    """The multiset as a data set: copy n of image i has the id 10 i + n."""
    images = sorted(image["id"] for image in content["images"])
    copies = {i: [10 * i + n for n in range(w)] for i, w in zip(images, weights, strict=True)}
    rows = [
        [a["image_id"], a["category_id"], a["iscrowd"], *a["bbox"]] for a in content["annotations"]
    ]
    truth = [[copy, *row[1:]] for row in rows for copy in copies[row[0]]]
    found = [[copy, *row[1:]] for row in detections for copy in copies[row[0]]]
    every = [copy for several in copies.values() for copy in several]
    categories = [c["id"] for c in content["categories"]]
    return data_set(truth, every, categories), np.array(found).reshape(-1, 7)


def all_images(content):
    return [image["id"] for image in content["images"]]


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_ap_of_every_image_once_is_that_of_pycocotools(seed):
    content, detections = random_case(seed, tied)
    images = all_images(content)
    ours = Ranking(match(detections, content, images)).average_precision(np.ones(len(images), int))
    assert ours == pytest.approx(reference(content, detections, images), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_ap_of_some_images_is_that_of_pycocotools(seed):
    content, detections = random_case(seed, tied)
    matches = match(detections, content, all_images(content))
    weights = np.random.default_rng(seed).integers(0, 2, len(matches.image_ids))
    weights[0] = 1  # pycocotools takes no image for every image
    some = matches.image_ids[weights > 0].tolist()
    expected = reference(content, detections, some)
    assert Ranking(matches).average_precision(weights) == pytest.approx(expected, abs=1e-12)
    alone = match(detections, content, some)
    assert Ranking(alone).average_precision(np.ones(len(some), int)) == pytest.approx(
        expected, abs=1e-12
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_ap_of_a_multiset_is_that_of_the_copied_images(seed):
    """Copies of an image tie with each other; nothing in an image does."""
    content, detections = random_case(seed, distinct)
    matches = match(detections, content, all_images(content))
    weights = np.random.default_rng(seed).integers(0, 4, len(matches.image_ids))
    weights[-1] += 1
    many, found = copied(content, detections, weights)
    expected = reference(many, found, all_images(many))
    assert Ranking(matches).average_precision(weights) == pytest.approx(expected, abs=1e-12)


def test_the_random_cases_are_not_trivial():
    cases = [random_case(seed, tied) for seed in range(60)]
    aps = [reference(*case, all_images(case[0])) for case in cases]
    assert sum(0.05 < ap < 0.95 for ap in aps) >= 15 and -1 in aps
    matches = [match(found, truth, all_images(truth)) for truth, found in cases]
    assert sum(m.ignored.any() for m in matches) >= 10


@pytest.mark.parametrize(
    ("weights", "points"),
    [((1, 1), 51), ((2, 0), 101), ((0, 2), 0), ((1, 3), 26), ((3, 1), 76)],
)
def test_ap_by_hand(weights, points):
    """Found in the first image, missed in the second: precision is 1 up to a recall of 1/2, 1, 0,
    1/4, 3/4, which attains so many of the thresholds 0, 0.01 .. 1."""
    content = data_set([(1, 1, 0, *BOX), (2, 1, 0, *BOX)], [1, 2])
    matches = match(np.array([(1, *BOX, 0.9, 1), (2, *AWAY, 0.8, 1)]), content, [1, 2])
    assert Ranking(matches).average_precision(np.array(weights)) == pytest.approx(
        points / 101, abs=1e-12
    )


def test_ap_counts_a_wrong_detection_as_often_as_its_image():
    """Three wrong ones come before the right one: precision 1/4 up to recall 1."""
    content = data_set([(1, 1, 0, *BOX)], [1, 2])
    matches = match(np.array([(1, *BOX, 0.8, 1), (2, *AWAY, 0.9, 1)]), content, [1, 2])
    assert Ranking(matches).average_precision(np.array([1, 3])) == pytest.approx(1 / 4, abs=1e-12)
    assert Ranking(matches).average_precision(np.array([0, 3])) == -1


def test_resamples_without_a_class_are_counted():
    """One class in each of two images: a draw of two lacks one where both are the same."""
    content = data_set([(1, 1, 0, *BOX), (2, 2, 0, *BOX)], [1, 2], categories=(1, 2, 3))
    matches = match(np.array([(1, *BOX, 0.9, 1)]), content, [1, 2])
    generator = np.random.default_rng(0)
    same = [len(set(generator.integers(2, size=2))) == 1 for _ in range(200)]
    found = paired_bootstrap(matches, matches, resamples=200, seed=0)
    assert found.lacking == np.mean(same) and 0.4 < found.lacking < 0.6
    assert paired_bootstrap(found_in(1), found_in(2)).lacking == 0


def found_in(*image_ids, images=2):
    """The matches of a run that finds the one box of these images, and nothing else."""
    content = data_set([(i + 1, 1, 0, *BOX) for i in range(images)], range(1, images + 1))
    rows = np.array([(i, *BOX, 0.9, 1) for i in image_ids], float).reshape(-1, 7)
    return match(rows, content, range(1, images + 1))


def test_a_run_against_itself():
    found = paired_bootstrap(found_in(1), found_in(1))
    assert found.first == found.second == pytest.approx(51 / 101, abs=1e-12)
    assert found.difference == 0
    assert (found.interval, found.p, found.below_zero) == ((0, 0), 1, 0)
    assert (found.images, found.resamples) == (2, 1000)


def test_a_run_that_is_always_better():
    """No resample says otherwise: p is the least there is, 2 / (resamples + 1)."""
    found = paired_bootstrap(found_in(), found_in(1, 2), resamples=199)
    assert (found.difference, found.interval, found.below_zero) == (1, (1, 1), 0)
    assert found.p == 2 / 200
    swapped = paired_bootstrap(found_in(1, 2), found_in(), resamples=199)
    assert (swapped.difference, swapped.interval, swapped.below_zero) == (-1, (-1, -1), 1)
    assert swapped.p == 2 / 200


def test_two_runs_that_find_one_image_each():
    """Of two draws from two images both are the first in 1/4 (difference -1), both the second in
    1/4 (+1), and else the runs are equal; 1,000 draws are within 4 deviations of .014."""
    found = paired_bootstrap(found_in(1), found_in(2))
    assert (found.difference, found.interval, found.p) == (0, (-1, 1), 1)
    assert found.below_zero == pytest.approx(0.25, abs=0.055)


def test_the_p_value_by_hand():
    """Better in one of three images: no difference in the (2/3)^3 = .296 of the resamples without
    it, so p is .593 with a deviation of 2 * sqrt(.296 * .704 / 10,000) = .009."""
    pair = (found_in(1, images=3), found_in(1, 2, images=3))
    found = paired_bootstrap(*pair, resamples=10_000)
    assert found.p == pytest.approx(2 * 8 / 27, abs=0.04) and found.below_zero == 0
    assert paired_bootstrap(*pair, seed=1) == paired_bootstrap(*pair, seed=1)
    assert paired_bootstrap(*pair, seed=1) != paired_bootstrap(*pair, seed=2)


def test_a_resample_without_a_box_is_left_out():
    """The one box is in one of two images, so that a quarter of the resamples has none."""
    content = data_set([(1, 1, 0, *BOX)], [1, 2])
    right = match(np.array([(1, *BOX, 0.9, 1)]), content, [1, 2])
    wrong = match(np.array([(2, *BOX, 0.9, 1)]), content, [1, 2])
    found = paired_bootstrap(wrong, right)
    assert found.resamples == pytest.approx(750, abs=55)
    assert (found.difference, *found.interval) == pytest.approx((1, 1, 1), abs=1e-12)


def two_runs():
    """Ten images with three boxes each of three classes, and two runs of unequal precision."""
    rng = np.random.default_rng(3)
    what = np.hstack([rng.integers(0, 300, (30, 2)), rng.integers(30, 90, (30, 2))])
    where = np.column_stack([np.repeat(np.arange(10) + 1, 3), rng.integers(1, 4, 30)])
    truth = np.column_stack([where, np.zeros(30, int), what]).tolist()
    runs = [
        np.column_stack(
            [where[:, 0], what + rng.normal(0, noise, (30, 4)), rng.random(30), where[:, 1]]
        )
        for noise in (5, 4)
    ]
    return data_set(truth, range(1, 11), (1, 2, 3)), runs


def test_the_bootstrap_is_that_of_pycocotools_on_copied_images():
    """The whole of it, by brute force: hotcoco.compare drops the copies of an image, so that its
    interval is a quarter too narrow, and cannot be the reference."""
    content, runs = two_runs()
    ours = paired_bootstrap(*(match(run, content, range(1, 11)) for run in runs), resamples=25)
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(25):
        weights = np.bincount(rng.integers(10, size=10), minlength=10)
        sets = [copied(content, run, weights) for run in runs]
        first, second = (reference(*both, all_images(both[0])) for both in sets)
        differences.append(second - first)
    low, high = np.percentile(differences, [2.5, 97.5])
    assert 0.01 < high - low and ours.interval == pytest.approx((low, high), abs=1e-12)
    assert ours.below_zero == sum(d < 0 for d in differences) / 25


def test_what_has_no_paired_comparison_is_refused():
    """Other images of the same number; other classes; no box at all."""
    none = np.zeros((0, 7))
    one = match(none, data_set([(1, 1, 0, *BOX)], [1, 2]), [1, 2])
    others = match(none, data_set([(1, 1, 0, *BOX)], [1, 3]), [1, 3])
    with pytest.raises(ValueError, match="other image_ids"):
        paired_bootstrap(one, others, resamples=2)
    others = match(none, data_set([(1, 1, 0, *BOX)], [1, 2], categories=(1, 2, 3)), [1, 2])
    with pytest.raises(ValueError, match="other category_ids"):
        paired_bootstrap(one, others, resamples=2)
    empty = match(none, data_set([], [1, 2]), [1, 2])
    with pytest.raises(ValueError, match="there is no box"):
        paired_bootstrap(empty, empty, resamples=2)


@pytest.mark.slow
def test_a_thousand_resamples_of_five_thousand_images_within_a_minute():
    """36,000 boxes of 80 classes and 100,000 detections, a third of which found something."""
    rng = np.random.default_rng(0)
    ids, count = np.arange(5000), 100_000

    def run():
        reach = np.where(rng.random(count) < 0.29, rng.integers(0, 11, count), 0)
        return Matches(
            image_ids=ids, category_ids=np.arange(80), rows=np.arange(count),
            scores=rng.random(count),
            images=rng.integers(0, 5000, count), classes=rng.integers(0, 80, count),
            hit=np.arange(10)[:, None] < reach, ignored=rng.random((10, count)) < 0.002,
            truth_images=truth[0], truth_classes=truth[1],
        )  # fmt: skip

    truth = (rng.integers(0, 5000, 36_000), rng.integers(0, 80, 36_000))
    runs = (run(), run())
    began = time.perf_counter()
    paired_bootstrap(*runs)
    assert time.perf_counter() - began < 60
