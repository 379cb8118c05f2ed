"""Feature pyramid P3 to P7 (Lin et al. 2017, "Feature Pyramid Networks"; RetinaNet, section 4).

N images, H W rows and columns of a map.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn


class FPN(nn.Module):
    """C3, C4, C5 -> P3 ... P7, equal to torchvision's FPN and LastLevelP6P7.

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
