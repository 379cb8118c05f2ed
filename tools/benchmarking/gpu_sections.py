"""The sections of tools/check_gpu.py, most important first."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarking import tables
from benchmarking.gpu_check import GpuSection, Task, python
from benchmarking.gpu_scale import DIGITS, Scale, StepCase
from benchmarking.setup import Figures

LAB = """# Eight short runs for the wall time of several runs on one GPU.
config: {config}
set: {settings}
seeds: {seeds}
baseline: focal
variants:
  focal: {{set: [loss.classification.gamma=2]}}
  cross_entropy: {{set: [loss.classification.gamma=0, loss.classification.alpha=null]}}
"""
CPU_TOLERANCE = 0.005  # of AP between a GPU and a CPU with the same weights


def gpu_sections(scale: Scale, work: Path) -> dict[str, GpuSection]:
    """Of the check, most important first; their files go into the folder `work`."""
    makers = (_tests, _training, _step, _loss, _predict_and_data, _lab, _compiled)
    return {section.name: section for section in (make(scale, work) for make in makers)}


def _tests(scale: Scale, work: Path) -> GpuSection:
    report = work / "tests.xml"
    command = python(
        "-m", "pytest", "tests/gpu", "--device", scale.device, *scale.tests, "-v",
        "--durations=15", "-p", "no:cacheprovider", f"--junitxml={report}",
    )  # fmt: skip
    task = Task("pytest", command, partial(_test_counts, report), _counts_table)
    return GpuSection("tests", 3, (task,), _judge_tests)


def _test_counts(report: Path) -> Figures:
    suite = next(ElementTree.parse(report).getroot().iter("testsuite"))
    counts = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
    return {**counts, "seconds": float(suite.get("time", "0"))}


def _counts_table(counts: Figures) -> str:
    return tables.record({key: f"{value:g}" for key, value in counts.items()})


def _judge_tests(figures: Mapping[str, Figures]) -> list[str]:
    counts = figures.get("pytest")
    if counts is None or counts["tests"] > counts["skipped"]:
        return []
    return [f"all {counts['tests']} tests were skipped, so nothing was tested"]


def _training(scale: Scale, work: Path) -> GpuSection:
    runs = {precision: work / precision for precision in ("bfloat16", "float32")}
    trainings = [
        Task(
            f"training in {precision}",
            _train(scale, work, run, f"train.precision={precision}", "evaluation.every=5"),
            partial(_training_figures, run),
            _training_table,
        )
        for precision, run in runs.items()
    ]
    on_cpu = work / "on_cpu"
    evaluation = Task(
        "evaluation on the CPU",
        python("tools/evaluate.py", "--run", runs["float32"], "--checkpoint", "last",
               "--output", on_cpu, "--set", "train.device=cpu"),
        partial(_read_json, on_cpu / "metrics.json", "AP", "AP50"),
    )  # fmt: skip
    judge = partial(_judge_training, scale.least_ap)
    return GpuSection("training", 3, (_make_digits(scale, work), *trainings, evaluation), judge)


def _make_digits(scale: Scale, work: Path) -> Task:
    command = python("data/digits.py", "--output", work / "digits", *scale.digits)
    return Task("digits", command)


def _train(scale: Scale, work: Path, run: Path, *settings: str) -> tuple[str, ...]:
    common = (*_digits_settings(scale, work), *scale.training)
    words = ("--config", DIGITS, "--output", run, "--set", *common, *settings)
    return python("tools/train.py", *words)


def _digits_settings(scale: Scale, work: Path) -> tuple[str, ...]:
    data = work / "digits"
    return (
        f"data.train.images={data}/train",
        f"data.train.annotations={data}/annotations/train.json",
        f"data.val.images={data}/val",
        f"data.val.annotations={data}/annotations/val.json",
        f"train.device={scale.device}",
    )


def _training_figures(run: Path) -> Figures:
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


def _training_table(figures: Figures) -> str:
    return tables.record({
        "AP": f"{figures['AP']:.3f}", "AP50": f"{figures['AP50']:.3f}",
        "steps": f"{figures['steps']:,}",
        "images/s, median of the log": f"{figures['images_per_second']:,.0f}",
    })  # fmt: skip


def _judge_training(least: float, figures: Mapping[str, Figures]) -> list[str]:
    ap = {name: own["AP"] for name, own in figures.items() if name.startswith("training")}
    sentences = [
        f"{name}: AP is {value:.3f}; at least {least} is expected"
        for name, value in ap.items()
        if value < least
    ]
    here, there = figures.get("training in float32"), figures.get("evaluation on the CPU")
    if here and there and abs(here["AP"] - there["AP"]) > CPU_TOLERANCE:
        sentences.append(
            f"the checkpoint has AP {here['AP']:.4f} where it was trained and {there['AP']:.4f} on "
            f"the CPU; at most {CPU_TOLERANCE} apart is expected"
        )
    return sentences


def _step(scale: Scale, work: Path) -> GpuSection:
    """Every case in each mode, and the first in parts."""
    first = scale.steps[0]
    tasks = [
        _step_task(scale, work, f"step {mode}", case, words)
        for mode, words in scale.step_modes.items()
        for case in scale.steps
    ]
    parts = _step_task(scale, work, "parts", first, scale.parts)
    return GpuSection("step", 5, (*tasks, parts))


def _step_task(scale: Scale, work: Path, name: str, case: StepCase, words: Sequence[str]) -> Task:
    options = ("--config", case.config, "--classes", str(case.classes), *words)
    return _benchmark(
        scale, work, f"{name}, {case.name}", name.split()[:1], (*options, "--set", *case.settings)
    )


def _compiled(scale: Scale, work: Path) -> GpuSection:
    """What takes a compiler minutes, last."""
    task = _step_task(scale, work, "step compiled", scale.steps[0], scale.compiled_step)
    return GpuSection("compiled", 3, (task,))


def _loss(scale: Scale, work: Path) -> GpuSection:
    tasks = [_benchmark(scale, work, *measured) for measured in scale.losses]
    return GpuSection("loss", 1.5, tuple(tasks))


def _predict_and_data(scale: Scale, work: Path) -> GpuSection:
    tasks = [_benchmark(scale, work, *measured) for measured in scale.data]
    return GpuSection("predict", 1.5, tuple(tasks), _judge_prediction)


def _judge_prediction(figures: Mapping[str, Figures]) -> list[str]:
    return [
        f"{name}: only {own['predict']['agreement']:.4f} of torchvision's detections are ours too; "
        "at least 0.99 is expected"
        for name, own in figures.items()
        if "predict" in own and own["predict"]["agreement"] < 0.99
    ]


def _benchmark(
    scale: Scale, work: Path, name: str, parts: Sequence[str], words: Sequence[str]
) -> Task:
    output = work / name.replace(" ", "_").replace(",", "")
    command = python(
        "tools/benchmark.py", "--device", scale.device, "--output", output, "--only", *parts, *words
    )

    def table(figures: Figures) -> str:
        return "\n\n".join(tables.section(part, figures[part]) for part in parts)

    return Task(name, command, partial(_read_json, output / "benchmark.json", *parts), table)


def _lab(scale: Scale, work: Path) -> GpuSection:
    """Two runs one at a time tell how long one takes; all of them at once, how much that saves."""
    alone, together = work / "alone.yaml", work / "together.yaml"
    seeds = scale.together // 2  # of two variants
    tasks = (
        _make_digits(scale, work),
        _ablation(scale, work, alone, seeds=1, workers=1),
        _ablation(scale, work, together, seeds=seeds, workers=scale.together),
    )
    return GpuSection("lab", 3, tasks)


def _ablation(scale: Scale, work: Path, file: Path, *, seeds: int, workers: int) -> Task:
    settings = [*_digits_settings(scale, work), *scale.lab]
    text = LAB.format(config=Path(DIGITS).resolve(), settings=json.dumps(settings),
                      seeds=list(range(seeds)))  # fmt: skip
    file.write_text(text, encoding="utf-8")
    output = file.with_suffix("")
    words = ("--config", file, "--output", output, "--workers", workers)
    name = f"{2 * seeds} runs, {workers} at a time"
    read = partial(_lab_figures, output / "results.json", 2 * seeds)
    return Task(name, python("tools/ablate.py", *words), read, _lab_table)


def _lab_figures(results: Path, runs: int) -> Figures:
    runner = _read_json(results, "runner")["runner"]
    return {"runs": runs, "seconds": runner["wall"], "seconds_a_run": runner["wall"] / runs}


def _lab_table(figures: Figures) -> str:
    return tables.record({
        "runs": f"{figures['runs']}", "seconds": f"{figures['seconds']:.0f}",
        "seconds / runs": f"{figures['seconds_a_run']:.1f}",
    })  # fmt: skip


def _read_json(file: Path, *keys: str) -> Figures:
    content = json.loads(file.read_text(encoding="utf-8"))
    return {key: content[key] for key in keys}


def headline(figures: Mapping[str, Figures]) -> list[tuple[str, str]]:
    """What a person wants to know first, of the tasks that succeeded."""
    rows = []
    for name, own in figures.items():
        rows += [(f"{name}: {label}", value) for label, value in _step_rows(own.get("step", {}))]
        rows += [
            (f"{name}: {preset} / copy of the logits", tables.ratio(loss["over_copy"]))
            for preset, loss in own.get("loss", {}).items()
        ]
    return rows + _lab_rows(figures)


def _step_rows(step: Figures) -> list[tuple[str, str]]:
    if not step:
        return []
    ours, over = step["sides"]["ours"], step["ratios"].get("ours / network")
    rows = [("images/s", f"{ours['images_per_second']:,.1f}")]
    rows += [(label, tables.ratio(value)) for label, value in step["ratios"].items()]
    if over is not None:
        rows.append(("share that is not the network", f"{1 - 1 / over['median']:.1%}"))
    if ours["launches"] is not None:
        rows.append(("launches", f"{ours['launches']:,}"))
    return rows


def _lab_rows(figures: Mapping[str, Figures]) -> list[tuple[str, str]]:
    """Time a run, one at a time / several at a time."""
    labs = [(own["runs"], name, own) for name, own in figures.items() if "seconds_a_run" in own]
    if len(labs) < 2:
        return []
    (_, _, alone), (_, name, together) = sorted(labs, key=lambda lab: lab[0])
    gain = alone["seconds_a_run"] / together["seconds_a_run"]
    return [(f"{name}: wall time of one at a time / of these, starts included", f"{gain:.2f}")]
