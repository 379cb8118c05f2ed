"""train.loggers: loggers of a user's beside the run's own, the guide's among them."""

import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from conftest import HOME

from detector import build
from detector.cli.train import train
from detector.engine.logger import Logger, Loggers
from detector.errors import InputError

GUIDE = (HOME / "docs" / "guide.md").read_text()
EXAMPLES = dict(re.findall(r"```python\n# (my_loggers_\w+\.py)[^\n]*\n(.*?)```", GUIDE, re.S))
NAMES = ["my_loggers_wandb:WandB", "my_loggers_mlflow:MLflow"]


class Recorder:
    """Stands in for a module: any name of it is called, and the call kept."""

    def __init__(self, calls: list[tuple[str, Any, Any]], name: str, result: Any = None) -> None:
        self._calls, self._name, self._result = calls, name, result

    def __getattr__(self, name: str) -> Any:
        return Recorder(self._calls, f"{self._name}.{name}", self._result)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self._calls.append((self._name.partition(".")[2], arguments, named))
        return self._result or self


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, list[Any]]:
    """What the guide's loggers call of wandb and mlflow, which are not installed."""
    kept: dict[str, list[Any]] = {"wandb": [], "mlflow": []}
    wandb: Any = Recorder(kept["wandb"], "wandb")
    wandb.util = SimpleNamespace(generate_id=lambda: "id of wandb")
    wandb.Image = lambda pixels: pixels
    started = SimpleNamespace(info=SimpleNamespace(run_id="id of mlflow"))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", Recorder(kept["mlflow"], "mlflow", started))
    for name, code in EXAMPLES.items():
        (tmp_path / name).write_text(code)
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return kept


def run_with(names: Sequence[str], tiny: Sequence[str], run: Path, *, resume: bool = False) -> int:
    settings = [*tiny, f"train.loggers={json.dumps(list(names))}"]
    config = build.load_config(HOME / "configs/digits.yaml", settings)
    return train(config, run, resume=resume, command=[])


def test_the_guides_classes_are_short_and_named_in_its_yaml() -> None:
    for code in EXAMPLES.values():
        assert len(code.partition("class ")[2].strip().splitlines()) <= 20
    blocks = re.findall(r"```yaml\n(train:\n  loggers.*?)```", GUIDE, re.S)
    assert [yaml.safe_load(block)["train"]["loggers"] for block in blocks] == [NAMES]


BROKEN = """
from detector import Logger

class Broken(Logger):
    made = []

    def __init__(self, run, step):
        self.made.append((run.name, step))
        self.left = 2

    def write(self, record):
        record.clear()
        self.left -= 1
        if not self.left:
            raise ConnectionError("no way")

class Late(Logger):
    def __init__(self, run, step):
        raise SystemExit(3)

class Wrong(Logger):
    pass

def function(run, step):
    return Logger()
"""


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_logger", raising=False)
    (tmp_path / "broken_logger.py").write_text(BROKEN)
    return "broken_logger"


