"""A whole ablation, whose runs are processes: undisturbed, and itself one that is killed."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import HOME, Command
from forked import popen

from detector import build
from detector.cli import ablate, ablation_runs
from detector.cli.ablation_runs import forecast
from detector.cli.compare import bootstrap_comparison, diagnosed_run
from detector.cli.train import train
from detector.config import parse
from detector.files import write_json
from detector.lab.design import Record
from detector.lab.placement import Placement
from detector.lab.plan import Plan

TEXT = """config: {config}
set: {settings}
seeds: [0, 1]
baseline: focal
variants:
  focal: {{set: [loss.classification.gamma=2]}}
  plain: {{set: [loss.classification.gamma=0]}}
"""
MORE = ["schedule.steps=5", "train.checkpoint_every=1", "train.batch_size=2"]


@pytest.fixture(scope="module")
def ablation(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("ablation") / "tiny.yaml"
    config = HOME / "configs" / "digits.yaml"
    file.write_text(TEXT.format(config=config, settings=json.dumps([*tiny, *MORE])))
    return file


def start(
    ablation: Path, output: Path, *, script: str = "tools/ablate.py"
) -> "subprocess.Popen[str]":
    words = [script, "--config", str(ablation), "--output", str(output)]
    return popen(
        [sys.executable, *words],
        cwd=HOME, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        start_new_session=True,
    )  # fmt: skip


def results(output: Path) -> dict[str, Any]:
    """results.json but for the times."""
    found: dict[str, Any] = json.loads((output / "results.json").read_text())
    assert all(seconds > 0 for seconds in found.pop("seconds").values())
    assert found.pop("runner").keys() == {"workers", "wall", "busy", "idle", "overhead"}
    return found


def stop(sweep: "subprocess.Popen[str]", output: Path, run: str, number: int) -> str:
    """Send a signal once the run has saved a new state; what the sweep said."""
    saved, began = output / "runs" / run / "checkpoints" / "last.pt", time.time()
    deadline = time.monotonic() + 240
    while not is_newer(saved, began) and sweep.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(sweep.pid, number)
    return sweep.communicate(timeout=60)[0]  # a training in progress would hold the pipe


def is_newer(file: Path, began: float) -> bool:
    return file.exists() and file.stat().st_mtime > began


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page takes longer than a run does; `undisturbed` has one."""
    for name in ("write_ablation_page", "write_paper"):
        monkeypatch.setattr(ablate, name, lambda ablation: ablation.path / "none")


@pytest.fixture(scope="module")
def undisturbed(ablation: Path, tool: Command) -> tuple[Path, str]:
    """The folder of a sweep from beginning to end, and what it said; to be left as it is."""
    output = ablation.parent / "undisturbed"
    done = tool("ablate", "--config", ablation, "--output", output)
    assert done.returncode == 0, done.stdout + done.stderr
    return output, done.stdout


def test_a_sweep_says_how_it_goes(undisturbed: tuple[Path, str]) -> None:
    output, said = undisturbed
    assert "4/4" in said and "| plain |" in said, said
    assert re.search(r"runner overhead while runs were in progress [0-9.]+ % of", said)
    found = json.loads((output / "results.json").read_text())
    assert found["runner"]["busy"] == pytest.approx(sum(found["seconds"].values()), rel=1e-6)
    assert (output / "runs/plain/seed1/diagnosis/last/diagnostics.json").exists()


def test_results_hold_what_the_runs_say(undisturbed: tuple[Path, str]) -> None:
    """The runs' folders are too large to be published; what is said of them is not."""
    output, _ = undisturbed
    for variant in json.loads((output / "results.json").read_text())["variants"]:
        for seed in "01":
            run = output / "runs" / variant["name"] / f"seed{seed}"
            diagnosis = json.loads((run / "diagnosis/last/diagnostics.json").read_text())
            measures = {name: of_seeds[seed] for name, of_seeds in variant["measures"].items()}
            assert measures["AR"] == diagnosis["AR100"]
            assert measures["FP an image, recall 0.5"] == diagnosis["froc"]["at_recall"]["0.5"]
            assert measures["AP50 lost to missed"] == diagnosis["errors"]["missed"]
            records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
            validated = [[r["epoch"], r["validation/AP"]] for r in records if "validation/AP" in r]
            assert validated and variant["validations"][seed] == validated


