"""The sections of tools/check_gpu.py: their commands, and the figures that these leave."""

from __future__ import annotations

import json
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarking.gpu_check import HOME, GpuSection, Task
from benchmarking.timing import Figures

SHARES = {  # of the minutes, by section, most important first
    "tests": 3, "training": 3, "step": 5, "loss": 1.5, "predict": 1.5, "lab": 3, "compiled": 3,
}  # fmt: skip
Commands = Mapping[str, Mapping[str, str]]  # by section and task: a script and its options


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Sizes of the check, as words of command lines."""

    device: str  # cuda, cpu
    tests: str  # options of pytest
    digits: str  # options of data/digits.py
    training: str  # settings of the trainings on the digits
    least_ap: float  # that such a training must reach
    lab: str  # settings of the runs of the lab
    together: int  # runs at a time, an even number
    benchmarks: Commands  # without the device


BENCHMARK = "tools/benchmark.py --only"
DIGITS = "--config configs/digits.yaml"
COCO = "--config configs/coco_r50_1x.yaml"
CASES = {  # steps that are measured: the network, and the size and number of images
    "R50": f"{COCO} --classes 80 --set 'data.resize={{width: 1344, height: 800}}' "
    "train.batch_size=16",
    "ResNeXt-50": f"{COCO} --classes 264 --set model.backbone.name=resnext50_32x4d "
    "'data.resize={width: 800, height: 800}' train.batch_size=16",
    "digits": f"{DIGITS} --classes 10 --set train.batch_size=16",
}
MODES = {  # sides of a step that one process measures
    "eager": "ours network torchvision torchvision_default",
    "graph": "ours ours_graph network_graph",
}
FULL = Scale(
    device="cuda",
    tests="-m gpu --numprocesses 8",
    digits="",
    training="",
    least_ap=0.65,
    lab="schedule.epochs=null schedule.steps=300 evaluation.images=0",
    together=8,
    benchmarks={
        "step": {
            **{
                f"step {mode}, {case}": f"{BENCHMARK} step --rounds 20 --sides {sides} {options}"
                for mode, sides in MODES.items()
                for case, options in CASES.items()
            },
            "parts, R50": f"{BENCHMARK} parts --rounds 3 {CASES['R50']}",
        },
        "loss": {
            "loss of 80 classes": f"{BENCHMARK} loss matching --anchors 200000 --rounds 20",
            "loss of 1,203 classes": f"{BENCHMARK} loss --anchors 200000 --classes 1203 --rounds 5",
        },
        "predict": {
            "at 800 px": f"{BENCHMARK} predict loader {COCO} --rounds 5 --images 5000",
            "at 128 px": f"{BENCHMARK} loader {DIGITS} --rounds 3 --images 20000",
        },
        "compiled": {  # takes a compiler minutes
            "step compiled, R50": f"{BENCHMARK} step --rounds 20 "
            f"--sides ours ours_compiled network_compiled {CASES['R50']}",
        },
    },
)
TINY = "train.batch_size=2 evaluation.batch_size=1 'data.resize={width: 96, height: 64}'"
LITTLE = f"--rounds 1 --anchors 1000 --classes 5 --images 20 {DIGITS} --set {TINY}"
QUICK = Scale(
    device="cpu",
    tests="-m 'gpu and not slow' --sample 1",
    digits="--train 16 --val 6 --size 64 --objects 1 3 --scale 20 36",
    # not 64 wide: on some CPUs torch 2.14 gives the bfloat16 weights of a convolution of stride 2
    # over a map 1 wide, as P6 then is, gradients from memory that was never written
    training="'data.resize={width: 96, height: 64}' schedule.epochs=null schedule.steps=2 "
    "train.batch_size=8 train.log_every=1 data.workers=0",
    least_ap=0.0,
    lab="'data.resize={width: 64, height: 64}' schedule.epochs=null schedule.steps=1 "
    "train.batch_size=2 data.workers=0 evaluation.images=0",
    together=2,
    benchmarks={
        "step": {
            "step eager, digits": f"{BENCHMARK} step {LITTLE}",
            "parts, digits": f"{BENCHMARK} parts {LITTLE}",
        },
        "loss": {"loss of 5 classes": f"{BENCHMARK} loss matching {LITTLE}"},
        "predict": {"at 96 px": f"{BENCHMARK} predict loader {LITTLE}"},
        # ours alone, as it is: compiling takes a CPU minutes
        "compiled": {"step compiled, digits": f"{BENCHMARK} step --sides ours {LITTLE}"},
    },
)
LAB = """# Short runs for the wall time of several runs on one GPU.
config: {config}
seeds: {seeds}
baseline: focal
variants:
  focal: {{set: [loss.classification.gamma=2]}}
  cross_entropy: {{set: [loss.classification.gamma=0, loss.classification.alpha=null]}}
