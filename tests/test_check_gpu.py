"""tools/check_gpu.py at toy size on the CPU, and how its sections end."""

import json
import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from benchmarking import gpu_check
from benchmarking.gpu_check import GpuSection, Task, check, failures, run_within
from benchmarking.gpu_sections import FULL, gpu_sections
from conftest import HOME, Refused, call_script


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole check at toy size, whose scripts run in this process."""
    output = tmp_path_factory.mktemp("check") / "gpu"
    words = ["--quick", "--output", output, "--minutes", "30"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_check, "run_within", run_here)
        done = call_script(HOME / "tools" / "check_gpu.py", *words)
    logs = "\n".join(path.read_text() for path in output.glob("*.log"))
    assert done.returncode == 0, (logs + done.stdout + done.stderr)[-5000:]
    return output


def run_here(command: tuple[str, ...], log: Path, limit: float) -> int | None:
    """`run_within`, which costs seconds for each import of torch; pytest needs its own process."""
    _, script, *words = command
    if script == "-m":
        return run_within(command, log, limit)
    done = call_script(HOME / script, *words)
    with log.open("a") as output:
        output.write(done.stdout + done.stderr)
    return done.returncode


def test_every_section_runs_at_toy_size(toy: Path, tmp_path: Path) -> None:
    names = ["tests", "training", "step", "loss", "predict", "lab", "compiled"]
    assert list(gpu_sections(FULL, tmp_path)) == names
    content = json.loads((toy / "gpu.json").read_text())
    assert list(content["sections"]) == names
    for section in content["sections"].values():
        assert section["passed"] and section["failures"] == [] and section["figures"]
    assert sorted(path.name for path in toy.iterdir()) == sorted(
        ["gpu.json", "gpu.md", *(f"{name}.log" for name in names)]
    )


def test_the_toy_has_the_figures(toy: Path) -> None:
    figures = {
        task: one
        for section in json.loads((toy / "gpu.json").read_text())["sections"].values()
        for task, one in section["figures"].items()
    }
    assert figures["pytest"]["tests"] > 25 and figures["pytest"]["failures"] == 0
    assert figures["pytest"]["skipped"] == 0
    assert figures["training in float32"]["steps"] == 2
    assert figures["evaluation on the CPU"]["AP"] == figures["training in float32"]["AP"]
    assert figures["step eager, digits"]["step"]["images"] == [2, 64, 96]
    assert figures["2 runs, 2 at a time"]["runs"] == 2


def test_the_document_has_a_table_of_each(toy: Path) -> None:
    text = (toy / "gpu.md").read_text()
    for words in (
        "| tests ",
        "| parts, digits: parts: share ",
        "step: sides: torchvision_default",
        "loss: focal ",
        "seconds_a_run",
    ):
        assert words in text
    assert f"torch {torch.__version__}" in text


def test_the_full_check_measures_what_the_toy_leaves_out(tmp_path: Path) -> None:
    """R50 at 800 x 1344 with 16 images; ResNeXt-50 with 264 classes; compiled and as a graph."""
    step = gpu_sections(FULL, tmp_path)["step"]
    names = [task.name for task in step.tasks]
    cases = ("R50", "ResNeXt-50", "digits")
    steps = [f"step {mode}, {case}" for mode in ("eager", "graph") for case in cases]
    assert names == [*steps, "parts, R50"]
    compiled = gpu_sections(FULL, tmp_path)["compiled"].tasks
    assert [task.name for task in compiled] == ["step compiled, R50"]
    first = step.tasks[0].command
    assert "data.resize={width: 1344, height: 800}" in first and "train.batch_size=16" in first
    assert "train.device=cuda" in first and "264" in step.tasks[1].command


def shell(text: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", text)


def bad() -> dict[str, float]:
    """A file does not hold what is read from it."""
    return {"last": [][-1]}


def test_one_section_that_hangs_or_crashes_costs_only_itself(tmp_path: Path) -> None:
    """Of 36 seconds the first section may take a ninth; the others, what is left."""
    said: list[str] = []
    sections = [
        GpuSection("hangs", 1, (Task("sleeper", shell("sleep 60")), Task("late", shell("true")))),
        GpuSection("crashes", 4, (Task("killed", shell("kill -9 $$")),)),
        GpuSection("works", 4, (Task("fine", shell("echo hello"), lambda: {"answer": 42}),)),
    ]
    sections[2] = replace(sections[2], tasks=(*sections[2].tasks, Task("bad", shell("true"), bad)))
    began = time.monotonic()
    passed = check(sections, tmp_path, minutes=0.6, command=["x"], say=said.append)
    assert not passed and time.monotonic() - began < 50
    content = json.loads((tmp_path / "gpu.json").read_text())["sections"]
    assert content["hangs"]["failures"] == [
        "sleeper ran out of time; see hangs.log",
        "late was not started: no time was left; see --minutes",
    ]
    assert content["crashes"]["failures"] == ["killed ended with exit code -9; see crashes.log"]
    assert content["works"]["figures"] == {"fine": {"answer": 42}}
    assert content["works"]["failures"] == [
        "bad left no figures (IndexError: list index out of range); see works.log"
    ]
    assert content["hangs"]["limit"] == pytest.approx(4, abs=0.5)
    assert content["works"]["limit"] > 17  # 16 were its share
    assert "hello" in (tmp_path / "works.log").read_text()
    assert any("hangs: failed" in line for line in said)


def test_what_a_command_started_ends_with_it(tmp_path: Path) -> None:
    """A worker of a training that ran out of time would keep the GPU from the next section."""
    pid = tmp_path / "pid"
    text = f"sleep 60 & echo $! > {pid}; wait"
    assert run_within(shell(text), tmp_path / "log", limit=1.0) is None
    child = int(pid.read_text())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _runs(child):
        time.sleep(0.02)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    """A process that has ended but was not waited for yet counts as ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_commands_import_this_tree(tmp_path: Path) -> None:
    """Also where the package is not installed, or another one is."""
    command = (sys.executable, "-c", "import detector; print(detector.__file__)")
    assert run_within(command, tmp_path / "log", limit=60.0) == 0
    assert str(HOME / "detector") in (tmp_path / "log").read_text()