def test_the_page_and_the_bootstrap(undisturbed: tuple[Path, str]) -> None:
    """Every seed of the other variant against the baseline, as tools/compare.py would."""
    output, said = undisturbed
    assert f"report: {output / 'report.html'}" in said
    assert "plain" in (output / "report.html").read_text()
    found = json.loads((output / "results.json").read_text())["bootstrap"]
    assert [(one["variant"], one["seed"]) for one in found] == [("plain", 0), ("plain", 1)]
    for one in found:
        base, own = (
            diagnosed_run(output / "runs" / name / f"seed{one['seed']}")
            for name in ("focal", "plain")
        )
        expected = bootstrap_comparison(base, own, resamples=1000, seed=0)
        assert (one["difference"], one["p"]) == (expected.difference, expected.p)
        assert one["interval"] == list(expected.interval)


def without(runs: Sequence[str], undisturbed: Path, output: Path) -> None:
    """The folder of a sweep that has not come to these runs yet."""
    shutil.copytree(undisturbed, output)
    (output / "results.json").unlink()
    state = json.loads((output / "state.json").read_text())
    for run in runs:
        shutil.rmtree(output / "runs" / run)
        (output / "runs" / f"{run}.log").unlink()
        del state[run.replace("/seed", ", seed ")]
    (output / "state.json").write_text(json.dumps(state))


@pytest.mark.usefixtures("no_report")
def test_stopped_in_every_way_and_restarted_equals_undisturbed(
    ablation: Path, undisturbed: tuple[Path, str], tmp_path: Path, tool: Command
) -> None:
    """SIGTERM goes the way of SIGINT: see tests/lab/test_sweep.py."""
    output = tmp_path / "stopped"
    run = "focal/seed1"
    log = output / "runs" / f"{run}.log"
    without([run, "plain/seed1"], undisturbed[0], output)
    for number, expected in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        sweep = start(ablation, output)
        said = stop(sweep, output, run, number)
        assert sweep.returncode == expected, said
        assert log.read_text().count("Stopped by a signal") == 1, log.read_text()
        assert len(json.loads((output / "state.json").read_text())) == 2
    again = tool("ablate", "--config", ablation, "--output", output)
    assert again.returncode == 0, again.stdout + again.stderr
    assert log.read_text().count("resumed at step") == 2
    assert results(output) == results(undisturbed[0])


@pytest.mark.usefixtures("no_report")
def test_what_older_code_finished_is_only_diagnosed(
    ablation: Path, undisturbed: tuple[Path, str], tmp_path: Path, tool: Command
) -> None:
    """Its state.json says that the runs are finished, and there is no diagnosis."""
    output = tmp_path / "old"
    shutil.copytree(undisturbed[0], output)
    state, before = output / "state.json", json.loads((output / "state.json").read_text())
    logs = {path: path.read_text() for path in output.glob("runs/*/*.log")}
    one = output / "runs" / "plain" / "seed0"
    shutil.rmtree(one / "diagnosis")
    assert tool("ablate", "--config", ablation, "--output", output).returncode == 0
    changed = [path for path, text in logs.items() if path.read_text() != text]
    assert changed == [one.with_name("seed0.log")]
    assert changed[0].read_text().removeprefix(logs[changed[0]]).startswith("diagnosing")
    assert (one / "diagnosis" / "last" / "diagnostics.json").exists()
    assert results(output) == results(undisturbed[0])
    after = json.loads(state.read_text())
    assert {name for name in before if after[name] != before[name]} == {"plain, seed 0"}


def test_pairs_start_from_the_same_weights_and_images(
    ablation: Path, undisturbed: tuple[Path, str], tool: Command
) -> None:
    """Shared parameters, order and pixels of one seed: the first box loss is the same number."""
    output = undisturbed[0]
    first = {
        (v, seed): json.loads((output / f"runs/{v}/seed{seed}/metrics.jsonl").read_text()
                              .splitlines()[0])["loss/box"]
        for v in ("focal", "plain") for seed in (0, 1)
    }  # fmt: skip
    assert first["focal", 0] == first["plain", 0] and first["focal", 1] == first["plain", 1]
    assert first["focal", 0] != first["focal", 1]
    other = tool("ablate", "--config", ablation, "--output", output, "--set", "optimizer.lr=0.5")
    assert other.returncode == 2 and "optimizer.lr is " in other.stderr


