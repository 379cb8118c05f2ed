"""Which state may go on where: weights of whole detectors by class, and that of a resumed run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.anchors.class_code import ClassCode
from detector.data.coco import CocoIndex
from detector.engine.step import TrainingStep
from detector.errors import InputError
from detector.model.pretrained import (
    is_torchvision_detector,
    load_checked,
    torchvision_class_names,
    torchvision_detector_state,
)
from detector.model.retinanet import RetinaNet
from detector.model.transfer import ClassChannels, Transfer, transfer


@dataclass(frozen=True)
class Classes:
    """The K foreground classes in the order of their channels."""

    names: list[str]
    category_ids: list[int]  # of the annotation file

    @classmethod
    def of(cls, index: CocoIndex) -> Classes:
        """The classes of a data set."""
        return cls(list(index.category_names), index.category_ids.tolist())

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        pairs = zip(self.category_ids, self.names, strict=True)
        texts = [f"{category_id} {name}" for category_id, name in pairs]
        return f"{len(self)} classes ({few(texts)})"

    def difference(self, other: Classes) -> str:
        """The first difference from a list of other classes, in words."""
        # the shorter list goes on with None, which differs from every class
        pairs = zip_longest(*(zip(c.category_ids, c.names, strict=True) for c in (self, other)))
        here, there = (
            "no more class" if entry is None else f"{entry[0]} {entry[1]!r}"
            for entry in next(pair for pair in pairs if pair[0] != pair[1])
        )
        return f"{here} here is {there} there"


def check_classes(
    classes: Classes,
    index: CocoIndex,
    remedy: str = "both need the same categories: ids and names",
) -> None:
    """InputError if the classes of a data set are not those of the model."""
    of_index = Classes.of(index)
    if of_index != classes:
        raise InputError(
            f"{index.annotations_file}: it has {of_index}, but training had {classes} "
            f"({of_index.difference(classes)}); {remedy}."
        )


def load_detector(
    net: RetinaNet, state: dict[str, Any], path: Path, classes: Classes, code: ClassCode
) -> None:
    """Load a detector for exactly these classes: torchvision's, or a checkpoint of tools/train.py.

    `state` is what the file `path` holds. torchvision's detectors know more classes than a data
    set has: a class gets the channel of the same name. A checkpoint must have the same classes; its
    moving average is preferred to its model. Raises InputError for other classes or another
    architecture.
    """
    if is_torchvision_detector(state):
        weights, theirs = weights_of(state)
        ours = ClassChannels(classes.names, code)
        _check_whole(transfer(net, weights, theirs, ours, source=str(path)), path)
        return
    trained = classes_of(state, path)
    if trained != classes:
        raise InputError(
            f"{path}: the checkpoint was trained on {trained}; expected {classes} "
            f"({trained.difference(classes)}); use a checkpoint and annotations of the same "
            "categories."
        )
    load_checked(net, averaged(state), source=str(path))


def _check_whole(taken: Transfer, path: Path) -> None:
    """InputError if a detector to be evaluated has something untrained."""
    if taken.new_parts:
        raise InputError(
            f"{path} does not fit this model: its {', its '.join(taken.new_parts)} have other "
            "shapes; give model.head and anchors the values that it was trained with."
        )
    if taken.new_classes:
        raise InputError(
            f"{path}: of the classes of this data set the detector has no channel for "
            f"{few(taken.new_classes)}; expected names that it was trained on (COCO's for "
            "torchvision's published files)."
        )


def weights_of(
    state: dict[str, Any], code: ClassCode | None = None
) -> tuple[dict[str, Tensor], ClassChannels | None]:
    """A detector's weights under the names of RetinaNet, and what its class channels mean.

    Args:
        state: as of `checkpoint.load_state`: torchvision's detector, a checkpoint, or the tensors
            of a RetinaNet alone, which do not say what their channels mean.
        code: the class code of a checkpoint.
    """
    if is_torchvision_detector(state):
        names = torchvision_class_names(state)
        channels = ClassChannels(names, ClassCode(num_classes=len(names)))
        return torchvision_detector_state(state), channels
    if code is None:
        return state, None
    return averaged(state), ClassChannels(state["class_names"], code)


def classes_of(state: dict[str, Any], path: Path) -> Classes:
    """The classes that a checkpoint of tools/train.py was trained on; InputError if it is none."""
    if "class_names" not in state:  # tensors alone, or checkpoint.load_state would have refused it
        raise InputError(
            f"{path}: it is neither a checkpoint of detector train nor a state dict of "
            "torchvision's retinanet_resnet50_fpn or _v2."
        )
    return Classes(state["class_names"], state["category_ids"])


def averaged(state: dict[str, Any]) -> dict[str, Any]:
    """The network's weights in a checkpoint: the moving average, if it has one."""
    if state["ema"] is None:
        model: dict[str, Any] = state["model"]
        return model
    prefix = "module."  # of EMA.module
    return {k.removeprefix(prefix): v for k, v in state["ema"].items() if k.startswith(prefix)}


def few(items: Sequence[object]) -> str:
    """The first five of a list, for a sentence."""
    return ", ".join(str(item) for item in items[:5]) + (", …" if len(items) > 5 else "")


