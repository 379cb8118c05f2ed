"""The convolutional head that all pyramid levels share (Lin et al. 2017, section 4).

N images, H W rows and columns of a level.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from detector.model.backbone import group_norm


class Head(nn.Module):
    """3×3 convolutions with ReLU, then a 3×3 convolution that predicts.

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