def test_the_guides_loggers_get_all_that_metrics_jsonl_gets_though_others_fail(
    calls: dict[str, list[Any]], broken: str, tiny: Sequence[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run, names = tmp_path / "run", [f"{broken}:Late", f"{broken}:Broken", *NAMES]
    assert run_with(names, tiny, run) == 0
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 2, 3, 4, 4]

    (name, _, init), *logged, last = calls["wandb"]
    assert name == "init" and init["config"]["train"]["loggers"] == names
    assert (init["name"], init["id"], init["resume"]) == ("run", "id of wandb", "allow")
    assert last[0] == "init.finish"  # of the run that init gave
    written = [(a[0], n["step"]) for _, a, n in logged if "validation/images" not in a[0]]
    assert [step for _, step in written] == [1, 2, 2, 3, 4, 4]
    assert [record.keys() for record, _ in written] == [record.keys() for record in records]
    (image,) = next(a[0] for _, a, _ in logged if "validation/images" in a[0])["validation/images"]
    assert image.dtype == "uint8" and image.shape[2] == 3

    by_name: dict[str, list[Any]] = {}
    for name, arguments, named in calls["mlflow"]:
        by_name.setdefault(name, []).append((arguments, named))
    assert by_name["start_run"] == [((), {"run_id": None, "run_name": "run"})]
    assert by_name["log_artifact"] == [((str(run / "config.yaml"),), {})]
    assert [named["step"] for _, named in by_name["log_metrics"]] == [1, 2, 2, 3, 4, 4]
    assert {a[1] for a, _ in by_name["log_image"]} == {"validation/2_0.png", "validation/4_0.png"}
    assert calls["mlflow"][-1][0] == "end_run"

    out = capsys.readouterr().out
    assert out.count("train.loggers: broken_logger:Broken failed with ConnectionError: no way") == 1
    assert f"{tmp_path / 'broken_logger.py'}, line 15" in out
    assert out.count("train.loggers: broken_logger:Late failed with SystemExit: 3") == 1
    assert out.count("goes on without it") == 2
    assert sys.modules[broken].Broken.made == [("run", 0)]


def test_a_resumed_run_goes_on_in_the_same_run_of_theirs(
    calls: dict[str, list[Any]], finished: Path, tiny: Sequence[str], tmp_path: Path
) -> None:
    """A finished run taken back to step 2 of 4, which had no loggers before: they may change."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    last = run / "checkpoints" / "last.pt"
    state = torch.load(last, weights_only=True)
    torch.save({**state, "step": 2, "validated": 2}, last)
    (run / "wandb_id").write_text("their first")
    (run / "mlflow_id").write_text("their second")
    assert run_with(NAMES, tiny, run, resume=True) == 0
    assert calls["wandb"][0][2]["id"] == "their first"
    assert ("start_run", (), {"run_id": "their second", "run_name": "run"}) in calls["mlflow"]
    steps = [n["step"] for name, _, n in calls["mlflow"] if name == "log_metrics"]
    assert steps == [3, 4, 4]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken_logger:function", "it should be a subclass of detector.Logger"),
        ("broken_logger:Wrong", "its __init__ should take both"),
        ("broken_logger:Absent", "cannot be imported"),
        ("broken_logger", "it should be module:Class"),
    ],
)
def test_what_is_no_logger_is_refused_before_the_run(
    name: str, words: str, broken: str, tiny: Sequence[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"train\.loggers: .*{words}"):
        run_with([name], tiny, tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Notes(Logger):
    """Keeps the names of what is called; fails where its class says so."""

    fails = ""
    heard: list[str] = []

    def __init__(self, run: Path = Path(), step: int = 0) -> None:
        self.heard = []
        self.all.append(self)

    all: list["Notes"] = []

    def say(self, text: str) -> None:
        self.heard.append(text)
        if self.fails == "say":
            raise OSError("full")

    def close(self) -> None:
        self.heard.append("closed")
        if self.fails == "close":
            raise OSError("full")

    def position(self) -> int:
        return 7


class FailsToSay(Notes):
    fails = "say"


class FailsToClose(Notes):
    fails = "close"


def test_one_that_fails_takes_no_other_with_it() -> None:
    own = Notes()
    Notes.all.clear()
    loggers = Loggers(own, [FailsToSay, Notes, FailsToClose], run=Path(), step=0)
    loggers.say("a")
    loggers.say("b")
    assert loggers.position() == 7
    loggers.close()
    mute, whole, unclosed = Notes.all
    assert mute.heard == ["a"] and whole.heard == unclosed.heard == ["a", "b", "closed"]
    first, failed, second, failed_late, closed = own.heard
    assert (first, second, closed) == ("a", "b", "closed")
    assert "FailsToSay failed with OSError: full" in failed
    assert "FailsToClose failed with OSError: full" in failed_late