def test_what_does_not_hold_fails(tmp_path: Path) -> None:
    """All tests skipped; an AP below .65; the same weights .0051 apart; other detections."""
    sections = gpu_sections(FULL, tmp_path)
    wrong = partial(failures, least_ap=sections["training"].least_ap)
    assert "skipped" in wrong({"pytest": {"tests": 9, "skipped": 9}})[0]
    assert wrong({"pytest": {"tests": 9, "skipped": 8}}) == []
    (low,) = wrong({"training in bfloat16": {"AP": 0.64}})
    assert "0.640" in low and "0.65" in low
    trained = {"training in float32": {"AP": 0.7}}
    (apart,) = wrong({**trained, "evaluation on the CPU": {"AP": 0.7051}})
    assert "0.7000" in apart and "0.7051" in apart
    assert wrong({**trained, "evaluation on the CPU": {"AP": 0.7049}}) == []
    (other,) = wrong({"at 800 px": {"predict": {"agreement": 0.98}, "loader": {}}})
    assert "0.9800" in other and "at 800 px" in other
    assert wrong({"at 128 px": {"loader": {}}}) == []


REFUSED = {
    "no GPU": ([], ["CUDA", "--quick"]),
    "no time": (
        ["--quick", "--minutes", "0"],
        ["--minutes is 0", "more than 0"],
    ),
    "endless time": (
        ["--quick", "--minutes", "inf"],
        ["--minutes is inf", "finite"],
    ),
    "no time at all": (
        ["--quick", "--minutes", "nan"],
        ["--minutes is nan", "more than 0"],
    ),
    "no such section": (
        ["--quick", "--only", "steps"],
        ["'steps'", "step", "lab"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arguments(
    refused: Refused, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments, words = REFUSED[case]
    said = refused("check_gpu", "--output", tmp_path / "g", *arguments)
    assert all(word in said.err for word in words), said.err
    assert not (tmp_path / "g").exists()


def test_an_existing_output_is_refused(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    said = refused("check_gpu", "--quick", "--output", tmp_path)
    assert str(tmp_path) in said.err and os.listdir(tmp_path) == ["mine.txt"]


def test_without_nvidias_tool_there_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpu_check.driver() is None
