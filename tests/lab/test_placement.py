"""Which GPUs, threads and loader processes the runs of a sweep get."""

import os
from pathlib import Path

import pytest
from conftest import HOME

from detector import build
from detector.cli import ablation_runs
from detector.cli.ablation_runs import forecast, runs_of, trials_of
from detector.errors import InputError
from detector.lab.placement import Placement
from detector.lab.plan import Plan

TEXT = """config: {config}
set: [data.workers=4, train.batch_size=8]
baseline: a
variants:
  a: {{tune: {{optimizer.lr: [1, 2]}}}}
  b: {{set: [data.workers=1]}}
gpus_per_run: {k}
"""


def read(folder: Path, *, gpus_per_run: int = 1) -> Plan:
    file = folder / "ablation.yaml"
    file.write_text(TEXT.format(config=HOME / "configs" / "digits.yaml", k=gpus_per_run))
    return Plan.read(file, (), load=build.load_config)


def placed(
    *, workers: int, gpus: str = "", gpus_per_run: int = 1, cores: int = 16, own: int | None = None
) -> Placement:
    return Placement(
        workers=workers, gpus=tuple(gpus.split()), gpus_per_run=gpus_per_run, cores=cores,
        data_workers=4, own_threads=own,
    )  # fmt: skip


def visible(placement: Placement) -> list[str]:
    return [one["CUDA_VISIBLE_DEVICES"] for one in placement.environments()]


def test_workers_are_dealt_to_the_gpus_in_turn() -> None:
    assert visible(placed(workers=2, gpus="3 GPU-5")) == ["3", "GPU-5"]
    assert visible(placed(workers=5, gpus="0 1")) == ["0", "1", "0", "1", "0"]
    assert visible(placed(workers=2, gpus="0 1 2 3 4", gpus_per_run=2)) == ["0,1", "2,3"]
    assert [placed(workers=n, gpus="0 1").sharing for n in (1, 2, 3, 8)] == [1, 1, 2, 4]
    assert all("CUDA_VISIBLE_DEVICES" not in one for one in placed(workers=3).environments())


@pytest.mark.parametrize(
    ("placement", "threads", "loaders"),
    [
        (placed(workers=1, gpus="0"), 12, 4),  # 16 cores: 4 loaders as in the config, and the rest
        (placed(workers=4, gpus="0"), 1, 3),  # of 4 cores one is the main process's
        (placed(workers=8, gpus="0 1"), 1, 1),
        (placed(workers=8, gpus="0", cores=8), 1, 0),
        (placed(workers=8, gpus="0", cores=3), 1, 0),
        (placed(workers=2, gpus="0 1 2 3", gpus_per_run=2), 1, 3),  # 4 processes on 16 cores
        (placed(workers=4, gpus="0", own=7), 7, 3),
        (placed(workers=2, cores=9), 4, 4),  # on the CPU the threads share the cores
        (placed(workers=16, cores=9), 1, 4),
        (placed(workers=2, cores=9, own=3), 3, 4),
    ],
)
def test_the_cores_are_shared(placement: Placement, threads: int, loaders: int) -> None:
    assert (placement.threads, placement.loaders) == (threads, loaders)
    assert {one["OMP_NUM_THREADS"] for one in placement.environments()} == {str(threads)}


@pytest.mark.parametrize(("wanted", "own"), [("", None), ("3", 3), ("3,2", 3), ("0", None)])
def test_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, own: int | None
) -> None:
    """The cores that it may use, not those of the machine."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 5, 6}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    found = Placement.of(read(tmp_path), ["7"], workers=2)
    assert (found.cores, found.own_threads, found.data_workers) == (3, own, 4)
    monkeypatch.delattr(os, "sched_getaffinity")
    assert Placement.of(read(tmp_path), [], workers=2).cores == 64


def test_loader_processes_are_lowered_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three fit: of a's four they are too few, of b's one more than enough."""
    monkeypatch.setattr(build, "data_index", lambda config, part: range(32))
    plan = read(tmp_path)
    on_gpu, on_cpu = placed(workers=4, gpus="0"), placed(workers=4)
    runs = [*trials_of(plan, tmp_path, on_gpu), *runs_of(plan, tmp_path, on_gpu)]
    for run in runs:
        words = run.stages[0].command
        numbers = [word for word in words if word.startswith("data.workers=")]
        assert numbers[-1] == ("data.workers=1" if run.variant == "b" else "data.workers=3")
        assert words[1:4] == ("-m", "detector", "train")
    before = [run.stages[0].command for run in runs_of(plan, tmp_path, on_cpu)]
    assert not any("data.workers=3" in words for words in before)