def data_identity(train: CocoIndex, validation: CocoIndex | None) -> dict[str, str]:
    """Size and digest of the training images, their boxes, and the validation set.

    Pixels are not read: an image is identified by its id, name and size. The order of the images in
    the file counts, since it decides when each is drawn.
    """
    measured = "none" if validation is None else f"{_images(validation)}, {_boxes(validation)}"
    return {"images": _images(train), "boxes": _boxes(train), "validation": measured}


def _images(index: CocoIndex) -> str:
    # surrogatepass: a file name may be bytes that are no UTF-8, which Python holds as surrogates
    names = "\0".join(index.file_names.tolist()).encode("utf-8", "surrogatepass")
    return f"{len(index)} images, digest {_digest(index.image_ids, index.sizes, names)}"


def _boxes(index: CocoIndex) -> str:
    labels = index.label_offsets, index.label_values
    digest = _digest(index.box_offsets, index.boxes, index.crowd, *labels)
    return f"{len(index.boxes)} boxes, digest {digest}"


def _digest(*contents: NDArray[Any] | bytes) -> str:
    hasher = hashlib.sha256()
    for content in contents:
        hasher.update(content if isinstance(content, bytes) else content.tobytes())
    return hasher.hexdigest()[:16]


def check_resumed_data(
    state: dict[str, Any], path: Path, train: CocoIndex, validation: CocoIndex | None
) -> list[str]:
    """Compare the data with those of `state`, from the file `path`; returns warnings.

    InputError if the classes or the training images changed: channels would change their meaning,
    and the remaining steps of an epoch would repeat or omit images. Changed boxes or a changed
    validation set are only warned of.
    """
    new_run = "or begin another run with another --output"
    remedy = f"restore the categories, ids and names, as {path} has them, {new_run}"
    check_classes(classes_of(state, path), train, remedy)
    if state.get("data") is None:
        return [
            f"{path} is of an older version, without a digest of the data: whether they changed is "
            "not known."
        ]
    before, now = state["data"], data_identity(train, validation)
    if before["images"] != now["images"]:
        raise InputError(
            f"{train.annotations_file}: the run began with {before['images']} of ids, names and "
            f"sizes in their order; now there are {now['images']}: restore the file, {new_run}."
        )
    names = {"boxes": f"the boxes of {train.annotations_file}", "validation": "the validation set"}
    return [
        f"Careful: {name} changed since the run began, from {before[key]} to "
        f"{now[key]}; figures before and after do not compare."
        for key, name in names.items()
        if before[key] != now[key]
    ]


def check_resumed_state(
    state: dict[str, Any], path: Path, step: TrainingStep, *, total_steps: int
) -> None:
    """InputError if a checkpoint does not belong to this step's network, optimizer and loss.

    Compares names, types and shapes, not values, before anything is loaded: an error halfway
    through `Trainer.restore` would leave a mixed state.
    """
    difference = next(_differences(*_forms(state, step), "its state"), None)
    if state["step"] > total_steps:
        difference = f"it stands at step {state['step']} of {total_steps}"
    if difference is not None:
        raise InputError(
            f"{path}: the checkpoint does not fit this run: {difference}. It was changed by hand, "
            "or written by another version: put back the run's own file, or begin another run with "
            "another --output."
        )


def _forms(state: dict[str, Any], step: TrainingStep) -> tuple[dict[str, Any], dict[str, Any]]:
    """The states to compare: of the checkpoint, and of the step."""
    cuda = [rank["cuda"] for rank in state["ranks"] if rank["cuda"] is not None]
    there = {
        **{key: state[key] for key in step.state()},
        "optimizer": state["optimizer"]["state"],
        "cpu": [rank["cpu"] for rank in state["ranks"]],
        "cuda": cuda if torch.cuda.is_available() else [],
    }
    here = {
        **step.state(),
        # empty in a checkpoint before the first step, when an optimizer has no state yet
        "optimizer": _moments(step.optimizer) if there["optimizer"] else {},
        "cpu": [torch.get_rng_state() for _ in state["ranks"]],
        "cuda": [torch.cuda.get_rng_state() for _ in there["cuda"]],
    }
    if not (here["scaler"] and there["scaler"]):  # the run moved to or from a GPU
        here["scaler"] = there["scaler"] = {}
    return there, here


def _moments(optimizer: torch.optim.Optimizer) -> dict[int, Any]:
    """The state that an optimizer keeps of each parameter after a step, with the right shapes."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if isinstance(optimizer, torch.optim.AdamW):
        count = torch.zeros(())
        return {i: {"step": count, "exp_avg": p, "exp_avg_sq": p} for i, p in enumerate(parameters)}
    if optimizer.defaults["momentum"]:
        return {i: {"momentum_buffer": p} for i, p in enumerate(parameters)}
    return {}


def _differences(there: Any, here: Any, name: str) -> Iterator[str]:
    if isinstance(there, list):  # of one generator a rank, in both
        there, here = dict(enumerate(there)), dict(enumerate(here))
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        yield from (f"{name} lacks {key}" for key in here if key not in there)
        yield from (f"{name} has {key}, which is not known" for key in there if key not in here)
        for key in [key for key in here if key in there]:
            yield from _differences(there[key], here[key], f"{name}: {key}")
    elif _kind(there) != _kind(here):
        yield f"{name} is {_kind(there)}, expected {_kind(here)}"


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a {value.dtype} of shape {list(value.shape)}"
    # pydantic has seen to it that a checkpoint has either where a number belongs
    return "a number" if isinstance(value, int | float) else f"a {type(value).__name__}"
