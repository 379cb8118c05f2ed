"""RetinaNet: backbone, pyramid, two heads (Lin et al. 2017, focal loss paper, section 4).

N images of H x W pixels, or rows and columns of a map; A anchors of an image over all levels, M of
a position, C class channels.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from detector.model.backbone import IMAGENET_MEAN, IMAGENET_STD, AnyBackbone, group_norm
from detector.structures import Outputs

RGB = tuple[float, float, float]


class FPN(nn.Module):
    """C3, C4, C5 -> P3 ... P7, equal to torchvision's FPN and LastLevelP6P7.

    Lin et al. 2017, "Feature Pyramid Networks"; P6 and P7 as in RetinaNet.

    Args:
        in_channels: channels of C3, C4, C5.
        channels: channels of every level of the pyramid.
        p6_from: the map that P6 is computed from: `c5` as in the paper, or `p5`. P7 is computed
            from P6.
    """

    strides = (8, 16, 32, 64, 128)

    def __init__(
        self, in_channels: tuple[int, int, int], channels: int, p6_from: Literal["p5", "c5"]
    ) -> None:
        super().__init__()
        self.channels = channels
        self.p6_from = p6_from
        self.laterals = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)
        self.outputs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels
        )
        p6_channels = in_channels[-1] if p6_from == "c5" else channels
        self.p6 = nn.Conv2d(p6_channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        """C3, C4, C5 (N, in_channels, H, W) -> five maps (N, channels, H, W), finest first."""
        inner3, inner4, inner5 = (
            lateral(level) for lateral, level in zip(self.laterals, maps, strict=True)
        )
        inner4 = inner4 + _upsample(inner5, inner4)
        inner3 = inner3 + _upsample(inner4, inner3)
        inners = (inner3, inner4, inner5)
        p3, p4, p5 = (output(inner) for output, inner in zip(self.outputs, inners, strict=True))
        p6 = self.p6(maps[-1] if self.p6_from == "c5" else p5)
        # the ReLU of the paper's footnote on P7; P6 itself reaches the heads without one
        return [p3, p4, p5, p6, self.p7(F.relu(p6))]


def _upsample(coarse: Tensor, fine: Tensor) -> Tensor:
    """`coarse` upsampled to the size of `fine`, which need not be exactly twice as large."""
    return F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")


class Head(nn.Module):
    """3×3 convolutions with ReLU, then a 3×3 convolution that predicts; all levels share it.

    Args:
        in_channels: channels of the pyramid.
        channels: channels of the hidden convolutions.
        convs: how many convolutions come before the predicting one.
        norm: `group` normalises after each convolution, which then has no bias (torchvision's v2).
        out_channels: values per anchor: class channels, or 4 box deltas.
        anchors_per_cell: anchors at each position of a level.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        convs: int,
        norm: Literal["none", "group"],
        out_channels: int,
        anchors_per_cell: int,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.anchors_per_cell = anchors_per_cell
        norm_layer = group_norm if norm == "group" else None
        widths = [in_channels] + [channels] * convs
        self.convs = nn.Sequential(
            *(Conv2dNormActivation(width, channels, norm_layer=norm_layer) for width in widths[:-1])
        )
        self.last = nn.Conv2d(widths[-1], anchors_per_cell * out_channels, 3, padding=1)

    def forward(self, level: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, H*W*M, out_channels), in the order y, x, anchor.

        M is anchors_per_cell; the order is that of AnchorGenerator.
        """
        values = self.last(self.convs(level)).permute(0, 2, 3, 1)  # channels: anchor by anchor
        return values.flatten(1).unflatten(1, (-1, self.out_channels))


class RetinaNet(nn.Module):
    """Images to class logits and box deltas; the same call in training, evaluation and export.

    A level of stride s has ceil(H / s) x ceil(W / s) positions, whatever H and W are.

    mean, std: of the pixels in 0..1, as the backbone's weights were trained with.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: AnyBackbone,
        pyramid: FPN,
        class_head: Head,
        box_head: Head,
        *,
        mean: RGB = IMAGENET_MEAN,
        std: RGB = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pyramid = pyramid
        self.class_head = class_head
        self.box_head = box_head
        for name, values in (("mean", mean), ("std", std)):
            # not persistent: the constants are no weights, and torchvision's files lack them
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels between neighbouring positions of each level, exact, finest first."""
        return self.pyramid.strides

    def forward(self, images: Tensor) -> Outputs:
        """Images (N, 3, H, W), RGB in 0..255, uint8 or float -> Outputs over P3 ... P7."""
        # the operations of torchvision in its order, so that its checkpoints give exactly the same
        # detections
        pixels = (images.to(self.mean.dtype) / 255 - self.mean) / self.std
        levels = self.pyramid(self.backbone(pixels))
        return Outputs(
            class_logits=torch.cat([self.class_head(level) for level in levels], dim=1),
            box_deltas=torch.cat([self.box_head(level) for level in levels], dim=1),
        )
