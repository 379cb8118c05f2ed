"""Loading weights: torchvision's classifiers, and the names in torchvision's RetinaNets.

A state is a dict of tensors by parameter name. Files are read with `weights_only`, so no code in
them runs. A module is changed only if the whole state fits it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights

from detector.errors import InputError
from detector.model.backbone import AnyBackbone
from detector.model.timm_backbone import TimmBackbone

State = dict[str, Tensor]

_COUNTER = "num_batches_tracked"  # absent in old files and frozen norms; no result depends on it
_CLASS_KEYS = tuple(f"head.classification_head.cls_logits.{kind}" for kind in ("weight", "bias"))
_BOX_KEY = "head.regression_head.bbox_reg.weight"
# torchvision's parameter names (current, and in the published v1 file) and those of RetinaNet
_RENAMES = (
    (r"backbone\.fpn\.inner_blocks\.(\d+)(?:\.0)?\.", r"pyramid.laterals.\1."),
    (r"backbone\.fpn\.layer_blocks\.(\d+)(?:\.0)?\.", r"pyramid.outputs.\1."),
    (r"backbone\.fpn\.extra_blocks\.", r"pyramid."),
    (r"head\.classification_head\.cls_logits\.", r"class_head.last."),
    (r"head\.regression_head\.bbox_reg\.", r"box_head.last."),
    (r"head\.classification_head\.conv\.", r"class_head.convs."),
    (r"head\.regression_head\.conv\.", r"box_head.convs."),
)


def load_backbone(backbone: AnyBackbone, weights: Literal["imagenet"] | Path) -> None:
    """Load torchvision's (timm's) pretrained weights, or a file of such a state, into `backbone`.

    `imagenet` is torchvision's IMAGENET1K_V1, which the published 1x recipes start from (V2 comes
    from a longer recipe), or timm's weights of the name; it is downloaded unless TORCH_HOME (or
    HF_HOME) has it. What a backbone leaves out of its network is dropped from the file. Raises
    InputError for weights that do not fit, or that cannot be read or downloaded.
    """
    if isinstance(backbone, TimmBackbone):
        if weights == "imagenet":
            state, source = backbone.published(), f"timm's {backbone.name}"
        else:
            state, source = backbone.renamed(read_weights(Path(weights))), str(weights)
        load_checked(backbone.body, state, source=source)
        return
    if weights == "imagenet":
        state, source = _imagenet_state(backbone.name), f"torchvision's {backbone.name}"
    else:
        state, source = read_weights(Path(weights)), str(weights)
    left_out = tuple(f"{layer}." for layer in backbone.left_out)
    state = {key: value for key, value in state.items() if not key.startswith(left_out)}
    if backbone.norm == "group" and any(key.endswith("running_mean") for key in state):
        raise InputError(
            f"{source} holds batch-norm weights, which norm group cannot take: set weights to "
            "null, or norm to frozen_batch."
        )
    load_checked(backbone.body, state, source=source)


def read_weights(path: Path) -> State:
    """The state dict in a file; InputError if it cannot be read or holds something else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"There is no weights file {path}.") from None
    except Exception as error:  # torch's unpickler raises almost any exception for a damaged file
        raise InputError(  # without torch's message, which advises to turn `weights_only` off
            f"{path} cannot be read as a file of weights ({type(error).__name__}); expected a "
            "whole file of tensors by parameter name."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(
            f"{path} holds no state dict; expected tensors by parameter name, as "
            "torch.save(model.state_dict(), path) writes them."
        )
    return dict(state)


def load_checked(module: nn.Module, state: State, *, source: str) -> None:
    """Load the whole of `state`; InputError, which names `source`, if it does not fit exactly."""
    # torch's own strict load copies whatever fits before it raises
    own = {key: value for key, value in module.state_dict().items() if not key.endswith(_COUNTER)}
    given = {key: value for key, value in state.items() if not key.endswith(_COUNTER)}
    mismatches = {
        "missing": [key for key in own if key not in given],
        "unexpected": [key for key in given if key not in own],
        "of another shape": [k for k in own if k in given and own[k].shape != given[k].shape],
    }
    texts = [f"{len(keys)} {what} (first: {keys[0]})" for what, keys in mismatches.items() if keys]
    if texts:
        raise InputError(
            f"{source} does not fit this model: of {len(own)} parameters and buffers, "
            f"{', '.join(texts)}; was it made for another network? Give model.backbone, model.fpn "
            "and model.head the values that it was trained with."
        )
    broken = [key for key, value in given.items() if not value.isfinite().all()]
    if broken:
        raise InputError(
            f"{source}: {len(broken)} of {len(given)} weights are not finite (first: {broken[0]}): "
            "the training that wrote it had diverged; use an earlier checkpoint."
        )
    counters = {k: v for k, v in module.state_dict().items() if k.endswith(_COUNTER)}
    module.load_state_dict({**given, **{k: state.get(k, v) for k, v in counters.items()}})


def is_torchvision_detector(state: Mapping[str, object]) -> bool:
    """Whether a state belongs to torchvision's `retinanet_resnet50_fpn` or `_v2`."""
    return all(key in state for key in (*_CLASS_KEYS, _BOX_KEY))


def torchvision_detector_state(state: State) -> State:
    """A state of torchvision's RetinaNet under the parameter names of RetinaNet."""
    return {_renamed(key): value for key, value in state.items()}


def torchvision_class_names(state: State) -> list[str]:
    """The class names of a torchvision detector's channels.

    In the published files channel c is COCO's category id c. A file with another number of channels
    does not say what they mean, so they get names that no class has.
    """
    coco: list[str] = RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    # the box head has 4 channels an anchor; at least 1, for load_checked to refuse a broken file
    anchors_per_cell = max(1, state[_BOX_KEY].shape[:1].numel() // 4)
    channels = state[_CLASS_KEYS[1]].numel() // anchors_per_cell
    return (
        coco if channels == len(coco) else [f"channel {c} of {channels}" for c in range(channels)]
    )


def _renamed(key: str) -> str:
    """torchvision's name of a parameter -> RetinaNet's."""
    for pattern, replacement in _RENAMES:
        key = re.sub(f"^{pattern}", replacement, key)
    # the published v1 file numbers ReLUs, too: conv.0, conv.2, ... for convs.0.0, convs.1.0, ...
    old = re.fullmatch(r"(\w+_head\.convs)\.(\d+)\.(weight|bias)", key)
    return f"{old[1]}.{int(old[2]) // 2}.0.{old[3]}" if old else key


def _imagenet_state(name: str) -> State:
    published = get_model_weights(name)["IMAGENET1K_V1"]
    # a file that is there is read without its hash, so that a machine without network can start
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(published.url).name
    if file.exists():
        return read_weights(file)
    try:
        return dict(published.get_state_dict(progress=True, check_hash=True, weights_only=True))
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"The ImageNet weights of {name} are not at {file} and could not be downloaded "
            f"({error}); put {published.url} there by hand, or set the environment variable "
            "TORCH_HOME to a folder that has hub/checkpoints, or set weights to a file or to null."
        ) from error
