"""RetinaNet: backbone, pyramid, two heads (Lin et al. 2017, focal loss paper, section 4).

N images of H x W pixels, A anchors of an image over all levels, C class channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detector.model.backbone import IMAGENET_MEAN, IMAGENET_STD, AnyBackbone
from detector.model.fpn import FPN
from detector.model.head import Head
from detector.structures import Outputs

RGB = tuple[float, float, float]


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
