"""From a trained detector to one program with decoding and NMS inside, as ONNX or torch.export."""

from __future__ import annotations

import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from detector import __version__
from detector.anchors.generator import AnchorGenerator
from detector.data.batch import MEAN_COLOUR
from detector.errors import InputError
from detector.export.canvas import Canvas
from detector.postprocess import Postprocess
from detector.structures import Detections
from detector.trained import Trained

INPUTS = ("images", "sizes")
OUTPUTS = ("boxes", "scores", "labels", "present")
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
METADATA_FILE = "metadata.json"  # of a .pt2 file's extra files

Run = Callable[[Tensor, Tensor], Detections]  # images and sizes, as `Program` has them


class Program(nn.Module):
    """What is exported: images on a canvas to detections in its pixels.

    N images, H x W of the canvas, `size`; D = postprocess.per_image.
    """

    anchors: Tensor

    def __init__(
        self,
        net: nn.Module,
        anchor_generator: AnchorGenerator,
        postprocess: Postprocess,
        size: tuple[int, int],
    ) -> None:
        super().__init__()
        self.net = net
        self.postprocess = postprocess
        self.size = size
        self.level_lengths = anchor_generator.level_lengths(*size)
        self.register_buffer("anchors", anchor_generator(*size), persistent=False)

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images uint8 (N, 3, H, W) RGB and int64 sizes (N, 2) -> boxes, scores, labels, present.

        sizes: height, width of what the image fills of the canvas. The results are those of
        `Detections`: float32 (N, D, 4), float32 (N, D), int64 (N, D), bool (N, D), best first.
        """
        found = self.postprocess.traceable(
            self.net(images), self.anchors, self.level_lengths, sizes
        )
        return found.boxes, found.scores, found.labels, found.present


def program_of(trained: Trained, canvas: Canvas) -> Program:
    """Of a detector on the CPU, for images of the canvas's size."""
    predictor, size = trained.predictor, (canvas.height, canvas.width)
    return Program(trained.net, predictor.anchor_generator, predictor.postprocess, size)


def trace(program: Program) -> ExportedProgram:
    """The program as a graph for any number of images."""
    # two images: torch.export takes a dimension of one for a constant
    images = torch.zeros(2, 3, *program.size, dtype=torch.uint8)
    sizes, batch = torch.tensor([program.size] * 2), {0: Dim("batch")}
    with quiet(), torch.no_grad():
        return torch.export.export(program.eval(), (images, sizes), dynamic_shapes=(batch, batch))


def metadata(trained: Trained, canvas: Canvas) -> dict[str, Any]:
    """What a program needs to know beside the file, and where the file comes from."""
    found = trained.predictor.postprocess
    return {
        "class_names": list(trained.classes.names),
        "category_ids": list(trained.classes.category_ids),
        "input_size": [canvas.height, canvas.width],
        "resize": canvas.rule,
        "padding": list(MEAN_COLOUR),
        "mean": trained.net.mean.flatten().tolist(),
        "std": trained.net.std.flatten().tolist(),
        "score": found.score,
        "nms": found.nms,
        "agnostic": found.agnostic,
        "per_level": found.per_level,
        "per_image": found.per_image,
        "version": f"anchorlab {__version__}",
        "weights": str(trained.weights),
    }


def to_onnx(program: Program, about: Mapping[str, Any]) -> bytes:
    """An ONNX file with `about` in its metadata_props, each value as JSON; weights inside.

    InputError where it would have more than the 2 GB that one file can hold.
    """
    with quiet():
        made = torch.onnx.export(
            trace(program),
            dynamo=True,
            verbose=False,
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes=({0: "batch"}, {0: "batch"}),  # only the name, instead of torch's "s34"
        )
    assert made is not None
    proto = made.model_proto
    for key, value in about.items():
        proto.metadata_props.add(key=key, value=json.dumps(value))
    try:
        return bytes(proto.SerializeToString())
    except ValueError as error:  # of protobuf
        raise InputError(
            "the network has more than 2 GB, which one ONNX file cannot hold; export it as .pt2."
        ) from error


def run_onnx(data: bytes) -> Run:
    """The ONNX file in onnxruntime on the CPU, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor, sizes: Tensor) -> Detections:
        results = session.run(OUTPUTS, {"images": images.numpy(), "sizes": sizes.numpy()})
        return Detections(*map(torch.from_numpy, results))

    return run


def to_pt2(program: Program, about: Mapping[str, Any]) -> bytes:
    """A file for torch.export.load, with `about` as its extra file METADATA_FILE."""
    file = io.BytesIO()
    with quiet():
        torch.export.save(
            trace(program), file, extra_files={METADATA_FILE: json.dumps(about, indent=2)}
        )
    return file.getvalue()


def run_pt2(data: bytes) -> Run:
    """The .pt2 file in torch."""
    with quiet():
        module = torch.export.load(io.BytesIO(data)).module()

    @torch.inference_mode()
    def run(images: Tensor, sizes: Tensor) -> Detections:
        return Detections(*module(images, sizes))

    return run


@dataclass(frozen=True, kw_only=True)
class ExportFormat:
    """A kind of file: how it is made and run, and the packages that this needs."""

    write: Callable[[Program, Mapping[str, Any]], bytes]
    run: Callable[[bytes], Run]
    packages: tuple[str, ...] = ()


FORMATS = {
    ".onnx": ExportFormat(write=to_onnx, run=run_onnx, packages=ONNX_PACKAGES),
    ".pt2": ExportFormat(write=to_pt2, run=run_pt2),
}


def format_of(suffix: str) -> ExportFormat:
    """The format of files with this suffix; InputError if there is none, or a package lacks."""
    if suffix not in FORMATS:
        raise InputError(
            f"--output: found the suffix {suffix!r}, it should be one of {', '.join(FORMATS)}."
        )
    for package in FORMATS[suffix].packages:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise InputError(
                f"{suffix} needs {error.name}, which is not installed: pip install "
                "'anchorlab[export]', or export to .pt2, which needs torch alone."
            ) from None
    return FORMATS[suffix]


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporters warn of: nothing in it is in a user's hand."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
