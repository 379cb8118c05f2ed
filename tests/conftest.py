"""A tiny data set of digits, and the settings that make a tiny run of it."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import hypothesis
import pytest
import torch

from detector.errors import run_command

hypothesis.settings.register_profile("busy machine", deadline=None)
hypothesis.settings.load_profile("busy machine")

HOME = Path(__file__).parents[1]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


class Said(NamedTuple):
    """What a command wrote."""

    out: str
    err: str


Refused = Callable[..., Said]


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "what the tests marked gpu run on; the CPU stands in for a GPU, at the same sizes"
    parser.addoption("--device", choices=("cuda", "cpu"), default="cuda", help=text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--device") == "cpu" or torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device (--device cpu: the CPU stands in)")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """What a test marked gpu runs on. There float32 is float32: by default cuDNN's convolutions
    round their inputs to the 11 bits of TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    if request.config.getoption("--device") == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 training and 6 validation images of 64 x 64 pixels, as data/digits.py makes them."""
    output = tmp_path_factory.mktemp("data") / "digits"
    knobs = "--train 16 --val 6 --size 64 --objects 1 3 --scale 20 36".split()
    made = run([sys.executable, "data/digits.py", "--output", str(output), *knobs])
    assert made.returncode == 0, made.stderr
    return output


@pytest.fixture(scope="session")
def tiny(digits: Path) -> list[str]:
    """`--set` values: a small network on those images, two steps an epoch, batches of eight."""
    return [
        f"data.train.images={digits}/train",
        f"data.train.annotations={digits}/annotations/train.json",
        f"data.val.images={digits}/val",
        f"data.val.annotations={digits}/annotations/val.json",
        "data.resize={width: 64, height: 64}",
        "data.workers=0",
        "model.backbone.norm=group",
        "model.fpn.channels=16",
        "model.head.convs=1",
        "schedule.epochs=null",
        "schedule.steps=4",
        "schedule.warmup_steps=0",
        "train.batch_size=8",
        "train.log_every=1",
        "train.device=cpu",
        "evaluation.images=1",
        "postprocess.score=0.001",
    ]


@pytest.fixture(scope="session")
def tool(tiny: Sequence[str]) -> Command:
    """Runs tools/NAME.py in a process of its own, from the project's folder."""

    def call(name: str, *arguments: object, **options: float) -> subprocess.CompletedProcess[str]:
        return run([sys.executable, f"tools/{name}.py", *map(str, arguments)], **options)

    return call


@pytest.fixture(scope="session")
def finished(tool: Command, tiny: Sequence[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run of configs/digits.yaml with `tiny`; to be left as it is."""
    output = tmp_path_factory.mktemp("runs") / "tiny"
    done = tool("train", "--config", "configs/digits.yaml", "--output", output, "--set", *tiny)
    assert done.returncode == 0, done.stderr
    assert "initial classification loss" in done.stdout
    assert "boxes by class: zero" in done.stdout
    return output


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Calls tools/NAME.py in this process (another costs seconds), to be refused; what it said."""

    def call(name: str, *arguments: object) -> Said:
        script = load_script(HOME / "tools" / f"{name}.py")
        monkeypatch.setattr("sys.argv", [f"{name}.py", *map(str, arguments)])
        assert run_command(script.main) == 2
        said = Said(*capsys.readouterr())
        assert said.err.startswith("error: ") and said.err.count("\n") == 1
        return said

    return call


def run(
    words: Sequence[str], *, cwd: Path = HOME, **options: float
) -> "subprocess.CompletedProcess[str]":
    """A process with one thread, so that sums are made in one order."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, **options
    )


def load_script(path: Path) -> ModuleType:
    """A script that is in no package, such as data/digits.py, as a module."""
    spec = importlib.util.spec_from_file_location(f"{path.stem}_script", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module
