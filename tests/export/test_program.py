"""What stands beside an exported network: its metadata; and that it is traced for evaluation."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import torch
from torch import Tensor, nn

from detector.anchors.box_coder import BoxCoder
from detector.anchors.class_code import ClassCode
from detector.anchors.generator import AnchorGenerator
from detector.data.transforms import FixedSize
from detector.engine.restore import Classes
from detector.export.canvas import Canvas
from detector.export.program import Program, metadata, trace
from detector.postprocess import Postprocess
from detector.structures import Detections, Outputs
from detector.trained import Trained

LIMITS = Postprocess(
    ClassCode(num_classes=2), BoxCoder(), score=0.02, per_level=9, nms=0.45, per_image=4
)


class Normalized(nn.Module):
    """A detector of one anchor in a square of 32, behind a batch normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Conv2d(3, 2 + 4, 32, stride=32)
        torch.manual_seed(0)
        nn.init.normal_(self.head.weight, std=0.05)

    def forward(self, images: Tensor) -> Outputs:
        values = self.head(self.norm(images / 255)).flatten(2).mT
        return Outputs(*values.split([2, 4], 2))


def program() -> Program:
    """Of images of height 32 and width 96."""
    return Program(Normalized(), AnchorGenerator([32], [[(30.0, 20.0)]]), LIMITS, (32, 96))


def test_it_is_traced_in_evaluation_mode() -> None:
    """In training mode the batch normalization would subtract the mean of the image itself."""
    made = program()
    images = torch.full((1, 3, 32, 96), 200, dtype=torch.uint8)
    images[..., 40:] = 10
    sizes = torch.tensor([[32, 96]])
    found = Detections(*trace(made.train()).module()(images, sizes))
    with torch.no_grad():
        outputs = made.net.eval()(images)
    wanted = LIMITS(outputs, made.anchors, made.level_lengths, sizes)
    assert torch.allclose(found.scores, wanted.scores, atol=1e-6)


def test_boxes_end_where_the_image_does() -> None:
    """The image fills 20 x 50 of the canvas: the third anchor, of 49 to 79 across, is none."""
    images, sizes = torch.zeros(1, 3, 32, 96).byte(), torch.tensor([[20, 50]])
    with torch.no_grad():
        boxes, _, _, present = program().eval()(images, sizes)
    assert present.any() and (boxes[present] <= torch.tensor([50, 20, 50, 20])).all()


def test_the_metadata_by_hand() -> None:
    """Of an oblong canvas; mean and deviation are those of the network, padding is in 0 .. 255."""
    net = SimpleNamespace(
        mean=torch.tensor([0.5, 0.25, 0.125]).view(3, 1, 1), std=torch.ones(3, 1, 1) / 4
    )
    trained = SimpleNamespace(
        net=net,
        predictor=SimpleNamespace(postprocess=LIMITS),
        classes=Classes(["dog", "cat"], [3, 7]),
        weights=Path("best.pt"),
    )
    canvas = Canvas.of(FixedSize(width=300, height=200), None)
    about = metadata(cast(Trained, trained), canvas)
    assert about.pop("version").startswith("anchorlab ")
    assert about == {
        "class_names": ["dog", "cat"], "category_ids": [3, 7],
        "input_size": [224, 320], "resize": {"height": 200, "width": 300},
        "padding": [124, 116, 104], "mean": [0.5, 0.25, 0.125], "std": [0.25, 0.25, 0.25],
        "score": 0.02, "nms": 0.45, "agnostic": False, "per_level": 9, "per_image": 4,
        "weights": "best.pt",
    }  # fmt: skip
