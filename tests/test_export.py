"""tools/export.py and detector/export/: programs that detect what the detector itself detects."""

import copy
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import Command, Refused
from test_docs import blocks
from torch import Tensor, nn

import detector
from detector import build
from detector.anchors.box_coder import BoxCoder
from detector.anchors.class_code import ClassCode
from detector.anchors.generator import AnchorGenerator
from detector.export.program import FORMATS, ExportFormat, Program, Run, trace
from detector.postprocess import Postprocess
from detector.structures import Detections, Outputs

SIZE = (96, 160)  # height, width
SOFTMAX = {"activation": "softmax", "background": "class"}


class TinyNet(nn.Module):
    """One convolution of stride 32: three anchors at each position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.head = nn.Conv2d(3, 3 * (channels + 4), 32, stride=32)
        torch.manual_seed(0)
        nn.init.normal_(self.head.weight, std=0.05)

    def forward(self, images: Tensor) -> Outputs:
        values = self.head(images / 255 - 0.5).permute(0, 2, 3, 1)
        logits, deltas = values.unflatten(3, (3, -1)).flatten(1, 3).split([self.channels, 4], 2)
        return Outputs(logits, deltas.tanh())


def tiny_program(code: ClassCode, size: tuple[int, int]) -> Program:
    limits = Postprocess(code, BoxCoder(), score=0.1, per_level=40, nms=0.3, per_image=12)
    generator = AnchorGenerator([32], [[(40.0, 30.0), (30.0, 50.0), (60.0, 60.0)]])
    return Program(TinyNet(code.channels), generator, limits, size)


def expected(program: Program, images: Tensor, sizes: Tensor) -> Detections:
    with torch.no_grad():
        outputs = program.net(images)
    return program.postprocess(outputs, program.anchors, program.level_lengths, sizes)


@pytest.fixture(scope="module", params=[(".pt2", {}), (".onnx", SOFTMAX)], ids=[".pt2", ".onnx"])
def file_and_program(request: pytest.FixtureRequest) -> tuple[bytes, str, Program]:
    """Of each format, one with a background class under softmax."""
    suffix, code = request.param
    program = tiny_program(ClassCode(num_classes=4, **code), SIZE)
    return FORMATS[suffix].write(program, {"input_size": SIZE}), suffix, program


@pytest.mark.parametrize("sizes", [[[96, 160]], [[96, 100], [50, 160], [96, 160]]], ids=[1, 3])
def test_one_program_for_batches_of_oblong_images(
    file_and_program: tuple[bytes, str, Program], sizes: list[list[int]]
) -> None:
    """Each image fills another part of the canvas; boxes of several images do not mix."""
    data, suffix, program = file_and_program
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (len(sizes), 3, *SIZE), generator=generator).byte()
    found = FORMATS[suffix].run(data)(images, torch.tensor(sizes))
    wanted = expected(program, images, torch.tensor(sizes))
    assert wanted.present.sum() > 3 * len(sizes)
    assert found.present.equal(wanted.present) and found.labels.equal(wanted.labels)
    assert torch.allclose(found.boxes, wanted.boxes, atol=1e-3)
    assert torch.allclose(found.scores, wanted.scores, atol=1e-5)


def test_the_other_class_codes_are_traced() -> None:
    """Only traced and run, which both formats begin with; sigmoid with a background class."""
    code = ClassCode(num_classes=4, activation="sigmoid", background="class")
    program = tiny_program(code, SIZE)
    images, sizes = torch.full((1, 3, *SIZE), 7, dtype=torch.uint8), torch.tensor([SIZE])
    found = Detections(*trace(program).module()(images, sizes))
    assert torch.allclose(found.scores, expected(program, images, sizes).scores)


@pytest.mark.parametrize("file_and_program", [(".pt2", {})], indirect=True, ids=[".pt2"])
def test_the_documents_way_with_torch(
    file_and_program: tuple[bytes, str, Program], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _, program = file_and_program
    (code,) = (text for text in blocks("docs/deploy.md", "python") if "torch.export.load" in text)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "detector.pt2").write_bytes(data)
    names: dict[str, Any] = {}
    exec(compile(code, "snippet", "exec"), names)
    assert torch.equal(
        names["scores"], expected(program, names["images"], torch.tensor([SIZE])).scores
    )


def test_a_network_is_exported_by_torch_alone(finished: Path) -> None:
    """What it returns is ours, and torch.export must know its parts."""
    net = detector.load(finished, device="cpu").model
    images = torch.full((1, 3, 64, 96), 100, dtype=torch.uint8)
    traced = torch.export.export(net, (images,)).module()(images)
    assert isinstance(traced, Outputs)
    assert torch.allclose(traced.class_logits, net(images).class_logits, atol=1e-5)


@pytest.fixture(scope="module")
def confident(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run with a yet smaller network, untrained, whose scores are .1 to .6, not .01."""
    run = tmp_path_factory.mktemp("runs") / "confident"
    shutil.copytree(finished, run)
    smaller = ["model.backbone.name=timm/test_resnet", "model.backbone.norm=own"]
    config = build.load_config(run / "config.yaml", smaller)
    weights = build.model(config, build.class_code(config, 10)).state_dict()
    weights["class_head.last.weight"] *= 20
    state = torch.load(run / "checkpoints" / "best.pt", weights_only=True)
    (run / "config.yaml").write_text(config.to_yaml())
    state = {**state, "config": config.to_yaml(), "model": weights}
    torch.save(state, run / "checkpoints" / "best.pt")
    return run


