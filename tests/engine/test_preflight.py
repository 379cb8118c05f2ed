"""What a run says before its first step, by hand."""

import json
import resource
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from detector.anchors.generator import AnchorGenerator
from detector.data.coco import CocoIndex
from detector.data.transforms import ShorterSide
from detector.engine.preflight import (
    check_batch_norm,
    check_worker_resources,
    count_reachable_boxes,
    describe_coinciding_boxes,
)
from detector.errors import InputError
from detector.model.backbone import Backbone

WIDE, THIN = 1, 2  # image ids: 160 x 120 and 1500 x 20 pixels
SQUARE = [3, 3, 24, 24]


def index(folder: Path, boxes: list[tuple[int, int, list[int], int]]) -> CocoIndex:
    """Of two images and boxes (image id, category id, x y w h, crowd), whose ids count from 10."""
    images = []
    for image_id, size in ((WIDE, (160, 120)), (THIN, (1500, 20))):
        Image.new("RGB", size).save(folder / f"{image_id}.png")
        width, height = size
        entry = {"id": image_id, "file_name": f"{image_id}.png", "width": width, "height": height}
        images.append(entry)
    annotations = [
        {"id": 10 + n, "image_id": image, "category_id": label, "bbox": box, "iscrowd": crowd}
        for n, (image, label, box, crowd) in enumerate(boxes)
    ]
    categories = [{"id": n, "name": f"class {n}"} for n in (1, 2, 3)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(content))
    return CocoIndex.read(folder / "boxes.json", folder)


def test_boxes_of_an_image_too_thin_for_an_anchor_are_not_reached(tmp_path: Path) -> None:
    """160 x 120 becomes 213 x 160: [3 3 27 27] is [4 4 36 36], which is an anchor.

    1500 x 20 becomes 256 x 3: the first anchors are centred 4 pixels down.
    """
    data_set = index(
        tmp_path, [(WIDE, 1, SQUARE, 0), (WIDE, 1, [3, 3, 6, 6], 0), (THIN, 1, [9, 2, 99, 9], 0)]
    )
    anchor_generator = AnchorGenerator([8], [[(32.0, 32.0)]])
    resize = ShorterSide((160,), 256)
    assert count_reachable_boxes(data_set, resize, anchor_generator, foreground=0.5) == (1, 3)
    # 8 x 8 of 32 x 32: 1/16
    assert count_reachable_boxes(data_set, resize, anchor_generator, foreground=0.05) == (2, 3)


def test_boxes_at_one_place_with_other_labels_are_counted(tmp_path: Path) -> None:
    """Of annotations 10 to 15 at one place 11 and 13 differ from the first in class.

    12 repeats it, 14 is a crowd, 15 lies in another image.
    """
    boxes = [(WIDE, 1, SQUARE, 0), (WIDE, 2, SQUARE, 0), (WIDE, 1, SQUARE, 0), (WIDE, 3, SQUARE, 0)]
    boxes += [(WIDE, 2, SQUARE, 1), (THIN, 2, [3, 3, 24, 17], 0), (WIDE, 2, [3, 3, 24, 17], 0)]
    data_set = index(tmp_path, boxes)
    said = describe_coinciding_boxes(data_set, multi_label=False)
    assert said is not None and "another label: 2 (annotations 11, 13)" in said
    assert "activation to sigmoid" in said
    merged = describe_coinciding_boxes(data_set, multi_label=True)
    assert merged is not None and "2 (annotations 11, 13)" in merged and "labels of all" in merged


@pytest.mark.parametrize("multi_label", [False, True])
def test_nothing_is_said_of_boxes_apart(tmp_path: Path, *, multi_label: bool) -> None:
    data_set = index(tmp_path, [(WIDE, 2, SQUARE, 0), (THIN, 1, [3, 3, 24, 17], 0)])
    assert describe_coinciding_boxes(data_set, multi_label=multi_label) is None


ONE_CELL = np.array([[64, 128], [60, 120], [60, 130]])  # height, width


@pytest.mark.parametrize(
    ("norm", "images", "shorter"), [("batch", 2, 16), ("batch", 1, 17), ("group", 1, 16)]
)
def test_several_values_a_channel_are_trained_on(norm: str, images: int, shorter: int) -> None:
    """At 17 the longer sides are 34, 34 and 37 pixels: two cells of stride 32."""
    net = Backbone("resnet18", norm, 0)  # type: ignore[arg-type]
    check_batch_norm(net, ONE_CELL, ShorterSide((shorter, 99), 999), images=images)
    width = 64 if shorter == 17 else 32
    coarsest = net(torch.zeros(images, 3, 32, width))[-1]  # torch takes them, too
    assert coarsest.shape == (images, 512, 1, width // 32)


def test_a_single_value_a_channel_is_refused() -> None:
    """64 x 128 becomes 16 x 32 in one of its sizes; torch refuses that too, in training."""
    net = Backbone("resnet18", "batch", 0)
    with pytest.raises(InputError, match=r"train\.batch_size.*norm to group"):
        check_batch_norm(net, ONE_CELL, ShorterSide((99, 16), 999), images=1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        net(torch.zeros(1, 3, 32, 32))
    frozen = Backbone("resnet18", "batch", 5)
    check_batch_norm(frozen, ONE_CELL, ShorterSide((16,), 999), images=1)
    frozen(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("free", "files", "workers", "remedy"),
    [
        (2_580_479, 1000, 2, "--shm-size"),
        (2_580_480, 1000, 2, None),
        (0, 10, 0, None),
        (2_580_480, 83, 2, "ulimit -n 4096"),
        (2_580_480, resource.RLIM_INFINITY, 2, None),
    ],
)
def test_workers_need_room(
    monkeypatch: pytest.MonkeyPatch, free: int, files: int, workers: int, remedy: str | None
) -> None:
    """160 x 120 becomes 213 x 160, padded 224 x 160; twice two workers hold two batches of three.

    So 4 * 2 * 3 images of 3 * 224 * 160 bytes, and 4 * 9 tensors + 2 * 8 + 32 = 84 files.
    """
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (files, files))
    sizes, resize = np.array([[120, 160], [20, 1500]]), ShorterSide((99, 160), 256)
    settings = {"workers": workers, "batch_size": 3, "processes": 2}
    if remedy is None:
        check_worker_resources(sizes, resize, **settings)
        return
    with pytest.raises(InputError, match=rf"data\.workers={workers}.*{remedy}.*data\.workers=0"):
        check_worker_resources(sizes, resize, **settings)
