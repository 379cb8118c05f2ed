"""Which images come when, and that nothing but (seed, epoch, index) decides their pixels."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detector import build
from detector.config import Config
from detector.data import loader
from detector.data.augmentations import Flip, Photometric, ScaleJitter
from detector.data.coco import CocoIndex
from detector.data.crops import IoUCrop, ZoomOut
from detector.data.loader import (
    Address,
    DetectionDataset,
    evaluation_loader,
    train_loader,
)
from detector.data.mosaic import Mixup, Mosaic
from detector.data.sampling import plan_epoch, split_plan, stable_hash, steps_per_epoch
from detector.data.transforms import FixedSize, ShorterSide, Transform
from detector.errors import InputError, WorkerLost
from detector.structures import Batch

AUGMENTED = Transform(
    resize=ShorterSide((24, 32), 64),
    augmentations=[
        Mosaic(0.5),
        Mixup(0.5),
        IoUCrop(),
        ZoomOut(0.5),
        ScaleJitter(0.7, 1.5),
        Flip(0.5),
        Photometric(0.4),
    ],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 noisy images, every third of them tall; image i has i % 3 boxes."""
    folder = tmp_path_factory.mktemp("data")
    noise = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(13):
        height, width = (48, 32) if i % 3 == 0 else (32, 48)
        pixels = noise.integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
        images.append({"id": i + 1, "file_name": f"{i}.jpg", "height": height, "width": width})
        for _ in range(i % 3):
            annotation = {"id": len(annotations) + 1, "image_id": i + 1, "category_id": 1}
            annotations.append(annotation | {"bbox": [4, 4, 20, 20]})
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "noise"}]
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def dataset(folder: Path) -> DetectionDataset:
    return DetectionDataset(CocoIndex.read(folder / "boxes.json", folder), AUGMENTED, seed=3)


def assert_equal(a: Batch, b: Batch) -> None:
    for field in fields(Batch):
        assert torch.equal(getattr(a, field.name), getattr(b, field.name)), field.name


def test_the_key_of_the_depth_reaches_the_pixels(tmp_path: Path) -> None:
    """The brightest of 12 bits is white: 4095 * 255 / 4095"""
    Image.fromarray(np.full((20, 30), 4095, np.uint16)).save(tmp_path / "a.png")
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 4, 9, 9]}
    image = {"id": 1, "file_name": "a.png", "height": 20, "width": 30}
    categories = [{"id": 1, "name": "cell"}]
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps({"images": [image], "annotations": [box], "categories": categories}))
    source = {"images": str(tmp_path), "annotations": str(file)}
    data = {"train": source, "resize": {"width": 30, "height": 20}}
    config = Config.model_validate_json(json.dumps({"data": {**data, "depth": 12}}))
    dataset = DetectionDataset(
        build.data_index(config, "train"), build.transform(config).for_evaluation()
    )
    assert (dataset[Address(0, 0)].image == 255).all()
    with pytest.raises(InputError, match=r"a\.png: .*data\.depth"):
        build.data_index(Config.model_validate_json(json.dumps({"data": data})), "train")


def test_a_sample_depends_on_seed_epoch_and_row_alone(folder: Path) -> None:
    index = CocoIndex.read(folder / "boxes.json", folder)
    dataset = DetectionDataset(index, AUGMENTED, seed=3)
    sample = dataset[Address(1, 4)]
    torch.manual_seed(99)
    dataset[Address(1, 5)]
    assert torch.equal(dataset[Address(1, 4)].image, sample.image)
    others = [dataset[Address(2, 4)], DetectionDataset(index, AUGMENTED, seed=4)[Address(1, 4)]]
    for other in others:
        assert other.key != sample.key
        assert other.image.shape != sample.image.shape or not torch.equal(other.image, sample.image)


def test_keys_are_fixed_and_within_62_bits() -> None:
    """The number is written out so that no later version gives another."""
    assert stable_hash(0, 0, 0, purpose="key") == 1675485662023302911
    keys = {
        stable_hash(s, e, r, purpose="key") for s in range(5) for e in range(5) for r in range(5)
    }
    assert len(keys) == 125 and max(keys) < 2**62 and max(keys) > 2**55
    assert stable_hash(1, 2, 3, purpose="key") != stable_hash(1, 2, 3, purpose="pixels")


def test_one_epoch(dataset: DetectionDataset) -> None:
    loader = train_loader(dataset, batch_size=4, accumulate=2, epoch=0)
    steps = list(loader)
    assert len(loader) == len(steps) == 3
    assert [[len(batch) for batch in step] for step in steps] == [[2, 2]] * 3
    ids = [i for step in steps for batch in step for i in batch.image_ids.tolist()]
    assert len(set(ids)) == 12


