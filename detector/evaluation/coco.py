"""COCO metrics of detections.

D detections, K classes in the order of the ground truth's `categories`, T = 10 IoU thresholds
0.5 .. 0.95, R = 101 recall thresholds 0 .. 1, areas all/small/medium/large, limits of 1/10/100
detections per image. Boxes are x, y, width, height in pixels, as in COCO's files.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from detector.coco_matching import PER_IMAGE, hotcoco_evaluation
from detector.evaluation.own_metrics import OwnMetric, own_figures
from detector.files import finite

Engine = Literal["hotcoco", "pycocotools"]

HEADINGS = {
    "AP": "precision, IoU 0.50:0.95",
    "AP50": "precision, IoU 0.50",
    "AP75": "precision, IoU 0.75",
    "APs": "precision, area below 32 x 32",
    "APm": "precision, area 32 x 32 to 96 x 96",
    "APl": "precision, area above 96 x 96",
    "AR1": "recall, 1 detection an image",
    "AR10": "recall, 10 detections an image",
    "AR100": "recall, 100 detections an image",
    "ARs": "recall, area below 32 x 32",
    "ARm": "recall, area 32 x 32 to 96 x 96",
    "ARl": "recall, area above 96 x 96",
}


@dataclass(frozen=True)
class CocoResult:
    """The result of an evaluation. Metrics are fractions, -1 where there is no ground truth."""

    summary: dict[str, float]  # AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl
    per_class: dict[str, float]  # AP of each class
    precision: np.ndarray  # float64 (T, R, K), all areas, 100 detections an image
    boxes: dict[str, int]  # ground-truth boxes of each class, crowds not counted
    images: int  # how many images were evaluated
    detections: int  # how many detections these have
    engine: Engine
    areas_replaced: int = 0  # boxes whose area was not above 0 and became width * height
    own: Mapping[str, float] = field(default_factory=dict)  # figures of a user's own metrics

    @property
    def class_names(self) -> list[str]:
        """The K class names; a name that several categories have is followed by the id."""
        return list(self.per_class)

    @property
    def figures(self) -> dict[str, float]:
        """All by the names that a run records: the summary, AP/CLASS, and a user's own."""
        per_class = {f"AP/{name}": ap for name, ap in self.per_class.items()}
        return {**self.summary, **per_class, **self.own}


def evaluate(
    detections: np.ndarray,
    ground_truth: dict[str, Any],
    *,
    image_ids: Sequence[int] | None = None,
    engine: Engine = "hotcoco",
    own: Mapping[str, OwnMetric] = {},
) -> CocoResult:
    """COCO's bounding-box metrics (Lin et al. 2014; https://cocodataset.org/#detection-eval).

    `detections` is float64 (D, 7): image id, x, y, width, height, score, category id, all finite,
    with ids of `ground_truth` (from `load_ground_truth`; not modified). Only images in `image_ids`
    count; None means every image. Both engines give equal metrics and print nothing. own: metrics
    of a user's own, by name; InputError for one that fails.
    """
    ids = sorted({image["id"] for image in ground_truth["images"]})
    chosen = ids if image_ids is None else sorted(set(image_ids))
    _check(detections, ids, chosen)
    category_ids = [category["id"] for category in ground_truth["categories"]]
    arrays = _accumulate(detections, ground_truth, chosen, category_ids, engine)
    # Both engines sort the categories by id; the ranks of the ids restore the order of the file.
    file_order = np.argsort(np.argsort(category_ids))
    precision = arrays["precision"][:, :, file_order, 0, 2]  # all areas, 100 detections
    names = _class_names(ground_truth["categories"])
    boxes: Counter[int] = Counter()
    for (_, category_id), count in _boxes_by_image(ground_truth, chosen).items():
        boxes[category_id] += count
    return CocoResult(
        summary=_summary(arrays["precision"], arrays["recall"]),
        per_class={name: _mean(precision[:, :, k]) for k, name in enumerate(names)},
        precision=precision,
        boxes={name: boxes[i] for name, i in zip(names, category_ids, strict=True)},
        images=len(chosen),
        detections=int(np.isin(detections[:, 0], chosen).sum()),
        engine=engine,
        areas_replaced=ground_truth.get("areas_replaced", 0),
        own=own_figures(own, detections, ground_truth, chosen),
    )


def _check(detections: np.ndarray, ids: list[int], chosen: list[int]) -> None:
    if not np.isfinite(detections).all():
        index = int((~np.isfinite(detections)).any(axis=1).argmax())
        raise ValueError(
            f"detections has {detections[index].tolist()} in row {index}; expected finite numbers."
        )
    unknown = ~np.isin(detections[:, 0], ids)
    if unknown.any():
        raise ValueError(
            f"detections has the image id {detections[unknown.argmax(), 0]:g} in row "
            f"{unknown.argmax()}; expected an id of the ground truth's images."
        )
    if not chosen:
        raise ValueError("image_ids names no image; expected at least one of the ground truth.")
    strange = sorted(set(chosen) - set(ids))
    if strange:
        raise ValueError(
            f"image_ids has {strange[0]}; expected ids of the ground truth's images alone."
        )