"""


def gpu_sections(scale: Scale, work: Path) -> dict[str, GpuSection]:
    """Of the check, most important first; their files go into the folder `work`."""
    on = f"train.device={scale.device}"
    benchmarks = {
        section: {name: f"{words} --set {on}" for name, words in commands.items()}
        for section, commands in scale.benchmarks.items()
    }
    commands = {**_own_commands(scale, work), **benchmarks}
    return {
        name: GpuSection(
            name, share, [_task(*item, work) for item in commands[name].items()], scale.least_ap
        )
        for name, share in SHARES.items()
    }


def _own_commands(scale: Scale, work: Path) -> Commands:
    """Tests, trainings in two precisions and on the CPU what one of them gave, and the lab.

    Two runs one at a time tell how long one takes; all of them at once, how much that saves.
    """
    folder = shlex.quote(str(work))
    data = " ".join(
        f"data.{split}.images={folder}/digits/{split} "
        f"data.{split}.annotations={folder}/digits/annotations/{split}.json"
        for split in ("train", "val")
    )
    data = f"{data} train.device={scale.device}"
    train = f"tools/train.py {DIGITS} --set {data} {scale.training} evaluation.every=5"
    evaluate = f"tools/evaluate.py --run {folder}/training_in_float32 --checkpoint last"
    ablate = {}
    for runs, workers in ((2, 1), (scale.together, scale.together)):
        file = work / f"{runs}_runs.yaml"
        config, seeds = HOME / "configs" / "digits.yaml", list(range(runs // 2))  # of two variants
        file.write_text(LAB.format(config=config, seeds=seeds), encoding="utf-8")
        options = f"--config {shlex.quote(str(file))} --workers {workers} --set {data} {scale.lab}"
        ablate[f"{runs} runs, {workers} at a time"] = f"tools/ablate.py {options}"
    pytest = "-m pytest tests/gpu -v --durations=15 -p no:cacheprovider"
    digits = {"digits": f"data/digits.py {scale.digits}"}
    return {
        "tests": {"pytest": f"{pytest} --device {scale.device} {scale.tests}"},
        "training": {
            **digits,
            "training in bfloat16": f"{train} train.precision=bfloat16",
            "training in float32": f"{train} train.precision=float32",
            "evaluation on the CPU": f"{evaluate} --set train.device=cpu",
        },
        "lab": {**digits, **ablate},
    }  # fmt: skip


def _task(name: str, words: str, work: Path) -> Task:
    """A script and its options, with an output that is named after the task."""
    output = work / name.replace(" ", "_").replace(",", "")
    script, *options = shlex.split(words)
    into = "--junitxml" if script == "-m" else "--output"
    command = [sys.executable, script, *options, into, str(output)]
    return Task(name, command, partial(READERS[script], output))


def _tests(report: Path) -> Figures:
    suite = next(ElementTree.parse(report).getroot().iter("testsuite"))
    counts = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
    return {**counts, "seconds": float(suite.get("time", "0"))}


def _training(run: Path) -> Figures:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    validation = [record for record in records if "validation/AP" in record][-1]
    rates = [record["images_per_second"] for record in records if "images_per_second" in record]
    return {
        "AP": validation["validation/AP"],
        "AP50": validation["validation/AP50"],
        "steps": validation["step"],
        "images_per_second": statistics.median(rates),
    }


def _evaluation(folder: Path) -> Figures:
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {"AP": metrics["AP"], "AP50": metrics["AP50"]}


def _benchmark(folder: Path) -> Figures:
    report = json.loads((folder / "benchmark.json").read_text(encoding="utf-8"))
    return {key: own for key, own in report.items() if key not in ("environment", "setting")}


def _ablation(folder: Path) -> Figures:
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    runs, seconds = len(results["seeds"]) * len(results["variants"]), results["runner"]["wall"]
    return {"runs": runs, "seconds": seconds, "seconds_a_run": seconds / runs}


READERS: dict[str, Callable[[Path], Figures]] = {  # by script, of its output
    "-m": _tests,
    "data/digits.py": lambda folder: {},
    "tools/train.py": _training,
    "tools/evaluate.py": _evaluation,
    "tools/ablate.py": _ablation,
    "tools/benchmark.py": _benchmark,
}
