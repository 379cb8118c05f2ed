"""How networks of timm are cut to feature maps, found out on tensors without memory.

timm is an optional extra, and is imported only where a backbone is named "timm/NAME". It cuts its
networks itself (`features_only`).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from detector.errors import InputError
from detector.model.backbone import Stages

PREFIX = "timm/"
STRIDES = (8, 16, 32)
TRIED = (2, 3, 64, 96)  # an oblong batch: a network for one size of image refuses it


@dataclass(frozen=True)
class Layout:
    """What timm makes of a network."""

    out_indices: tuple[int, ...]  # of the maps at strides 8, 16, 32
    channels: tuple[int, int, int]
    stages: Stages | None  # None where their ends cannot be told
    batch_norms: bool
    unused: tuple[str, ...]  # parameters on which no map depends


def is_timm(name: str) -> bool:
    """Whether it names a network of timm."""
    return name.startswith(PREFIX)


def check_timm_name(name: str) -> None:
    """ValueError, in the words of a config's errors, for a name that timm does not know."""
    timm, short = timm_package(name), name.removeprefix(PREFIX)
    if timm.is_model(short):
        return
    near = difflib.get_close_matches(short.partition(".")[0], timm.list_models(), n=1)
    hint = f"; did you mean {PREFIX + near[0]!r}?" if near else ""
    raise ValueError(f"found {name!r}, and timm {timm.__version__} has no such network{hint}")


def timm_package(name: str) -> ModuleType:
    """The package; InputError, which says who wants it, where it is not installed."""
    try:
        import timm
    except ImportError as error:
        raise InputError(
            f"{name!r} needs timm, which cannot be imported ({error}): pip install timm."
        ) from None
    return cast(ModuleType, timm)


def created(name: str, **options: Any) -> Any:
    """timm's network, cut to its features, with initial weights."""
    try:
        return timm_package(name).create_model(
            name.removeprefix(PREFIX), features_only=True, **options
        )
    except InputError:
        raise
    except Exception as error:  # of the networks' own code
        raise _refusal(name, f"timm cannot cut it to feature maps ({first_line(error)})") from error


@lru_cache(maxsize=64)
def layout_of(name: str) -> Layout:
    """How a network is cut; InputError if it cannot be a backbone. Nothing is allocated."""
    with torch.device("meta"):
        infos = created(name).feature_info
        reductions = [info["reduction"] for info in infos.info]
        if not set(STRIDES) <= set(reductions):
            has = ", ".join(map(str, sorted(set(reductions))))
            raise _refusal(name, f"its feature maps have the strides {has}, not 8, 16 and 32")
        last = {stride: index for index, stride in enumerate(reductions)}
        indices = tuple(last[stride] for stride in STRIDES)
        body = created(name, out_indices=indices).eval()
        channels = tuple(level.shape[1] for level in _tried(name, body))
    return Layout(
        out_indices=indices,
        channels=cast(tuple[int, int, int], channels),
        stages=_stages(body, {s: infos.info[i]["module"] for s, i in last.items()}),
        batch_norms=any(isinstance(module, nn.BatchNorm2d) for module in body.modules()),
        unused=tuple(key for key, value in body.named_parameters() if value.grad is None),
    )


def _tried(name: str, body: nn.Module) -> Sequence[Tensor]:
    """The maps of an oblong batch, and gradients in all parameters that have one."""
    size = f"{TRIED[3]} x {TRIED[2]}"
    try:
        maps: Sequence[Tensor] = body(torch.empty(TRIED))
        torch.stack([level.sum() for level in maps]).sum().backward()
    except Exception as error:  # of the networks' own code
        why = f"it does not take images of any size, such as {size} ({first_line(error)})"
        raise _refusal(name, why) from error
    sizes = [tuple(level.shape[2:]) for level in maps]
    expected = [(TRIED[2] // stride, TRIED[3] // stride) for stride in STRIDES]
    if sizes != expected:
        raise _refusal(name, f"images of {size} give maps of {sizes}, not {expected}")
    return maps


def _stages(body: nn.Module, ends: dict[int, str]) -> Stages | None:
    """The layers of the stages that end at strides 2 (the stem), 4, 8, 16 and 32.

    ends: stride -> the layer in timm's network that ends it; without one at stride 2 the stem is
        what comes before the next stage's layer. None where they are no layers of the features.
    """
    layers = list(_outer_layers(body, list(ends.values())))
    plain = [layer.replace(".", "_") for layer in layers]
    names = {stride: end.replace(".", "_") for stride, end in ends.items()}
    if any(names.get(stride) not in plain for stride in (4, *STRIDES)):
        return None
    places = [plain.index(names[stride]) + 1 for stride in (4, *STRIDES)]
    stem = plain.index(names[2]) + 1 if names.get(2) in plain else places[0] - 1
    cuts = [0, stem, *places]
    if cuts != sorted(cuts):
        return None
    return tuple(tuple(layers[start:end]) for start, end in zip(cuts[:-1], cuts[1:], strict=True))


def _outer_layers(body: nn.Module, ends: Sequence[str]) -> Sequence[str]:
    """The names of the layers, in order; those of a container in which a stage ends, singly."""
    names = []
    for name, child in body.named_children():
        opened = any(end.startswith(f"{name}.") for end in ends)
        names += [f"{name}.{k}" for k, _ in child.named_children()] if opened else [name]
    return names


def first_line(error: Exception) -> str:
    """What an exception says, as a part of a sentence."""
    return str(error).strip().partition("\n")[0].rstrip(".")


def _refusal(name: str, reason: str) -> InputError:
    return InputError(f"{name} cannot be a backbone: {reason}; set model.backbone.name to another.")
