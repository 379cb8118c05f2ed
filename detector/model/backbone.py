"""Feature maps C3, C4, C5 of torchvision's classification networks.

A backbone is torchvision's model without its classifier, with torchvision's parameter names. It has
five stages: the stem, and those that end at strides 4, 8, 16 and 32. BACKBONES has a line for each;
timm's networks are in model/timm_backbone.py. N images, H W rows and columns.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.ops import FrozenBatchNorm2d

from detector.errors import InputError, about

Norm = Literal["own", "frozen_batch", "batch", "group"]
Stages = tuple[tuple[str, ...], ...]  # the layers of each stage, in the order of the forward pass

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # red, green, blue, of pixels in 0..1
IMAGENET_STD = (0.229, 0.224, 0.225)


def _slices(layer: str, *ends: int) -> Stages:
    """Stages that are slices of an `nn.Sequential`, each up to before its end."""
    starts = (0, *ends)
    return tuple(
        tuple(f"{layer}.{index}" for index in range(start, end))
        for start, end in zip(starts, ends, strict=False)
    )


_RESNET = (("conv1", "bn1", "relu", "maxpool"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))

# torchvision's function, which must take `norm_layer` -> the layers of the five stages; whatever
# is in none of them (a classifier) is left out
BACKBONES: dict[str, Stages] = {
    "resnet18": _RESNET,
    "resnet34": _RESNET,
    "resnet50": _RESNET,
    "resnet101": _RESNET,
    "resnet152": _RESNET,
    "resnext50_32x4d": _RESNET,
    "resnext101_32x8d": _RESNET,
    "mobilenet_v2": _slices("features", 2, 4, 7, 14, 18),  # its stem ends at stride 2
}


def check_torchvision_name(name: str) -> None:
    """ValueError, in the words of a config's errors, for what is no backbone of torchvision's."""
    if name not in BACKBONES:
        near = difflib.get_close_matches(name, BACKBONES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"found {name!r}, it should be {', '.join(BACKBONES)}, or timm/NAME{hint}")


class AnyBackbone(nn.Module):
    """Images -> feature maps C3, C4, C5 at strides 8, 16 and 32; the first stages may be frozen."""

    strides = (8, 16, 32)
    mean, std = IMAGENET_MEAN, IMAGENET_STD  # what normalises the pixels of its images

    name: str
    norm: Norm
    channels: tuple[int, int, int]  # of C3, C4, C5
    body: nn.Module  # the network without its classifier
    left_out: tuple[str, ...] = ()  # layers of the whole network that `body` lacks
    _frozen: tuple[str, ...] = ()  # layers of `body`
    _waiting: tuple[nn.Parameter, ...] = ()  # would be trained, but for `freeze_all`

    def freeze(self, stages: Stages) -> None:
        """Train these stages no more; their batch norms keep their statistics."""
        self._frozen = tuple(layer for stage in stages for layer in stage)
        for layer in self._frozen:
            self.body.get_submodule(layer).requires_grad_(requires_grad=False)

    @property
    def all_frozen(self) -> bool:
        """Whether `freeze_all` holds back what would be trained."""
        return bool(self._waiting)

    def freeze_all(self) -> None:
        """Train no stage until `unfreeze`; no statistics of batch norms move."""
        self._waiting += tuple(p for p in self.parameters() if p.requires_grad)
        for parameter in self._waiting:
            parameter.requires_grad = False
        self.eval()

    def unfreeze(self) -> None:
        """Train what was trained before `freeze_all`, from the next call of `train` on."""
        for parameter in self._waiting:
            parameter.requires_grad = True
        self._waiting = ()

    def train(self, mode: bool = True) -> AnyBackbone:  # noqa: FBT001, FBT002 - nn.Module's
        """Like nn.Module's, but frozen stages stay in evaluation mode, with fixed statistics."""
        super().train(mode and not self._waiting)
        for layer in self._frozen:
            self.body.get_submodule(layer).eval()
        return self

    def synchronize(self) -> None:
        """Make batch norms those of all ranks together."""
        self.body = nn.SyncBatchNorm.convert_sync_batchnorm(self.body)