def test_epochs_differ(dataset: DetectionDataset) -> None:
    def ids(epoch: int) -> list[int]:
        loader = train_loader(dataset, batch_size=2, epoch=epoch)
        return [i for (batch,) in loader for i in batch.image_ids.tolist()]

    assert ids(0) == ids(0) != ids(1)


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_steps_leave_the_rest_as_it_was(dataset: DetectionDataset, workers: int) -> None:
    whole = list(train_loader(dataset, batch_size=4, accumulate=2, epoch=1))
    rest = train_loader(dataset, batch_size=4, accumulate=2, epoch=1, skip_steps=1, workers=workers)
    assert len(rest) == 2
    for expected, step in zip(whole[1:], rest, strict=True):
        for a, b in zip(expected, step, strict=True):
            assert_equal(a, b)


def test_skipped_steps_are_not_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = CocoIndex.read(folder / "boxes.json", folder)
    dataset = DetectionDataset(index, AUGMENTED.for_evaluation())
    read = []
    monkeypatch.setattr(CocoIndex, "path", lambda index, row: read.append(row) or folder / "0.jpg")
    monkeypatch.setattr(CocoIndex, "size", lambda index, row: (48, 32))
    list(train_loader(dataset, batch_size=4, epoch=0, skip_steps=2))
    assert len(read) == 4


def test_the_global_random_numbers_are_left_alone(dataset: DetectionDataset) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    next(iter(train_loader(dataset, batch_size=4, epoch=0, workers=1)))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(("world_size", "accumulate"), [(1, 4), (2, 1), (2, 2), (4, 1)])
def test_every_division_goes_through_the_same_samples(
    dataset: DetectionDataset, world_size: int, accumulate: int
) -> None:
    """Slice m * world_size + r of the batch: put together by m, then r, it is the whole batch."""
    whole = [batch.keys for (batch,) in train_loader(dataset, batch_size=4, epoch=2)]
    ranks = [
        list(
            train_loader(
                dataset,
                batch_size=4,
                epoch=2,
                rank=rank,
                world_size=world_size,
                accumulate=accumulate,
            )
        )
        for rank in range(world_size)
    ]
    for step, expected in enumerate(whole):
        slices = [ranks[r][step][m].keys for m in range(accumulate) for r in range(world_size)]
        assert torch.equal(torch.cat(slices), expected)


def test_a_batch_that_cannot_be_divided() -> None:
    with pytest.raises(InputError, match=r"batch of 8 .* multiple of 6"):
        split_plan(np.zeros((1, 8), np.int64), accumulate=3, rank=0, world_size=2)


def test_fewer_images_than_a_batch(dataset: DetectionDataset) -> None:
    with pytest.raises(InputError, match="13 images, less than one batch of 14"):
        train_loader(dataset, batch_size=14, epoch=0)


@settings(max_examples=60, deadline=None)
@given(
    wide=st.lists(st.booleans(), min_size=1, max_size=60),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 100),
    group=st.booleans(),
)
def test_a_plan_repeats_no_image_and_mixes_at_most_one_batch(
    wide: list[bool], batch_size: int, seed: int, epoch: int, group: bool
) -> None:
    if len(wide) < batch_size:
        return
    sizes = np.array([(32, 48) if w else (48, 32) for w in wide], np.int32)
    plan = plan_epoch(sizes, batch_size=batch_size, seed=seed, epoch=epoch, group_by_aspect=group)
    assert plan.shape == (steps_per_epoch(len(wide), batch_size), batch_size)
    assert len(np.unique(plan)) == plan.size
    shares = np.array(wide)[plan].mean(axis=1)
    assert not group or ((shares > 0) & (shares < 1)).sum() <= 1


def test_shuffling_reaches_every_image() -> None:
    """8 wide and 5 tall images in a batch of 8: five wait, but not always the tall ones."""
    sizes = np.array([(32, 48)] * 8 + [(48, 32)] * 5, np.int32)
    plans = [plan_epoch(sizes, batch_size=8, seed=0, epoch=epoch) for epoch in range(60)]
    counts = np.bincount(np.concatenate(plans).ravel(), minlength=13)
    assert counts.min() > 20  # of 60 * 8 / 13 = 37 expected