@pytest.mark.parametrize(
    ("count", "workers", "said"),
    [
        (0, 1, "ablation.yaml: gpus_per_run: found 2, it should be at most .* 0; lower it"),
        (1, 1, "ablation.yaml: gpus_per_run: found 2, it should be at most .* 1; lower it"),
        (5, 3, "--workers is 3, it should be at most 2 for gpus_per_run 2 .*lower --workers"),
    ],
)
def test_too_few_gpus(tmp_path: Path, count: int, workers: int, said: str) -> None:
    plan = read(tmp_path, gpus_per_run=2)
    with pytest.raises(InputError, match=said):
        Placement.of(plan, [str(n) for n in range(count)], workers=workers)
    assert Placement.of(plan, "01234", workers=2).gpus_per_run == 2


def test_the_dry_run_says_what_runs_where() -> None:
    said = placed(workers=3, gpus="0 1").describe()
    assert said.startswith("3 at a time: 2 on GPU 0, 1 on GPU 1; ") and "cores: 16" in said
    assert "OMP_NUM_THREADS=1 and data.workers of at most 4; " in said and "careful" not in said
    said = placed(workers=8, gpus="0", cores=7).describe()
    assert "data.workers of at most 0 (4 asked for)" in said
    assert said.splitlines()[1].startswith("careful: 8 processes")
    assert placed(workers=2).describe().startswith("2 at a time: on the CPU; ")
    said = placed(workers=2, gpus="0 1 2 3 4", gpus_per_run=2).describe()
    assert said.startswith("2 at a time: 1 on GPU 0+1, 1 on GPU 2+3; ")


def test_the_forecast_knows_what_it_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 runs of 10 steps (2 trials and 2 x 3) of 1 s: 80 s one after the other, at best 80 / 8."""
    monkeypatch.setattr(ablation_runs, "_seconds_a_step", lambda config, placement: 1.0)
    monkeypatch.setattr(build, "data_index", lambda config, part: range(16))
    plan, output = read(tmp_path), tmp_path / "out"
    said = forecast(plan, output, placed(workers=8, gpus="0"))
    assert "about 0:00:10 (if the 8 runs on a GPU do not slow each other down) to 0:01:20" in said
    said = forecast(plan, output, placed(workers=8, gpus="0 1"))
    assert "about 0:00:10 (if the 4 runs" in said and "to 0:00:40 (if they gain nothing)" in said
    said = forecast(plan, output, placed(workers=2, gpus="0 1"))
    assert "about 0:00:40 with --workers 2, by 1000 ms a step" in said
    said = forecast(plan, output, placed(workers=1, gpus="0 1", gpus_per_run=2))
    assert "on one GPU with its part of a batch" in said
    output.mkdir()
    (output / "state.json").write_text('{"b, seed 0": 20}')
    said = forecast(plan, output, placed(workers=7, gpus="0"))
    assert "about 0:00:20 with --workers 7, by the 1 finished runs" in said
    assert "as if those had also been 7 on a GPU" in said


def test_a_trial_may_have_steps_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "ablation.yaml"
    file.write_text(
        f"config: {HOME}/configs/digits.yaml\nbaseline: a\n"
        "set: [schedule.epochs=null, schedule.steps=5, schedule.warmup_steps=1]\n"
        "variants: {a: {tune: {schedule.steps: [10, 20]}}}\n"
    )
    plan = Plan.read(file, (), load=build.load_config)
    assert sorted(ablation_runs._steps(plan).values()) == [5, 10, 20]