def metrics(result: CocoResult) -> dict[str, Any]:
    """The content of metrics.json."""
    counts = {"images": result.images, "detections": result.detections, "boxes": result.boxes}
    if result.areas_replaced:
        counts["areas_replaced"] = result.areas_replaced
    own = {name: finite(value) for name, value in result.own.items()}
    coco = {**result.summary, "per_class": result.per_class}
    return {**coco, **own, **counts, "engine": result.engine}


def recall_limits(
    ground_truth: dict[str, Any], image_ids: Sequence[int], *, kept: int | None = None
) -> list[str]:
    """Sentences on images with more boxes than detections may match, without crowds.

    kept: how many detections post-processing keeps per image; None if that is unknown.
    """
    images: Counter[int] = Counter()
    of_a_class: dict[int, int] = {}
    for (image_id, _), count in _boxes_by_image(ground_truth, image_ids).items():
        images[image_id] += count
        of_a_class[image_id] = max(count, of_a_class.get(image_id, 0))
    sentences = _beyond(PER_IMAGE, of_a_class, "boxes of one class, and COCO counts {} detections")
    if kept is not None:
        sentences += _beyond(kept, images, "boxes, and postprocess.per_image is {}")
    return sentences


def _beyond(limit: int, counts: Mapping[int, int], what: str) -> list[str]:
    over = {image_id: count for image_id, count in counts.items() if count > limit}
    if not over:
        return []
    image_id = max(over, key=over.__getitem__)
    return [
        f"recall stays below 1: {len(over)} of the images have up to {over[image_id]} (image "
        f"{image_id}) {what.format(limit)}"
    ]


def metrics_table(result: CocoResult) -> str:
    """The twelve metrics, a user's own and the AP of each class, as text; `-` where undefined."""
    lines = [f"{key:<6} {_figure(result.summary[key])}  {text}" for key, text in HEADINGS.items()]
    lines += [f"{name}  {_own_figure(value)}" for name, value in result.own.items()]
    width = max(len("class"), *(len(name) for name in result.class_names))
    lines += ["", f"{'class':<{width}}      AP    boxes"]
    lines += [
        f"{name:<{width}}  {_figure(ap)}  {result.boxes[name]:>7}"
        for name, ap in result.per_class.items()
    ]
    lines += ["", f"{result.images} images, {result.detections} detections ({result.engine})"]
    if result.areas_replaced:
        lines.append(f"area not above 0: {result.areas_replaced} boxes; taken as width x height")
    return "\n".join(lines)


def _accumulate(
    detections: np.ndarray,
    ground_truth: dict[str, Any],
    image_ids: list[int],
    category_ids: list[int],
    engine: Engine,
) -> dict[str, np.ndarray]:
    """Precision (T, R, K, areas, limits), recall (T, K, areas, limits); classes sorted by id."""
    start = hotcoco_evaluation if engine == "hotcoco" else _pycocotools
    evaluation = start(
        detections, ground_truth, image_ids=image_ids, category_ids=sorted(category_ids)
    )
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval


def _pycocotools(
    detections: np.ndarray,
    ground_truth: dict[str, Any],
    *,
    image_ids: list[int],
    category_ids: list[int],
) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def index(annotations: list[dict[str, Any]]) -> Any:
        coco = COCO()
        coco.dataset = {**ground_truth, "annotations": annotations}
        coco.createIndex()
        return coco

    with contextlib.redirect_stdout(io.StringIO()):
        # Copies, because the evaluation writes into the annotations.
        truth = index([dict(annotation) for annotation in ground_truth["annotations"]])
        # loadRes fails on an empty list.
        results = truth.loadRes(detections) if len(detections) else index([])
        evaluation = COCOeval(truth, results, "bbox")
    evaluation.params.imgIds = image_ids
    evaluation.params.catIds = category_ids
    return evaluation


def _summary(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    """The twelve metrics, selected from the arrays as in `COCOeval.summarize`."""
    overall = precision[..., 0, 2]
    figures = [overall, overall[0], overall[5], *(precision[..., area, 2] for area in (1, 2, 3))]
    figures += [recall[..., 0, limit] for limit in (0, 1, 2)]
    figures += [recall[..., area, 2] for area in (1, 2, 3)]
    return {key: _mean(figure) for key, figure in zip(HEADINGS, figures, strict=True)}


def _mean(values: np.ndarray) -> float:
    """The mean of the defined values, those above -1; -1 if there are none."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0


def _figure(value: float) -> str:
    return f"{value:6.3f}" if value > -1 else "     -"


def _own_figure(value: float) -> str:
    return f"{value:.6g}" if np.isfinite(value) else "-"


def _class_names(categories: list[dict[str, Any]]) -> list[str]:
    times = Counter(category["name"] for category in categories)
    return [
        category["name"]
        if times[category["name"]] == 1
        else f"{category['name']} ({category['id']})"
        for category in categories
    ]


def _boxes_by_image(
    ground_truth: dict[str, Any], image_ids: Sequence[int]
) -> Counter[tuple[int, int]]:
    """The number of boxes of each image id and category id, without crowds."""
    chosen = set(image_ids)
    return Counter(
        (annotation["image_id"], annotation["category_id"])
        for annotation in ground_truth["annotations"]
        if annotation["image_id"] in chosen and not annotation["iscrowd"]
    )
