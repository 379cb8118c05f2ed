"""Loading images, reading annotations and COCO evaluation beside other libraries' ways."""

from __future__ import annotations

import gc
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from detector import build
from detector.benchmark import made_up
from detector.benchmark.setup import Figures, Setup
from detector.benchmark.timing import Ratio
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


def measure_loader(setup: Setup) -> Figures:
    """The section `loader`."""
    workers = usable_cores()
    batches = max(setup.counts.images // 5 // setup.config.train.batch_size, 6 * workers)
    count = batches * setup.config.train.batch_size
    with TemporaryDirectory() as folder:
        index = _photographs(Path(folder), count)
        sides: dict[str, Callable[[], Iterable[Any]]] = {
            "ours": lambda: _our_loader(setup, index, workers),
            "partner": lambda: _torchvision_loader(setup, index, workers),
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(setup.counts.rounds):
            for name, make in sides.items():
                rates[name].append(setup.config.train.batch_size * _rate(make(), skip=2 * workers))
    speeds = [ours / partner for ours, partner in zip(rates["ours"], rates["partner"], strict=True)]
    return {
        "workers": workers,
        "images": count,
        "images_per_second": max(rates["ours"]),
        "speed": asdict(Ratio.of(speeds)),
    }


def _rate(batches: Iterable[Any], *, skip: int) -> float:
    """Batches a second once `skip` have come: what the workers made ahead does not count."""
    steps = iter(batches)
    for _ in range(skip):
        next(steps)
    began = time.perf_counter()
    count = sum(1 for _ in steps)
    return count / (time.perf_counter() - began)


def _photographs(folder: Path, count: int) -> CocoIndex:
    made_up.photographs(folder)
    file = folder / "annotations.json"
    made_up.write_annotations(file, made_up.coco_document(count, made_up.BOXES * count))
    return CocoIndex.read(file, folder, invalid="skip")


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
    return DataLoader(
        _TorchvisionDataset(index, _torchvision_transform(setup)),
        batch_size=setup.config.train.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=setup.on.type == "cuda",
        collate_fn=list,
    )


def _torchvision_transform(setup: Setup) -> v2.Transform:
    resize = setup.config.data.resize.resize()
    size = (
        v2.Resize((resize.height, resize.width))
        if isinstance(resize, FixedSize)
        else v2.RandomShortestSize(list(resize.shorter), max_size=resize.longer)
    )
    flips = [a.probability for a in setup.config.data.augment if isinstance(a, FlipSettings)]
    return v2.Compose([
        v2.ToImage(), size, v2.RandomHorizontalFlip(sum(flips)),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        v2.SanitizeBoundingBoxes(labels_getter=None), v2.ToPureTensor(),
    ])  # fmt: skip


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
    images = setup.counts.images
    truth = made_up.coco_document(images, int(BOXES_AN_IMAGE * images))
    rows = made_up.detections(truth, DETECTIONS_AN_IMAGE * images)
    began = time.perf_counter()
    ours = evaluate(rows, truth)
    seconds = time.perf_counter() - began
    with TemporaryDirectory() as folder:
        partner, partner_seconds = _pycocotools(Path(folder), truth, rows)
    difference = max(abs(a - b) for a, b in zip(ours.summary.values(), partner, strict=True))
    return {
        "images": images,
        "boxes": len(truth["annotations"]),
        "detections": len(rows),
        "difference": difference,
        "speed": asdict(Ratio.of([partner_seconds / seconds])),
    }


def _pycocotools(
    folder: Path, truth: dict[str, Any], rows: np.ndarray
) -> tuple[list[float], float]:
    """The twelve figures and the seconds, from the two JSON files that it reads."""
    made_up.write_annotations(folder / "truth.json", truth)
    entries = [
        {"image_id": int(image), "bbox": box, "score": score, "category_id": int(category)}
        for image, *box, score, category in rows.tolist()
    ]
    write_json(folder / "detections.json", entries)
    with redirect_stdout(StringIO()):
        began = time.perf_counter()
        coco = COCO(folder / "truth.json")
        evaluation = COCOeval(coco, coco.loadRes(str(folder / "detections.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation.stats.tolist(), time.perf_counter() - began


def measure_index(setup: Setup) -> Figures:
    """The section `index`; one round, each side in a process of its own."""
    images = setup.counts.annotated
    with TemporaryDirectory() as folder:
        file = Path(folder) / "annotations.json"
        made_up.write_annotations(file, made_up.coco_document(images, int(BOXES_AN_IMAGE * images)))
        first, cached = _apart(read_annotations, file), _apart(read_annotations, file)
        partner = _apart(_read_pycocotools, file)
        size = file.stat().st_size
    return {
        "images": images,
        "boxes": int(BOXES_AN_IMAGE * images),
        "file_bytes": size,
        "first": asdict(Ratio.of([partner[0] / first[0]])),
        "cached": asdict(Ratio.of([partner[0] / cached[0]])),
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
    before, began = _resident(), time.perf_counter()
    held = read(file)
    seconds = time.perf_counter() - began
    gc.collect()
    grown = _resident() - before
    del held
    return seconds, grown


def _resident() -> int:
    """Bytes of this process in memory (Linux), or the most so far (elsewhere)."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _read_pycocotools(file: Path) -> object:
    with redirect_stdout(StringIO()):
        return COCO(file)