class Backbone(AnyBackbone):
    """A network of torchvision.

    Args:
        name: one of BACKBONES.
        norm: `frozen_batch` is batch norm with fixed statistics and fixed affine; `group` has 32
            groups where the channels allow it (see `group_norm`); `own` is torchvision's: `batch`.
        frozen_stages: how many stages, counted from the stem, are not trained: 0 none, 5 all. Their
            batch norms keep their statistics in training, too.
        norm_eps: added to the variance. torchvision's published RetinaNet v1 for COCO needs 0.0
            (torchvision calls it `overwrite_eps`), its v2 and its classifiers 1e-5.

    Raises InputError for an unknown name or number of stages.
    """

    def __init__(
        self, name: str, norm: Norm, frozen_stages: int, *, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        with about("model.backbone.name"):
            check_torchvision_name(name)
        if not 0 <= frozen_stages <= 5:
            raise InputError(f"frozen_stages is {frozen_stages}; a backbone has stages 0 to 5.")
        self.name = name
        self.norm = norm
        self.body = get_model(name, weights=None, norm_layer=_norm_layer(norm, norm_eps))
        self._stages = BACKBONES[name]
        # DDP would wait for gradients of unused parameters; their names are those that files have
        self.left_out = _remove_others(
            self.body, [layer for stage in self._stages for layer in stage]
        )
        self.channels = _channels(self)
        self.freeze(self._stages[:frozen_stages])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised images (N, 3, H, W) -> C3, C4, C5 (N, channels, ceil(H/s), ceil(W/s))."""
        features = images
        maps = []
        for stage in self._stages:
            for layer in stage:
                features = self.body.get_submodule(layer)(features)
            maps.append(features)
        return maps[2], maps[3], maps[4]


class FrozenBatchNorm(FrozenBatchNorm2d):
    """torchvision's, but its output has the dtype of its input.

    torchvision's multiplies by float32 buffers, so under autocast its output would be float32, and
    every later elementwise operation would read and write twice the memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape and dtype."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        scale, shift = (v.to(x.dtype).reshape(1, -1, 1, 1) for v in (scale, shift))
        return x * scale + shift


def group_norm(channels: int, *, eps: float = 1e-5) -> nn.GroupNorm:
    """Group norm (Wu and He 2018) with the most groups up to 32 that have two channels or more.

    A group of one channel would have nothing to normalise at a level of one position (P7 of small
    images): torch refuses it for a single image and gives zeros for several.
    """
    groups = [n for n in range(1, 33) if channels % n == 0 and channels >= 2 * n]
    return nn.GroupNorm(max(groups, default=1), channels, eps=eps)


def _norm_layer(norm: Norm, eps: float) -> Callable[..., nn.Module]:
    """What makes the norm of so many channels."""
    layers: dict[Norm, Callable[..., nn.Module]] = {
        "own": nn.BatchNorm2d,
        "frozen_batch": FrozenBatchNorm,
        "batch": nn.BatchNorm2d,
        "group": group_norm,
    }
    return partial(layers[norm], eps=eps)


def _remove_others(module: nn.Module, layers: Sequence[str], above: str = "") -> tuple[str, ...]:
    """Remove the layers that are not among `layers`, nor hold or belong to one; their names."""
    removed: list[str] = []
    for child in [name for name, _ in module.named_children()]:
        name = above + child
        if name in layers:
            continue
        if any(layer.startswith(f"{name}.") for layer in layers):
            removed += _remove_others(module.get_submodule(child), layers, f"{name}.")
        else:
            delattr(module, child)
            removed.append(name)
    return tuple(removed)


def _channels(backbone: Backbone) -> tuple[int, int, int]:
    """Of C3, C4 and C5, as a small image shows; no statistics and no random number change."""
    backbone.eval()
    with torch.no_grad():
        device = next(backbone.parameters()).device
        c3, c4, c5 = backbone(torch.zeros(1, 3, 64, 64, device=device))
    backbone.train()
    return c3.shape[1], c4.shape[1], c5.shape[1]
