"""Feature maps C3, C4, C5 of torchvision's classification networks.

A backbone is torchvision's model without its classifier, with torchvision's parameter names. It has
five stages: the stem, and those that end at strides 4, 8, 16 and 32.
    ResNet, ResNeXt  conv1 to maxpool · layer1 · layer2 · layer3 · layer4
    MobileNetV2      features 0-1 · 2-3 · 4-6 · 7-13 · 14-17, so the stem ends at stride 2
N images, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, cast

from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.ops import FrozenBatchNorm2d

from detector.errors import InputError

Norm = Literal["frozen_batch", "batch", "group"]

RESNETS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
)
NAMES = (*RESNETS, "mobilenet_v2")

_STEM = ("conv1", "bn1", "relu", "maxpool")
_RESNET_STAGES = (_STEM, ("layer1",), ("layer2",), ("layer3",), ("layer4",))
_MOBILENET_STAGES = tuple(
    tuple(f"features.{index}" for index in indices)
    for indices in (range(2), range(2, 4), range(4, 7), range(7, 14), range(14, 18))
)


class Backbone(nn.Module):
    """Images -> feature maps C3, C4, C5 at strides 8, 16 and 32.

    Args:
        name: one of NAMES.
        norm: `frozen_batch` is batch norm with fixed statistics and fixed affine; `group` has 32
            groups where the channels allow it (see `group_norm`).
        frozen_stages: how many stages, counted from the stem, are not trained: 0 none, 5 all. Their
            batch norms keep their statistics in training, too.
        norm_eps: added to the variance. torchvision's published RetinaNet v1 for COCO needs 0.0
            (torchvision calls it `overwrite_eps`), its v2 and its classifiers 1e-5.

    Raises InputError for an unknown name or number of stages.
    """

    strides = (8, 16, 32)

    def __init__(
        self, name: str, norm: Norm, frozen_stages: int, *, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        if name not in NAMES:
            raise InputError(f"There is no backbone {name!r}; choose one of {', '.join(NAMES)}.")
        if not 0 <= frozen_stages <= 5:
            raise InputError(f"frozen_stages is {frozen_stages}; a backbone has stages 0 to 5.")
        self.name = name
        self.norm = norm
        self.body = _body(name, norm, norm_eps)
        self._stages = _MOBILENET_STAGES if name == "mobilenet_v2" else _RESNET_STAGES
        self._frozen = tuple(name for stage in self._stages[:frozen_stages] for name in stage)
        self.channels = _channels(name)
        for layer in self._frozen:
            self.body.get_submodule(layer).requires_grad_(requires_grad=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised images (N, 3, H, W) -> C3, C4, C5 (N, channels, ceil(H/s), ceil(W/s))."""
        features = images
        maps = []
        for stage in self._stages:
            for layer in stage:
                features = self.body.get_submodule(layer)(features)
            maps.append(features)
        return maps[2], maps[3], maps[4]

    def train(self, mode: bool = True) -> Backbone:  # noqa: FBT001, FBT002 - nn.Module's signature
        """Like nn.Module's, but frozen stages stay in evaluation mode, with fixed statistics."""
        super().train(mode)
        for layer in self._frozen:
            self.body.get_submodule(layer).eval()
        return self


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


def _body(name: str, norm: Norm, eps: float) -> nn.Module:
    """torchvision's model up to C5: DDP would wait for gradients of unused parameters."""
    layers: dict[Norm, Callable[..., nn.Module]] = {
        "frozen_batch": FrozenBatchNorm,
        "batch": nn.BatchNorm2d,
        "group": group_norm,
    }
    body: nn.Module = get_model(name, weights=None, norm_layer=partial(layers[norm], eps=eps))
    if name == "mobilenet_v2":
        del body.classifier
        del cast(nn.Sequential, body.features)[18]  # the 1 x 1 convolution before the classifier
    else:
        del body.fc, body.avgpool
    return body


def _channels(name: str) -> tuple[int, int, int]:
    if name == "mobilenet_v2":
        return 32, 96, 320
    if name in ("resnet18", "resnet34"):
        return 128, 256, 512
    return 512, 1024, 2048
