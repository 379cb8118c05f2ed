"""tools/export.py and detector/export/: programs that detect what the detector itself detects."""

import copy
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import Command, Refused
from hypothesis import given
from hypothesis import strategies as st
from test_docs import blocks
from torch import Tensor, nn

import detector
from detector import build
from detector.anchors.box_coder import BoxCoder
from detector.anchors.class_code import ClassCode
from detector.anchors.generator import AnchorGenerator
from detector.data.transforms import FixedSize, ShorterSide
from detector.errors import InputError
from detector.export.canvas import Canvas
from detector.export.parity import Pairs, compare
from detector.export.program import FORMATS, OUTPUTS, ExportFormat, Program, Run, trace
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


# ------------------------------------------------------------------------------------- canvas


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_without_size_every_image_is_resized_as_in_evaluation(height: int, width: int) -> None:
    resize = ShorterSide(shorter=(640, 800), longer=1333)
    canvas = Canvas.of(resize, None)
    assert (canvas.height, canvas.width) == (1344, 1344)  # 42 * 32
    assert canvas.target(height, width) == resize.for_evaluation().target(height, width, draw=0)


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_no_image_leaves_a_canvas_of_any_size(height: int, width: int) -> None:
    rows, columns = Canvas.of(ShorterSide((800,), 1333), (320, 96)).target(height, width)
    assert 1 <= rows <= 320 and 1 <= columns <= 96


def test_sizes_by_hand() -> None:
    """800 / 1000 > 1333 / 2000 = .6665 = 1333 x 666.5; into 320 x 640 it goes at .32."""
    resize = ShorterSide(shorter=(800,), longer=1333)
    assert Canvas.of(resize, (800, 1344)).target(1000, 2000) == (667, 1333)
    assert Canvas.of(resize, (320, 640)).target(1000, 2000) == (320, 640)
    assert Canvas.of(resize, (640, 320)).target(1000, 2000) == (160, 320)
    fixed = Canvas.of(FixedSize(width=300, height=200), None)
    assert (fixed.height, fixed.width, fixed.target(50, 50)) == (224, 320, (200, 300))


def test_an_image_lies_in_the_upper_left_corner() -> None:
    batch = Canvas.of(ShorterSide((40,), 60), (64, 64)).batch(torch.zeros(3, 20, 30).byte())
    assert batch.sizes.tolist() == batch.original_sizes.tolist() == [[40, 60]]
    assert batch.images.shape == (1, 3, 64, 64) and not batch.images[..., :40, :60].any()
    assert batch.images[0, :, 40, 0].tolist() == batch.images[0, :, 0, 60].tolist()
    assert batch.images[0, :, 63, 63].tolist() == [124, 116, 104]


@pytest.mark.parametrize("size", [(0, 64), (100, 128), (128, 100), (-32, 64)])
def test_a_size_that_is_no_multiple_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"--size {size[0]} {size[1]}: .*multiples of 32"):
        Canvas.of(ShorterSide((40,), 60), size)


def test_a_fixed_size_leaves_no_choice() -> None:
    assert Canvas.of(FixedSize(width=128, height=96), (96, 128)).height == 96
    with pytest.raises(InputError, match="96 x 128 .*data.resize"):
        Canvas.of(FixedSize(width=128, height=96), (128, 96))


# ------------------------------------------------------------------------------------- parity

LIMITS = Postprocess(
    ClassCode(num_classes=2), BoxCoder(), score=0.01, per_level=9, nms=0.5, per_image=4
)
BOX = [10.0, 20, 30, 60]


def lot(*rows: tuple[Sequence[float], float, int]) -> Detections:
    """One image of boxes, scores and labels, and one place left empty."""
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(
        torch.tensor([*boxes, [0.0] * 4])[None],
        torch.tensor([*scores, 0.0])[None],
        torch.tensor([*labels, 0])[None],
        torch.tensor([True] * len(rows) + [False])[None],
    )


def counts(ours: Detections, theirs: Detections) -> tuple[int, int, int]:
    """Both ways, which must agree."""
    one, other = compare(ours, theirs, LIMITS), compare(theirs, ours, LIMITS)
    assert one == other
    return one.detections, one.matched, one.undecided


def moved(pixels: float) -> list[float]:
    return [*BOX[:3], BOX[3] + pixels]


def test_pairs_by_hand() -> None:
    ours = lot((BOX, 0.9, 0))
    pairs = compare(ours, lot((moved(0.375), 0.8995, 0)), LIMITS)
    assert pairs == Pairs(2, 2, 0, 0.375, pytest.approx(0.0005, abs=1e-6)) and pairs.agree
    for other in ((moved(0.625), 0.9, 0), (BOX, 0.898, 0), (BOX, 0.9, 1)):
        assert counts(ours, lot(other)) == (2, 0, 0)
        assert not compare(ours, lot(other), LIMITS).agree


def test_a_detection_has_one_partner_and_order_does_not_matter() -> None:
    far = ([100.0, 0, 140, 30], 0.9, 0)
    assert counts(lot((BOX, 0.9, 0), far), lot(far, (BOX, 0.9, 0))) == (4, 4, 0)
    assert counts(lot((BOX, 0.9, 0), (BOX, 0.9, 0)), lot((BOX, 0.9, 0))) == (3, 2, 0)
    # the nearest partner of the first would leave the second without one
    first, second = (moved(0.25), 0.9, 0), (moved(-0.125), 0.9, 0)
    assert counts(lot(first, second), lot((moved(0.125), 0.9, 0), (moved(0.6), 0.9, 0)))[1] == 4


def test_only_detections_above_the_limit_count() -> None:
    assert counts(lot((BOX, 0.04, 0)), lot()) == (0, 0, 0)
    assert counts(lot((BOX, 0.0505, 0)), lot((BOX, 0.0497, 0))) == (1, 1, 0)
    assert counts(lot((BOX, 0.0505, 0)), lot()) == (1, 0, 1)
    assert counts(lot((BOX, 0.06, 0)), lot()) == (1, 0, 0)


def test_what_overlaps_by_just_the_limit_of_nms_is_undecided() -> None:
    """40 rows high, and 20 or 20.1 of them: IoU .5 or .5025; the other class suppresses nothing."""
    kept = (BOX, 0.9, 0)
    half, more = ([10.0, 20, 30, 40], 0.8, 0), ([10.0, 20, 30, 40.1], 0.8, 0)
    assert counts(lot(kept, half), lot(kept)) == (3, 2, 1)
    assert counts(lot(kept, more), lot(kept)) == (3, 2, 0)
    assert counts(lot(kept, (half[0], 0.8, 1)), lot(kept)) == (3, 2, 0)


def test_the_last_of_a_full_image_is_undecided() -> None:
    """per_image cuts where scores are nearly equal: either may be the last."""

    def full(last: float) -> Detections:
        each = lot((BOX, 0.9, 0), ([100, 0, 140, 30 + last], 0.3, 0))
        return Detections(*(getattr(each, n)[:, :2] for n in OUTPUTS))

    assert counts(full(0), full(100)) == (4, 2, 2)


def test_few_may_be_undecided() -> None:
    assert Pairs(200, 198, 2, 0.0, 0.0).agree and not Pairs(200, 197, 3, 0.0, 0.0).agree
    assert not Pairs(200, 199, 0, 0.0, 0.0).agree


# ------------------------------------------------------------------------------------ command


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
