"""Feature maps C3, C4, C5 of any network of timm that has maps at strides 8, 16 and 32.

`make_backbone` makes one of timm's or of torchvision's.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detector.errors import InputError
from detector.model.backbone import AnyBackbone, Backbone, FrozenBatchNorm, Norm
from detector.model.timm_layout import (
    PREFIX,
    STRIDES,
    created,
    first_line,
    is_timm,
    layout_of,
    timm_package,
)


def check_setup(name: str, norm: Norm, frozen_stages: int, norm_eps: float) -> None:
    """InputError for a network of timm that has no such maps, or that cannot be set up so."""
    if not is_timm(name):
        return
    layout = layout_of(name)
    if norm in ("frozen_batch", "batch") and not layout.batch_norms:
        raise InputError(
            f"model.backbone.norm is {norm}, and {name} has no batch norms: set norm to own."
        )
    if norm == "group":
        raise InputError(
            f"model.backbone.norm is group, and {name} keeps the norms that timm gives it: set "
            "norm to own, or to frozen_batch where it has batch norms."
        )
    if frozen_stages and layout.stages is None:
        raise InputError(
            f"model.backbone.frozen_stages is {frozen_stages}, and where the stages of {name} end "
            "cannot be told: set it to 0."
        )
    if norm_eps != 1e-5:
        raise InputError(
            f"model.backbone.norm_eps is {norm_eps:g}, and {name} has an epsilon of its own: leave "
            "norm_eps at 1e-5."
        )


def make_backbone(
    name: str, norm: Norm, frozen_stages: int, *, norm_eps: float, seed: int
) -> AnyBackbone:
    """The network; `seed` draws the initial weights of timm's. InputError as of both classes."""
    if is_timm(name):
        return TimmBackbone(name, norm, frozen_stages, norm_eps=norm_eps, seed=seed)
    return Backbone(name, norm, frozen_stages, norm_eps=norm_eps)


class TimmBackbone(AnyBackbone):
    """A network of timm.

    Args:
        name: "timm/NAME", also with a tag of weights: "timm/convnext_tiny.in12k".
        norm: `own` are the network's norms as they are; `batch` is the same, of a network that has
            batch norms; `frozen_batch` fixes the statistics and the affine of its batch norms.
        frozen_stages: as of Backbone; a network without a map at stride 2 has all that comes before
            its first stage as the stem.
        seed: of the initial weights, which are timm's own.

    Raises InputError where timm is not installed, and for whatever `check_setup` refuses.
    """

    def __init__(
        self, name: str, norm: Norm, frozen_stages: int, *, norm_eps: float = 1e-5, seed: int = 0
    ) -> None:
        super().__init__()
        check_setup(name, norm, frozen_stages, norm_eps)
        layout = layout_of(name)
        self.name = name
        self.norm = norm
        self.channels = layout.channels
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs, too
            body = created(name, out_indices=layout.out_indices)
        self.body = body
        self.mean, self.std = (tuple(body.pretrained_cfg[key]) for key in ("mean", "std"))
        if norm == "frozen_batch":
            _freeze_batch_norms(self.body)
        self.freeze((layout.stages or ())[:frozen_stages])
        for key, parameter in self.body.named_parameters():
            if key in layout.unused:  # DDP would wait for its gradient
                parameter.requires_grad = False

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised images (N, 3, H, W) -> C3, C4, C5 (N, channels, ceil(H/s), ceil(W/s))."""
        height, width = images.shape[-2:]
        # some networks lose what is beyond the last whole patch
        if height % STRIDES[-1] or width % STRIDES[-1]:
            images = F.pad(images, (0, -width % STRIDES[-1], 0, -height % STRIDES[-1]))
        c3, c4, c5 = (
            level[..., : math.ceil(height / stride), : math.ceil(width / stride)]
            for level, stride in zip(self.body(images), STRIDES, strict=True)
        )
        return c3, c4, c5

    def synchronize(self) -> None:
        """Make batch norms those of all ranks together; torch's would lose the activations."""
        from timm.layers import convert_sync_batchnorm

        self.body = convert_sync_batchnorm(self.body)

    def published(self) -> dict[str, Tensor]:
        """timm's pretrained weights, downloaded unless they are in the cache."""
        timm, short = timm_package(self.name), self.name.removeprefix(PREFIX)
        if not timm.get_pretrained_cfg(short).has_weights:  # timm would warn, and go on without
            raise InputError(
                f"timm has no pretrained weights of {self.name}: set model.backbone.weights to a "
                "file, or to null."
            )
        indices = layout_of(self.name).out_indices
        try:
            body = timm.create_model(
                short, features_only=True, out_indices=indices, pretrained=True
            )
        except Exception as error:  # the hub's client has many kinds
            raise InputError(
                f"The pretrained weights of {self.name} could not be loaded by timm "
                f"({type(error).__name__}: {first_line(error)}); fetch them where there is a "
                "network and set HF_HOME to that cache, or set model.backbone.weights to a file "
                "or to null."
            ) from error
        return dict(body.state_dict())

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state of timm's whole network under the names of its features.

        timm takes the two outer levels apart: `stages.0.x` is `stages_0.x` here. Whatever is not
        among the layers of the features (a classifier) is left out.
        """
        layers, renamed = dict(self.body.named_children()), {}
        for key, value in state.items():
            first, *rest = key.split(".")
            joined = f"{first}_{rest[0]}" if rest else ""
            if first in layers:
                renamed[key] = value
            elif joined in layers:
                renamed[".".join([joined, *rest[1:]])] = value
        return renamed


class FrozenBatchNormAct(FrozenBatchNorm):
    """Of timm's batch norm that holds its activation."""

    def __init__(self, norm: Any) -> None:
        super().__init__(norm.num_features, eps=norm.eps)
        self.drop, self.act = norm.drop, norm.act

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape and dtype."""
        return cast(Tensor, self.act(self.drop(super().forward(x))))


def _freeze_batch_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = (
                FrozenBatchNormAct(child)
                if hasattr(child, "act")
                else FrozenBatchNorm(child.num_features, eps=child.eps)
            )
            frozen.load_state_dict(child.state_dict())
            setattr(module, name, frozen)
        else:
            _freeze_batch_norms(child)
