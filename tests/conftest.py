"""A tiny data set of digits, and the settings that make a tiny run of it."""

import contextlib
import importlib.util
import io
import itertools
import json
import runpy
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import forked
import hypothesis
import pytest
import torch
from PIL import Image

from detector.errors import exit_codes

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
    text = "run so many of a test's parametrizations, the first ones (all)"
    parser.addoption("--sample", type=int, metavar="N", help=text)


# The files that take longest, which go first: two processes would wait for a last one of them.
LONGEST = ("test_check_gpu", "test_ablate", "test_ranks", "test_benchmark", "test_resume",
           "test_overfit")  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))
    sample = config.getoption("--sample")
    if sample is not None:
        seen: Counter[str] = Counter()
        for item in list(items):
            name = item.nodeid.partition("[")[0]
            seen[name] += 1
            if seen[name] > sample:
                items.remove(item)
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
    """16 training and 6 validation images that data/digits.py makes, squeezed into oblong ones."""
    output = tmp_path_factory.mktemp("data") / "digits"
    knobs = "--train 16 --val 6 --size 64 --objects 1 3 --scale 20 36".split()
    made = call_script(HOME / "data" / "digits.py", "--output", output, *knobs)
    assert made.returncode == 0, made.stderr
    for split in ("train", "val"):
        _squeeze(output / split, output / "annotations" / f"{split}.json")
    return output


OBLONG = [(64, 48), (48, 64), (80, 56), (60, 96)]  # width, height


def _squeeze(images: Path, annotations: Path) -> None:
    """Square images hide swapped axes, and images of one size a factor of another image."""
    content = json.loads(annotations.read_text())
    factors = {}
    for entry, size in zip(content["images"], itertools.cycle(OBLONG)):
        file = images / entry["file_name"]
        Image.open(file).resize(size).save(file)
        factors[entry["id"]] = size[0] / entry["width"], size[1] / entry["height"]
        entry["width"], entry["height"] = size
    for entry in content["annotations"]:
        (across, down), (x, y, width, height) = factors[entry["image_id"]], entry["bbox"]
        entry["bbox"] = [x * across, y * down, width * across, height * down]
        entry["area"] *= across * down
    annotations.write_text(json.dumps(content))


@pytest.fixture(scope="session")
def tiny(digits: Path) -> list[str]:
    """`--set` values: a small network on those images, two steps an epoch, batches of eight."""
    return [
        f"data.train.images={digits}/train",
        f"data.train.annotations={digits}/annotations/train.json",
        f"data.val.images={digits}/val",
        f"data.val.annotations={digits}/annotations/val.json",
        "data.resize={shorter: 48, longer: 64}",
        "data.workers=0",
        "model.backbone.name=mobilenet_v2",
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
def tool() -> Command:
    """Calls tools/NAME.py in this process, where another costs seconds, from the project's folder.

    What a command does to its process, and a signal or a full disk to it, is seen in
    `tests/engine/runs_apart.py` and tests/test_exit_codes.py.
    """

    def call(name: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
        return call_script(HOME / "tools" / f"{name}.py", *arguments)

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
def refused(tool: Command) -> Refused:
    """Calls tools/NAME.py, to be refused; what it said."""

    def call(name: str, *arguments: object) -> Said:
        done = tool(name, *arguments)
        assert done.returncode == 2
        said = Said(done.stdout, done.stderr)
        assert said.err.startswith("error: ") and said.err.count("\n") == 1
        return said

    return call


def exit_code(main: Callable[[], int]) -> int:
    """What a process would end with that runs `main` as the tools do."""
    with pytest.raises(SystemExit) as end, exit_codes():
        sys.exit(main())
    return int(end.value.code or 0)


def call_script(
    file: Path, *arguments: object, cwd: Path = HOME
) -> "subprocess.CompletedProcess[str]":
    """What a script gives that is run in this process, as if by `python FILE`.

    An exception that is no sentence for the user is raised here, where a process shows a traceback.
    """
    words = [str(file), *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with (
        _own_process(words, cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        runpy.run_path(str(file), run_name="__main__")
    return subprocess.CompletedProcess(
        words, int(end.value.code or 0), out.getvalue(), err.getvalue()
    )


@contextlib.contextmanager
def _own_process(words: Sequence[str], cwd: Path) -> Iterator[None]:
    """One thread, so that sums are made in one order, no GPU, and nothing left for later calls.

    Warnings go to stderr, as Python's default is, and not into pytest's summary.
    """
    threads = torch.get_num_threads()
    with (
        pytest.MonkeyPatch.context() as patch,
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
    ):
        warnings.resetwarnings()
        for kind in (DeprecationWarning, PendingDeprecationWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)
        patch.setattr(warnings, "showwarning", _show_warning)
        patch.setattr("sys.argv", words)
        patch.chdir(cwd)
        patch.setenv("OMP_NUM_THREADS", "1")  # of the processes that it starts
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setattr("detector.lab.sweep.subprocess", forked.MODULE)
        patch.setattr("torch.cuda.is_available", lambda: False)
        patch.setattr("torch.cuda.device_count", lambda: 0)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object
) -> None:
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def load_script(path: Path) -> ModuleType:
    """A script that is in no package, such as data/digits.py, as a module."""
    spec = importlib.util.spec_from_file_location(f"{path.stem}_script", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module