@pytest.mark.parametrize("world_size", [1, 2, 3, 16])
def test_evaluation_sees_each_image_once(dataset: DetectionDataset, world_size: int) -> None:
    seen: list[int] = []
    for rank in range(world_size):
        loader = evaluation_loader(dataset, batch_size=4, rank=rank, world_size=world_size)
        batches = list(loader)
        assert len(batches) == len(loader)
        own = [i for batch in batches for i in batch.image_ids.tolist()]
        assert sorted(own) == list(range(rank + 1, 14, world_size))
        seen += own
    assert sorted(seen) == list(range(1, 14))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_breaks_after_the_start_is_one_sentence(
    folder: Path, tmp_path: Path, workers: int
) -> None:
    for file in folder.glob("*.jp*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    index = CocoIndex.read(folder / "boxes.json", tmp_path, invalid="skip")
    (tmp_path / "5.jpg").write_bytes((folder / "5.jpg").read_bytes()[:500])
    dataset = DetectionDataset(index, AUGMENTED.for_evaluation())
    before = set(multiprocessing.active_children())
    with pytest.raises(InputError) as caught:
        list(evaluation_loader(dataset, batch_size=4, workers=workers))
    assert not set(multiprocessing.active_children()) - before, "the traceback keeps the workers"
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / '5.jpg'}: this is not a whole")
    assert "Traceback" not in message and "\n" not in message


def test_a_sample_is_what_the_file_says(tmp_path: Path) -> None:
    """90 x 50 to 45 x 100: x halves, y doubles; the first of two boxes is a crowd."""
    Image.new("RGB", (90, 50)).save(tmp_path / "a.png")
    box = {"image_id": 42, "category_id": 7}
    content = {
        "images": [{"id": 42, "file_name": "a.png", "height": 50, "width": 90}],
        "categories": [{"id": 7, "name": "cat"}],
        "annotations": [
            {**box, "id": 1, "bbox": [10, 5, 20, 10], "iscrowd": 1},
            {**box, "id": 2, "bbox": [0, 0, 90, 50]},
        ],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    index = CocoIndex.read(tmp_path / "boxes.json", tmp_path)
    transform = Transform(resize=FixedSize(width=45, height=100))
    sample = DetectionDataset(index, transform)[Address(0, 0)]
    assert sample.image.shape == (3, 100, 45) and sample.original_size == (50, 90)
    assert sample.boxes.tolist() == [[5, 10, 15, 30], [0, 0, 45, 100]]
    assert sample.crowd.tolist() == [True, False] and sample.image_id == 42


def test_evaluation_comes_to_wide_images_last(dataset: DetectionDataset) -> None:
    """Every third image is tall, from the first on."""
    batches = list(evaluation_loader(dataset, batch_size=5))
    ids = [batch.image_ids.tolist() for batch in batches]
    assert ids == [[1, 4, 7, 10, 13], [2, 3, 5, 6, 8], [9, 11, 12]]


def test_the_order_depends_on_the_seed(folder: Path) -> None:
    index = CocoIndex.read(folder / "boxes.json", folder)

    def order(seed: int) -> list[list[Address]]:
        return train_loader(
            DetectionDataset(index, AUGMENTED, seed=seed), batch_size=4, epoch=0
        ).batches.addresses

    assert order(3) == order(3) != order(4)


def test_wide_batches_are_not_always_first() -> None:
    sizes = np.array([(32, 48)] * 8 + [(48, 32)] * 8, np.int32)
    firsts = [plan_epoch(sizes, batch_size=8, seed=0, epoch=e)[0].min() < 8 for e in range(40)]
    assert 10 < sum(firsts) < 30


def unpicklable(samples: object) -> object:
    """What no queue can carry, as a batch that shared memory has no room for."""
    return lambda: samples


def die(samples: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("collate", "cause"), [(unpicklable, "--shm-size"), (die, "SIGKILL")], ids=["room", "killed"]
)
def test_a_lost_worker_is_one_sentence(
    dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch, collate: object, cause: str
) -> None:
    """And it is told where a batch is awaited: no signal handler raises in between."""
    monkeypatch.setattr(loader, "collate", collate)
    handler, before = signal.getsignal(signal.SIGCHLD), set(multiprocessing.active_children())
    with pytest.raises(WorkerLost, match=rf"{cause}.*data\.workers=0"):
        list(evaluation_loader(dataset, batch_size=4, workers=2))
    assert signal.getsignal(signal.SIGCHLD) is handler
    assert set(multiprocessing.active_children()) <= before  # others' loaders


def test_no_room_for_the_workers_themselves(
    dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their queues need shared memory, too, and the main process makes them."""

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(loader.DataLoader, "__iter__", full)
    with pytest.raises(WorkerLost, match=r"--shm-size.*data\.workers=0"):
        list(evaluation_loader(dataset, batch_size=4, workers=2))
