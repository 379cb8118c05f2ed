"""Made-up scenes, a small network and steps of it, on any device.    K = 5 classes."""

import json
from itertools import pairwise
from pathlib import Path

import torch
import yaml
from conftest import HOME
from torch import Tensor, nn

from detector import build
from detector.anchors.class_code import ClassCode
from detector.config import Config
from detector.data.batch import Sample, collate
from detector.engine.step import TrainingStep
from detector.model.initialize import initialize
from detector.model.retinanet import FPN, Head, RetinaNet
from detector.structures import Batch
from detector.training import training_step

CLASSES = 5
BOXES_PER_CLASS = torch.tensor([1, 40, 300, 5, 90])  # the first and the fourth are rare
SIZES = ((64, 96), (90, 40), (30, 75), (64, 64))  # height, width


def scene(seed: int = 0) -> Batch:
    """Oblong images of mixed sizes in one batch, of which the last has no box.

    Boxes are on whole pixels, so that their IoUs with anchors of even sides are exact. Each box is
    there twice, under two labels, so that boxes tie; each image with boxes has a crowd.
    """
    generator = torch.Generator().manual_seed(seed)
    samples = [_sample(n, size, generator) for n, size in enumerate(SIZES)]
    return collate(samples)


def _sample(number: int, size: tuple[int, int], generator: torch.Generator) -> Sample:
    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    count = 0 if number == len(SIZES) - 1 else 3
    corner = torch.stack([draw(0, size[1] - 16, count), draw(0, size[0] - 16, count)], dim=1)
    side = draw(12, 48, count, 2)
    far = torch.minimum(corner + side, torch.tensor([size[1], size[0]]))
    boxes = torch.cat([corner, far], dim=1).float().repeat(2, 1)
    return Sample(
        image=draw(0, 256, 3, *size).to(torch.uint8),
        boxes=boxes,
        labels=nn.functional.one_hot(draw(0, CLASSES, len(boxes)), CLASSES).bool(),
        crowd=torch.arange(len(boxes)) == 1,
        image_id=number + 1,
        original_size=(2 * size[0], 2 * size[1]),
        key=int(draw(0, 2**62, 1)),
    )


class Convolutions(nn.Module):
    """A backbone of five, for what is not about the network: C3, C4, C5 as of `Backbone`."""

    channels = (8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        widths = pairwise((3, 8, 8, *self.channels))
        self.body = nn.ModuleList(nn.Conv2d(*pair, 3, stride=2, padding=1) for pair in widths)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = [images]
        for convolution in self.body:
            maps.append(convolution(maps[-1]).relu())
        return tuple(maps[3:])


def network(config: Config, code: ClassCode) -> RetinaNet:
    """In place of build.model. The class logits differ by about 1 between anchors.

    At the usual start they hardly differ, and which anchors are the hardest would be chance.
    """
    cells = build.anchor_generator(config).anchors_per_cell
    class_head, box_head = (
        Head(16, 16, convs=1, norm="none", out_channels=channels, anchors_per_cell=cells)
        for channels in (code.channels, 4)
    )
    net = RetinaNet(Convolutions(), FPN(Convolutions.channels, 16, "c5"), class_head, box_head)
    initialize(net, seed=config.train.seed, class_bias=code.bias())
    with torch.no_grad():
        class_head.last.weight.mul_(100)
    return net.to(memory_format=torch.channels_last) if config.train.channels_last else net


def preset(path: Path) -> str:
    """The `--set` value of a file of configs/losses."""
    settings = yaml.safe_load(path.read_text())["loss"]["classification"]
    return f"loss.classification={json.dumps(settings)}"


def training(device: torch.device, *changes: str) -> TrainingStep:
    """The step that configs/digits.yaml and `changes` describe, of the small network.

    Plain descent in float32, unless they say otherwise.
    """
    usual = ["train.precision=float32", "optimizer.name=sgd", "optimizer.clip_norm=null"]
    usual += ["schedule.steps=9", "schedule.epochs=null", "train.diagnose_every=null"]
    settings = [*usual, f"train.device={device.type}", *changes]
    config = build.load_config(HOME / "configs/digits.yaml", settings)
    code = build.class_code(config, CLASSES)
    return training_step(config, code, network(config, code), device, BOXES_PER_CLASS)
