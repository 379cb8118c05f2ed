"""The figures of a check, of two oblong images whose anchors can be counted on paper."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import HOME
from PIL import Image

from detector import build
from detector.check.figures import Band, batch_figures, count, fit_of, largest_image, memory
from detector.check.split import read_splits
from detector.config import Config, load

# Of image 1, 128 x 64, which stays as it is; image 2, 60 x 90, becomes 64 x 96 and has no box.
BOXES = [
    (3, [12, 12, 16, 16], 0),  # an anchor of the first level
    (8, [28, 20, 32, 16], 0),  # holds three of them, each half of it
    (3, [70, 30, 2, 2], 0),
    (3, [98, 40, 8, 8], 1),
]
SET = [
    "data.resize={shorter: 64, longer: 128}", "data.tuning=null", "matching.low_quality=false",
    "matching.foreground=0.5", "matching.background=0.4", "train.batch_size=8",
    "optimizer.accumulate=2",
    "anchors={sizes: [16, 32, 64, 128, 256], scales: [1], ratios: [1]}",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    sizes = {1: (128, 64), 2: (60, 90)}  # width, height
    for image, size in sizes.items():
        Image.new("RGB", size).save(folder / f"{image}.png")
    content = {
        "images": [
            {"id": image, "file_name": f"{image}.png", "width": width, "height": height}
            for image, (width, height) in sizes.items()
        ],
        "categories": [{"id": 3, "name": "dog"}, {"id": 8, "name": "cat"}],
        "annotations": [
            {"id": index, "image_id": 1, "category_id": category, "bbox": box, "iscrowd": crowd}
            for index, (category, box, crowd) in enumerate(BOXES, start=1)
        ],
    }
    (folder / "train.json").write_text(json.dumps(content))
    return folder


def configured(folder: Path, *more: str) -> Config:
    paths = [f"data.train.images={folder}", f"data.train.annotations={folder}/train.json",
             "data.val={images: null, annotations: null}"]  # fmt: skip
    return load(HOME / "configs" / "digits.yaml", [*paths, *SET, *more])


def test_counts_by_hand(folder: Path) -> None:
    """Without the crowd. Areas 256, 512 and 4; of three values the quantiles .05 and .25 are the
    first, and those of .75 and .95 the last.
    """
    config = configured(folder)
    (split,) = read_splits(config)
    counts = count(split, config.data.resize.resize())
    assert (counts.images, counts.boxes, counts.crowds) == (2, 3, 1)
    assert counts.boxes_an_image == (0, 1.5, 3)
    assert (counts.class_names, counts.by_class) == (("dog", "cat"), [2, 1])
    assert counts.sizes == pytest.approx([2, 2, 2, 16, 22.627, 22.627, 22.627])
    assert counts.ratios == pytest.approx([0.5, 0.5, 0.5, 1, 1, 1, 1])


def test_sizes_are_those_after_the_resize(folder: Path) -> None:
    """Half as large, and 4 x as wide as high instead of twice."""
    config = configured(folder, "data.resize={width: 128, height: 32}")
    (split,) = read_splits(config)
    counts = count(split, config.data.resize.resize())
    assert counts.sizes[-1] == pytest.approx(16) and counts.ratios[0] == 0.25


def test_how_anchors_reach_boxes_by_hand(folder: Path) -> None:
    """IoU 1, 256 / 512 and 4 / 256; .5 itself is enough, and 16 belongs to the range from 16."""
    config = configured(folder)
    (split,) = read_splits(config)
    fit = fit_of(config, split.index, 0.5)
    assert fit.total == Band("all", 3, 0.6667, 0.505)
    assert fit.by_size == [Band("0 to 16", 1, 0, 0.016), Band("16 to 32", 2, 1, 0.75)]
    assert fit.by_ratio == [
        Band("0.333 to 0.667", 1, 1, 0.5), Band("0.667 to 1.5", 2, 0.5, 0.508),
    ]  # fmt: skip
    assert fit.anchors == (
        "anchors: {sizes: [16.0, 32.0, 64.0, 128.0, 256.0], scales: [1.0], ratios: [1.0]}"
    )


def test_a_batch_by_hand(folder: Path) -> None:
    """171 and 129 anchors. Positive are one of the first box and three of the second.

    An anchor of 32 has an IoU of .41 with the second box, so it is ignored. So are those centred
    beyond their image: one of image 1, at 64, 64, and two of image 2, at 32, 96 and at 64, 64. The
    crowd covers no more than a quarter of an anchor, too little to ignore it.
    """
    config = configured(folder)
    (split,) = read_splits(config)
    figures = batch_figures(config, split.index)
    assert (figures.images, figures.boxes, figures.without_positive) == (2, 3, 1)
    assert (figures.positives, figures.ignored, figures.negatives) == (2, 2, 146)
    assert (figures.height, figures.width, figures.images_at_a_time) == (64, 128, 4)


def test_the_largest_image_has_the_most_pixels_not_the_longest_side(folder: Path) -> None:
    """64 x 128 is more than 96 x 64."""
    config = configured(folder)
    (split,) = read_splits(config)
    assert largest_image(split.index, config.data.resize.resize()) == (64, 128)


def test_bytes_of_a_weight(folder: Path) -> None:
    """Four each of weight and gradient, four a moment of the optimizer, four of the average."""
    config = configured(folder)
    net = build.model(config, build.class_code(config, 2))
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    other = sum(t.numel() for t in [*net.parameters(), *net.buffers()]) - trained

    def weights(*more: str) -> int:
        return memory(configured(folder, *more), 2, (1, 3, 64, 64))[0]

    assert weights("train.ema=null") == 4 * (4 * trained + other)
    sgd = ["optimizer.name=sgd", "optimizer.momentum=0.9"]
    assert weights("train.ema=null", *sgd) == 4 * (3 * trained + other)
    assert weights("train.ema=0.9") == 4 * (5 * trained + 2 * other)