@pytest.fixture(scope="module")
def onnx(
    confident: Path, tool: Command, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    """The exported file, alone in its folder, and what the command said."""
    file = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    return file, tool("export", "--run", confident, "--output", file)


def test_the_command_compares_and_writes_one_file(
    onnx: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    file, done = onnx
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "" and "(100.00%)" in done.stdout and "exported / torch" in done.stdout
    assert done.stdout.splitlines()[-1] == str(file)
    assert [path.name for path in file.parent.iterdir()] == ["tiny.onnx"]


def test_the_metadata(
    onnx: tuple[Path, "subprocess.CompletedProcess[str]"], confident: Path
) -> None:
    session = onnxruntime.InferenceSession(onnx[0])
    said = session.get_modelmeta().custom_metadata_map
    about = {key: json.loads(value) for key, value in said.items()}
    loaded = detector.load(confident)
    assert about["class_names"] == loaded.class_names and about["category_ids"][:2] == [1, 2]
    assert about["input_size"] == [64, 64] and about["resize"] == {"shorter": 48, "longer": 64}
    assert about["score"] == 0.001 and about["per_image"] == 100
    assert session.get_inputs()[0].shape == ["batch", 3, 64, 64]
    documented = (Path(__file__).parents[1] / "docs" / "deploy.md").read_text()
    assert all(f"`{key}`" in documented for key in about)


def test_the_program_of_the_documents_detects_the_same(
    onnx: tuple[Path, "subprocess.CompletedProcess[str]"],
    confident: Path,
    digits: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without this package, on oblong images of several sizes that lie and stand."""
    (code,) = (text for text in blocks("docs/deploy.md", "python") if "onnxruntime" in text)
    assert "detector" not in code and len([line for line in code.splitlines() if line]) <= 25
    files = sorted((digits / "val").iterdir())
    monkeypatch.setattr("sys.argv", ["detect.py", str(onnx[0]), *map(str, files)])
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, "detect.py", "exec"), names)
    predictions = detector.load(confident, device="cpu").predict(files, score=0.3)
    for file, wanted in zip(files, predictions, strict=True):
        boxes, scores, labels = names["detect"](file)
        assert len(wanted) == len(scores) > 0 and labels == wanted.class_names
        assert np.abs(boxes - wanted.boxes.numpy()).max() < 0.5
        assert np.abs(scores - wanted.scores.numpy()).max() < 1e-3
    assert len(capsys.readouterr().out.splitlines()) == sum(1 + len(one) for one in predictions)


def changed(change: Callable[[Detections], Detections]) -> ExportFormat:
    """A format whose file runs the network itself, and then changes the detections."""
    made: list[Program] = []

    def write(program: Program, about: object) -> bytes:
        made.append(program.eval())
        return b"a program"

    def run(data: bytes) -> Run:
        return lambda images, sizes: change(expected(made[0], images, sizes))

    return ExportFormat(write=write, run=run)


def shifted(found: Detections) -> Detections:
    return Detections(found.boxes + 1, found.scores, found.labels, found.present)


def test_a_program_that_detects_something_else_is_not_written(
    confident: Path, tool: Command, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--run", confident, "--output", tmp_path / "x.pt2", "--images", digits / "train"]
    monkeypatch.setitem(FORMATS, ".pt2", changed(shifted))
    done = tool("export", *words)
    assert done.returncode == 1 and "(0.00%)" in done.stdout and "x.pt2" in done.stderr
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(FORMATS, ".pt2", changed(copy.copy))
    done = tool("export", *words)
    assert done.returncode == 0 and "comparing on 16 images" in done.stdout
    assert (tmp_path / "x.pt2").read_bytes() == b"a program"


def test_the_keys_that_the_command_sets_are_inside(
    confident: Path, tool: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    abouts: list[Any] = []
    kind = changed(copy.copy)
    monkeypatch.setitem(
        FORMATS, ".pt2",
        ExportFormat(
            write=lambda program, about: abouts.append(about) or kind.write(program, about),
            run=kind.run,
        ),
    )  # fmt: skip
    words = ["--size", 96, 128, "--set", "postprocess.score=0.2", "postprocess.per_image=7"]
    done = tool("export", "--run", confident, "--output", tmp_path / "x.pt2", *words)
    assert done.returncode == 0 and "96 x 128 pixels" in done.stdout
    (about,) = abouts
    assert (about["score"], about["per_image"], about["input_size"]) == (0.2, 7, [96, 128])


def test_wrong_input(
    refused: Refused, confident: Path, finished: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(FORMATS, ".pt2", changed(copy.copy))
    run, output = ["--run", confident], ["--output", tmp_path / "x.pt2"]
    (tmp_path / "there.onnx").write_text("mine")
    (tmp_path / "empty").mkdir()
    cases = [
        ([*run, "--output", tmp_path / "there.onnx"], "there.onnx: it exists"),
        ([*run, "--output", tmp_path / "x.tflite"], "'.tflite'.*.onnx, .pt2"),
        ([*run, "--output", tmp_path / "x"], "''.*.onnx, .pt2"),
        ([*run, "--output", tmp_path / "none" / "x.pt2"], "no folder .*none"),
        (["--run", tmp_path / "empty", *output], "empty: it holds no config.yaml"),
        ([*run, *output, "--size", 100, 100], "multiples of 32"),
        ([*run, *output, "--images", tmp_path / "empty"], "empty: there is no image"),
        ([*run, *output, "--set", "data.val.annotations=nowhere.json"], "nowhere.json.*--images"),
        (["--run", finished, *output], "no detection above 0.05"),
    ]
    for words, said in cases:
        assert re.search(said, refused("export", *words).err), said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "there.onnx"]
    assert (tmp_path / "there.onnx").read_text() == "mine"


def test_a_package_that_lacks_is_named(
    refused: Refused, confident: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    said = refused("export", "--run", confident, "--output", tmp_path / "x.onnx").err
    assert "onnxscript" in said and "anchorlab[export]" in said
