"""Loading images, reading annotations and COCO evaluation beside other libraries' ways."""

from __future__ import annotations

import gc
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from benchmarking import made_up
from benchmarking.setup import Setup
from benchmarking.timing import Figures, spread
from detector import build
from detector.data.annotations import read_annotations
from detector.data.augmentations import FlipSettings
from detector.data.coco import CocoIndex
from detector.data.images import FORMATS
from detector.data.loader import DetectionDataset, train_loader
from detector.data.transforms import FixedSize
from detector.evaluation.coco import evaluate
from detector.files import write_json
from detector.lab.placement import usable_cores
from detector.model.retinanet import IMAGENET_MEAN, IMAGENET_STD

BOXES_AN_IMAGE = 7.2  # as in COCO's val2017
DETECTIONS_AN_IMAGE = 100
Result = TypeVar("Result")


def measure_loader(setup: Setup) -> Figures:
    """The section `loader`."""
    workers, size = usable_cores(), setup.config.train.batch_size
    batches = max(setup.images // 5 // size, 6 * workers)
    with TemporaryDirectory() as name:
        folder = Path(name)
        made_up.photographs(folder)
        document = made_up.coco_document(batches * size, made_up.BOXES * batches * size)
        file = made_up.write_coco(folder, document)
        index = CocoIndex.read(file, folder, invalid="skip")
        rates = [
            [size * _rate(loader(setup, index, workers), skip=2 * workers)
             for loader in (_our_loader, _torchvision_loader)]
            for _ in range(setup.rounds)
        ]  # fmt: skip
    return {
        "workers": workers,
        "images": batches * size,
        "images_per_second": max(ours for ours, _ in rates),
        "speed": spread([ours / partner for ours, partner in rates]),
    }


def _rate(batches: Iterable[Any], *, skip: int) -> float:
    """Batches a second once `skip` have come: what the workers made ahead does not count."""
    steps = iter(batches)
    for _ in range(skip):
        next(steps)
    began = time.perf_counter()
    count = sum(1 for _ in steps)
    return count / (time.perf_counter() - began)


def _our_loader(setup: Setup, index: CocoIndex, workers: int) -> Iterable[Any]:
    return train_loader(
        DetectionDataset(index, build.transform(setup.config)),
        batch_size=setup.config.train.batch_size,
        epoch=0,
        workers=workers,
        pin_memory=setup.on.type == "cuda",
    )


def _torchvision_loader(setup: Setup, index: CocoIndex, workers: int) -> Iterable[Any]:
    """The same work in the way of torchvision's reference scripts: Pillow, v2 transforms, lists."""
    resize = setup.config.data.resize.resize()
    flips = [a.probability for a in setup.config.data.augment if isinstance(a, FlipSettings)]
    transform = v2.Compose([
        v2.ToImage(),
        v2.Resize((resize.height, resize.width)) if isinstance(resize, FixedSize)
        else v2.RandomShortestSize(list(resize.shorter), max_size=resize.longer),
        v2.RandomHorizontalFlip(sum(flips)),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        v2.SanitizeBoundingBoxes(labels_getter=None), v2.ToPureTensor(),
    ])  # fmt: skip
    return DataLoader(
        _TorchvisionDataset(index, transform),
        batch_size=setup.config.train.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=setup.on.type == "cuda",
        collate_fn=list,
    )


class _TorchvisionDataset(Dataset[Any]):
    def __init__(self, index: CocoIndex, transform: v2.Transform) -> None:
        self.index = index
        self.transform = transform

    def __getitem__(self, row: int) -> Any:
        image = Image.open(self.index.path(row), formats=FORMATS).convert("RGB")
        boxes = tv_tensors.BoundingBoxes(
            self.index.truth(row).boxes, format="XYXY", canvas_size=image.size[::-1]
        )
        return self.transform(image, boxes)

    def __len__(self) -> int:
        return len(self.index)


def measure_evaluation(setup: Setup) -> Figures:
    """The section `evaluation`; one round, for the partner takes a minute."""
    truth = made_up.coco_document(setup.images, int(BOXES_AN_IMAGE * setup.images))
    rows = made_up.detections(truth, DETECTIONS_AN_IMAGE * setup.images)
    ours, seconds = _timed(lambda: evaluate(rows, truth))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "detections.json"
        write_json(file, [
            {"image_id": int(image), "bbox": box, "score": score, "category_id": int(category)}
            for image, *box, score, category in rows.tolist()
        ])  # fmt: skip
        annotations = made_up.write_coco(Path(folder), truth)
        partner, partner_seconds = _timed(lambda: _pycocotools(annotations, file))
    pairs = zip(ours.summary.values(), partner, strict=True)
    return {
        "images": setup.images,
        "boxes": len(truth["annotations"]),
        "detections": len(rows),
        "difference": max(abs(a - b) for a, b in pairs),
        "speed": spread([partner_seconds / seconds]),
    }


def _pycocotools(truth: Path, detections: Path) -> list[float]:
    """The twelve figures, from the two JSON files that it reads."""
    with redirect_stdout(StringIO()):
        coco = COCO(truth)
        evaluation = COCOeval(coco, coco.loadRes(str(detections)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation.stats.tolist()


def measure_index(setup: Setup) -> Figures:
    """The section `index`; one round, each side in a process of its own."""
    boxes = int(BOXES_AN_IMAGE * setup.annotated)
    with TemporaryDirectory() as folder:
        document = made_up.coco_document(setup.annotated, boxes)
        file = made_up.write_coco(Path(folder), document)
        sides = (read_annotations, read_annotations, COCO)
        first, cached, partner = (_apart(read, file) for read in sides)
        size = file.stat().st_size
    return {
        "images": setup.annotated,
        "boxes": boxes,
        "file_bytes": size,
        "first": spread([partner[0] / first[0]]),
        "cached": spread([partner[0] / cached[0]]),
        "first_seconds": first[0],
        "held_bytes": cached[1],
        "partner_held_bytes": partner[1],
    }


def _apart(read: Callable[[Path], object], file: Path) -> tuple[float, int]:
    """Seconds and bytes held, as a new process sees them."""
    # spawn: a forked process would begin with what this one has in memory
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_seconds_and_bytes, read, file).result()


def _seconds_and_bytes(read: Callable[[Path], object], file: Path) -> tuple[float, int]:
    before = _resident()
    with redirect_stdout(StringIO()):
        held, seconds = _timed(lambda: read(file))
    gc.collect()
    grown = _resident() - before
    del held
    return seconds, grown


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def _resident() -> int:
    """Bytes of this process in memory (Linux), or the most so far (elsewhere)."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
