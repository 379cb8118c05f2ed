"""A sweep of shell commands: order, failure, what is done already, and where the time went."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from detector.lab.results import RunnerTime
from detector.lab.sweep import Outcome, Run, Stage, Sweep


def shell(text: str, product: Path | None = None) -> Stage:
    return Stage(("sh", "-c", text), product)


def run(folder: Path, name: str, *stages: Stage) -> Run:
    return Run(name, 0, folder / name, stages)


def sweep(folder: Path, *, workers: int = 1) -> Sweep:
    environments = [{"WORKER": str(n)} for n in range(workers)]
    return Sweep(folder, environments=environments, say=lambda text: None)


def two_stages(folder: Path, second: str = "mkdir {}") -> Run:
    product = folder / "a" / "product"
    first = shell(f"echo first >> {folder}/done; mkdir -p {folder}/a")
    return run(
        folder,
        "a",
        first,
        shell(f"echo second >> {folder}/done; " + second.format(product), product),
    )


def done(folder: Path) -> list[str]:
    return (folder / "done").read_text().split()


def test_nothing_is_done_twice(tmp_path: Path) -> None:
    one = two_stages(tmp_path)
    for _ in range(2):
        assert sweep(tmp_path)([one])[one].code == 0
    assert done(tmp_path) == ["first", "second"]


def test_what_was_finished_before_is_not_told_again(tmp_path: Path) -> None:
    said: list[str] = []
    runs = [run(tmp_path, name, shell(f"mkdir {tmp_path}/{name}")) for name in "abc"]
    sweep(tmp_path)(runs[:2])
    Sweep(tmp_path, environments=[{}], say=said.append)(runs)
    assert said[0] == "2/3  finished before" and len(said) == 2
    assert said[1].startswith("3/3  c, seed 0: finished after ")


def test_only_the_stage_that_is_missing_is_run(tmp_path: Path) -> None:
    """As after a sweep of older code, which knew the first stage only."""
    one = two_stages(tmp_path)
    one.directory.mkdir()
    (tmp_path / "state.json").write_text(json.dumps({one.name: 100.0}))
    outcome = sweep(tmp_path)([one])[one]
    assert done(tmp_path) == ["second"] and outcome.code == 0 and 100 < outcome.seconds < 110
    assert json.loads((tmp_path / "state.json").read_text()) == {one.name: outcome.seconds}


def test_a_product_of_an_older_training_is_set_aside(tmp_path: Path) -> None:
    """As where a person diagnosed a training that a sweep then went on with."""
    one = two_stages(tmp_path)
    product, source = one.stages[1].product, one.directory / "last.pt"
    assert product is not None
    one = run(tmp_path, "a", one.stages[0], Stage(one.stages[1].command, product, source))
    sweep(tmp_path)([one])
    for time_of_source, times in ((-1, 1), (1, 2), (-1, 2), (1, 3)):
        source.touch()
        moment = product.stat().st_mtime_ns + time_of_source
        os.utime(source, ns=(moment, moment))
        assert sweep(tmp_path)([one])[one].code == 0
        assert done(tmp_path) == ["first", *["second"] * times]
    aside = sorted(path.name for path in one.directory.glob("product*"))
    assert aside == ["product", "product.old-1", "product.old-2"]


def test_a_failed_stage_fails_the_run_and_is_run_again(tmp_path: Path) -> None:
    one = two_stages(tmp_path, "exit 7")
    after = run(tmp_path, "b", shell("true"))
    found = sweep(tmp_path)([one, after])
    assert (found[one].code, found[after].code) == (7, 0)
    assert found[one].trained and found[after].trained
    assert sweep(tmp_path)([one])[one].code == 7
    assert done(tmp_path) == ["first", "second", "second"]


def test_later_stages_wait_for_the_first(tmp_path: Path) -> None:
    one = run(tmp_path, "a", shell("exit 3"), shell(f"touch {tmp_path}/b", tmp_path / "b"))
    found = sweep(tmp_path)([one])[one]
    assert found.code == 3 and not found.trained
    assert not (tmp_path / "b").exists() and not (tmp_path / "state.json").exists()


def test_each_worker_has_its_environment(tmp_path: Path) -> None:
    each = shell("sleep 0.3; echo $WORKER")
    runs = [run(tmp_path, name, each) for name in ("lr=0.1", "lr=0.2")]
    sweep(tmp_path, workers=2)(runs)
    assert {one.log.read_text() for one in runs} == {"0\n", "1\n"}


def test_the_overhead_is_what_is_neither_busy_nor_idle() -> None:
    """Two workers for 50 s are 100 s; 80 were busy and 16 idle, so 4 are ours: 5 % of 80."""
    assert RunnerTime.of(2, wall=50, busy=80, idle=16).overhead == pytest.approx(0.05)
    assert RunnerTime.of(2, wall=50, busy=0, idle=100).overhead is None


def test_time_is_accounted_for(tmp_path: Path) -> None:
    """Three runs of half a second in two places: one place is idle during the third."""
    runs = [run(tmp_path, name, shell("sleep 0.5")) for name in "abc"]
    workers = sweep(tmp_path, workers=2)
    workers(runs)
    found = workers.runner_time()
    assert 1.5 <= found.busy < 3 and found.idle > 0.3
    assert found.overhead is not None and 0 < found.overhead < 1
    workers([])
    assert workers.runner_time().busy == found.busy


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_goes_to_the_runs_in_progress_and_starts_no_more(
    tmp_path: Path, number: signal.Signals
) -> None:
    trap = f"trap 'echo saved; exit 9' {number.name[3:]}; touch {tmp_path}/ready"
    text = f"{trap}; while :; do sleep 0.05; done"
    one, other = run(tmp_path, "a", shell(text)), run(tmp_path, "b", shell("true"))
    handler = signal.getsignal(number)
    workers = sweep(tmp_path)
    threading.Thread(target=_send, args=(tmp_path / "ready", number)).start()
    found = workers([one, other])
    assert workers.received == number and one.log.read_text() == "saved\n"
    assert found[one].code is None and found[other] == Outcome(None, 0.0)
    assert not other.log.exists()
    assert not (tmp_path / "state.json").exists() and signal.getsignal(number) is handler


def _send(ready: Path, number: int) -> None:
    while not ready.exists():
        time.sleep(0.01)
    os.kill(os.getpid(), number)