def test_the_time_is_told_before(ablation: Path, undisturbed: tuple[Path, str]) -> None:
    def said(output: Path, *overrides: str) -> str:
        plan = Plan.read(ablation, overrides, load=build.load_config)
        return forecast(plan, output, Placement.of(plan, (), workers=1))

    timed = said(ablation.parent / "new", "schedule.steps=5000")
    told = re.search(
        r"^4 runs of 5,000 steps, 4 of them to do: about (\d+):(\d\d):(\d\d) with --workers 1, "
        r"by (\d+) ms a step of focal, timed now",
        timed,
    )
    assert told is not None, timed
    hours, minutes, seconds, pace = map(int, told.groups())
    expected = 4 * 5000 * pace / 1000
    assert 3600 * hours + 60 * minutes + seconds == pytest.approx(expected, abs=11)  # 0.5 ms a step
    missing = said(ablation.parent / "new", "data.train.annotations=gone.json")
    assert missing.startswith("no estimate of the time: gone.json")
    assert "0 of them to do: about 0:00:00" in said(undisturbed[0])
    epochs = said(undisturbed[0], "schedule.steps=null", "schedule.epochs=3")
    assert "4 runs of 24 steps" in epochs  # 16 images make 8 steps an epoch


TUNED = """config: {config}
set: {settings}
seeds: [3]
metric: loss
baseline: slow
tuning_share: 0.4
variants:
  slow:
    set: [optimizer.lr=1e-12]
    tune: {{optimizer.lr: [1e-12, 1e-4, 1e30]}}
"""


@pytest.mark.usefixtures("no_report")
def test_tuning(tiny: list[str], tool: Command, tmp_path: Path) -> None:
    file, output = tmp_path / "tuned.yaml", tmp_path / "out"
    config = HOME / "configs" / "digits.yaml"
    file.write_text(TUNED.format(config=config, settings=json.dumps([*tiny, "train.batch_size=2"])))
    done = tool("ablate", "--config", file, "--output", output)
    assert done.returncode == 0, done.stdout + done.stderr
    slow, tuned = json.loads((output / "results.json").read_text())["variants"]
    tuning = slow["tuning"]
    assert tuning["keys"] == {"optimizer.lr": [1e-12, 1e-4, 1e30]}
    assert tuning["chosen"] == {"optimizer.lr": 1e-4} and tuning["tuned_variant"] == "slow_tuned"
    assert tuning["values"]["lr=1e+30"] is None
    assert tuning["values"]["lr=0.0001"] < tuning["values"]["lr=1e-12"]
    assert (tuned["name"], tuned["tuning"]) == ("slow_tuned", None)
    assert tuned["changes"] == {"optimizer.lr": [1e-12, 1e-4]}
    assert tuned["mean"] < slow["mean"]
    trial = output / "tuning" / "slow" / "lr=0.0001" / "seed1000"
    said = trial.with_name("seed1000.log").read_text()
    held, rest = (int(re.search(rf"{part}.*?: (\d+) images", said)[1])
                  for part in ("validation", "train"))  # fmt: skip
    assert held + rest == 16 and held > 0
    assert parse((trial / "config.yaml").read_text(), "").data.tuning == 0.4
    again = tool("ablate", "--config", file, "--output", output)
    assert again.returncode == 0 and "2/2  slow_tuned" not in again.stdout
    other = tool("ablate", "--config", file, "--output", output, "--set", "data.tuning=0.5")
    assert other.returncode == 2 and "data.tuning cannot be set or tuned" in other.stderr
    assert "train.py" not in other.stdout


