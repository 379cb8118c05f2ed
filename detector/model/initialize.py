"""Initial weights, each of which depends on the seed and the parameter's name alone.

So two variants with the same seed share every weight that both have. The last convolution of the
class head is drawn channel by channel, so that heads with and without a background channel share
the channels of the classes. A network of timm keeps the initial values that timm gives it, which
depend on the seed: its layers want what their papers say.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from detector.model.retinanet import RetinaNet
from detector.model.timm_backbone import TimmBackbone

_CLASSES = "class_head.last"


def initialize(model: RetinaNet, *, seed: int, class_bias: Tensor) -> None:
    """Fill all parameters of `model` in place, on whatever device they are.

    Args:
        seed: the run's.
        class_bias: (C,) bias of each class channel, the same for every anchor (ClassCode.bias).

    Backbone: Kaiming normal by fan-out, as torchvision's networks. FPN: Kaiming uniform with
    a = 1, as torchvision's. Heads: normal with standard deviation 0.01 (Lin et al. 2017, section
    4.1). Biases 0, norms 1 and 0.
    """
    head = model.class_head
    if class_bias.shape != (head.out_channels,):
        raise ValueError(
            f"class_bias has the shape {tuple(class_bias.shape)}; expected ({head.out_channels},), "
            "one bias for each channel of the class head."
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("backbone.") and isinstance(model.backbone, TimmBackbone):
                continue
            if name == f"{_CLASSES}.weight":
                parameter.copy_(
                    _class_weight(parameter.shape, seed, anchors_per_cell=head.anchors_per_cell)
                )
            elif name == f"{_CLASSES}.bias":
                parameter.copy_(class_bias.repeat(head.anchors_per_cell))
            else:
                parameter.copy_(_initial(name, parameter.shape, seed))


def _initial(name: str, shape: torch.Size, seed: int) -> Tensor:
    """The initial value of a parameter, drawn on the CPU: a GPU would draw other values."""
    if len(shape) == 1:  # weights of norm layers, and all biases
        return torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)
    values, generator = torch.empty(shape), _generator(seed, name)
    match name.split(".")[0]:
        case "backbone":
            return nn.init.kaiming_normal_(
                values, mode="fan_out", nonlinearity="relu", generator=generator
            )
        case "pyramid":
            return nn.init.kaiming_uniform_(values, a=1, generator=generator)
        case module:
            assert module in ("class_head", "box_head"), f"no initial value for {name}"
            return nn.init.normal_(values, std=0.01, generator=generator)


def _class_weight(shape: torch.Size, seed: int, *, anchors_per_cell: int) -> Tensor:
    """(M * C, channels, 3, 3), anchor by anchor; channel c is drawn for all M anchors at once."""
    size = torch.Size((anchors_per_cell, *shape[1:]))
    kernels = [
        _initial(f"{_CLASSES}.weight.{channel}", size, seed)
        for channel in range(shape[0] // anchors_per_cell)
    ]
    return torch.stack(kernels, dim=1).flatten(0, 1)


def _generator(seed: int, name: str) -> torch.Generator:
    # not hash(): Python salts the hashes of text differently in every process
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