@pytest.mark.usefixtures("no_report")
def test_a_diverged_run_stops_no_other(ablation: Path, tool: Command, tmp_path: Path) -> None:
    text = ablation.read_text().replace(
        "gamma=0]", "gamma=0, optimizer.lr=1e30, optimizer.name=sgd]"
    )
    file = tmp_path / "bad.yaml"
    file.write_text(text.replace("seeds: [0, 1]", "seeds: [0]"))
    done = tool("ablate", "--config", file, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr  # it diverges, which is an outcome
    assert "diverged, an outcome that is not tried again: plain, seed 0" in done.stdout
    assert "2/2  plain, seed 0: diverged after" in done.stdout
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    focal, plain = found["variants"]
    assert focal["values"]["0"] >= 0 and plain["values"] == {"0": None}
    assert plain["diverged"] == [0] and plain["mean"] == 0
    assert plain["success"] == {"runs": 1, "succeeded": 0, "mean": None}


@pytest.mark.usefixtures("one_thread", "no_report")
def test_many_runs_on_one_gpu_are_those_of_one_at_a_time(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with the loader process that its share of 8 cores allows; the others decode alone.

    One at a time, trainings are plain ones. The GPU is but a name, which these runs do not use.
    """
    config, file = HOME / "configs" / "digits.yaml", tmp_path / "four.yaml"
    settings = [*tiny, "data.workers=2", "schedule.steps=2"]
    file.write_text(TEXT.format(config=config, settings=json.dumps(settings)))
    plan = Plan.read(file, [], load=build.load_config)
    monkeypatch.setattr(
        ablation_runs, "_diagnosis", lambda run: ("mkdir", "-p", f"{run}/diagnosis/last")
    )
    monkeypatch.setattr(ablate, "bootstraps", lambda *runs: [])
    four = Placement(workers=4, gpus=("0",), gpus_per_run=1, cores=8, data_workers=2)
    assert ablate.ablate(plan, tmp_path / "four", placement=four, say=print) == 0
    state: dict[str, float] = {}
    for variant, seed in ((v, seed) for v in plan.variants for seed in plan.seeds):
        run = tmp_path / "one" / "runs" / variant.name / f"seed{seed}"
        changes = [*variant.changes, f"train.seed={seed}", "data.workers=0"]
        assert train(build.load_config(config, changes), run, resume=False, command=[]) == 0
        state[f"{variant.name}, seed {seed}"] = 1
        shared = tmp_path / "four" / run.relative_to(tmp_path / "one") / "config.yaml"
        assert parse(shared.read_text(), "").data.workers == 1
    Record.of(plan, tmp_path / "one").write(tmp_path / "one")
    write_json(tmp_path / "one" / "state.json", state)
    alone = Placement.of(plan, (), workers=1)
    assert ablate.ablate(plan, tmp_path / "one", placement=alone, say=print) == 0
    found = results(tmp_path / "four")
    assert found == results(tmp_path / "one")
    assert len({value for v in found["variants"] for value in v["values"].values()}) > 2


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


TOGETHER = """
import sys
from detector.cli import ablate
from detector.errors import exit_codes
ablate.visible_gpus = lambda: ["0", "1", "2", "3"]
with exit_codes():
    sys.exit(ablate.main())
"""


def test_runs_of_two_ranks_end_with_the_sweep(tiny: list[str], tmp_path: Path) -> None:
    """Under torchrun, on names of GPUs; killed, and gone on with until stopped."""
    file, output = tmp_path / "two.yaml", tmp_path / "out"
    more = ["schedule.steps=9999", "train.checkpoint_every=1", "evaluation.every=9999"]
    settings = json.dumps([*tiny, *more])
    text = TEXT.format(config=HOME / "configs" / "digits.yaml", settings=settings)
    file.write_text(text.replace("[0, 1]", "[0]") + "gpus_per_run: 2\n")
    run = output / "runs" / "focal" / "seed0"
    state = run / "checkpoints" / "last.pt"
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    for number, expected in ((signal.SIGKILL, -9), (signal.SIGINT, 130)):
        began = time.time()
        sweep = start(file, output, script=str(script))
        wait(lambda since=began: is_newer(state, since))
        assert len(processes_of(output)) == 1 + 2  # torchrun and ranks
        sweep.send_signal(number)
        assert sweep.wait(60) == expected
        wait(lambda: not processes_of(output))  # what is killed is gone a moment later
    said = run.with_suffix(".log").read_text()
    (resumed,) = re.findall(r"resumed at step (\d+) of", said)
    (saved,) = re.findall(r"Stopped by a signal; step (\d+) is saved", said)
    assert torch.load(state, weights_only=True)["step"] == int(saved) >= int(resumed) > 0


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def processes_of(output: Path) -> list[str]:
    """The command lines that name the folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            found.append(file.read_text())
    return [line for line in found if str(output) in line]
