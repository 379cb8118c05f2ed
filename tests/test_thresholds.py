"""Scores of classes, given by a person or taken from the best F1 of a run's validation set."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Command

import detector
from detector.evaluation.predict import Evaluator
from detector.thresholds import SCORE, best_scores, class_scores
from detector.trained import Trained


@pytest.fixture(scope="module")
def run(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny run, which may be evaluated."""
    copy: Path = tmp_path_factory.mktemp("runs") / "copy"
    shutil.copytree(finished, copy)
    return copy


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Grows with each evaluation."""
    times: list[int] = []
    original = Evaluator.run

    def counted(self: Evaluator, model: object) -> object:
        times.append(len(times))
        return original(self, model)  # type: ignore[arg-type]

    monkeypatch.setattr(Evaluator, "run", counted)
    yield times


def test_given_scores() -> None:
    assert class_scores({}, ["cat", "dog"]) == [SCORE, SCORE]
    assert class_scores({"dog": 0.5}, ["cat", "dog"]) == [SCORE, 0.5]
    assert class_scores({"dog": 0.0}, ["cat", "dog"], others=1) == [1, 0.0]
    with pytest.raises(ValueError, match="no class 'dgo'; did you mean 'dog'"):
        class_scores({"dgo": 0.5}, ["cat", "dog"])


def test_an_evaluation_is_read_where_it_is_of_this(
    finished: Path, tmp_path: Path, tool: Command, evaluations: list[int]
) -> None:
    """Of this checkpoint and these settings, younger than checkpoint and boxes; else a new one."""
    run = Path(shutil.copytree(finished, tmp_path / "copy"))
    trained = Trained.from_run(run, "best", [])
    first = best_scores(trained)
    assert len(evaluations) == 1 and not (run / "evaluation").exists()
    assert any(first) and all(one is None or one.score >= 0.001 for one in first)
    assert tool("evaluate", "--run", run).returncode == 0
    again = best_scores(trained)
    assert len(evaluations) == 2
    assert [one and one.score for one in again] == pytest.approx(
        [one and one.score for one in first]
    )
    best_scores(Trained.from_run(run, "last", []))
    assert len(evaluations) == 3
    other = best_scores(Trained.from_run(run, "best", ["postprocess.per_image=2"]))
    assert len(evaluations) == 4 and other != first
    checkpoint = run / "checkpoints" / "best.pt"
    later = (run / "evaluation" / "best" / "detections.json").stat().st_mtime + 9
    os.utime(checkpoint, (later, later))
    best_scores(trained)
    assert len(evaluations) == 5
    assert trained.config.data.val.annotations is not None
    truth = shutil.copy2(trained.config.data.val.annotations, tmp_path / "truth.json")
    words = ["--run", run, "--output", run / "evaluation" / "last", "--checkpoint", "last"]
    assert tool("evaluate", *words, "--set", f"data.val.annotations={truth}").returncode == 0
    shutil.copy(run / "evaluation" / "last" / "config.yaml", run / "config.yaml")
    trained, before = Trained.from_run(run, "last", []), len(evaluations)
    best_scores(trained)
    assert len(evaluations) == before
    later = (run / "evaluation" / "last" / "detections.json").stat().st_mtime + 9
    os.utime(truth, (later, later))  # boxes were mended
    best_scores(trained)
    assert len(evaluations) == before + 1


def test_a_checkpoint_outside_of_a_run_is_evaluated(
    run: Path, tmp_path: Path, evaluations: list[int]
) -> None:
    """An evaluation of another `best` may lie beside it."""
    shutil.copy(run / "checkpoints" / "best.pt", tmp_path / "best.pt")
    predictions = detector.load(tmp_path / "best.pt", device="cpu").predict([], score="auto")
    assert (predictions, len(evaluations)) == ([], 1)


def test_the_command_uses_prints_and_keeps_them(
    run: Path, tool: Command, digits: Path, tmp_path: Path
) -> None:
    """And the library finds the same."""
    words = ["--run", run, digits / "val", "--output", tmp_path / "p", "--score", "auto"]
    done = tool("predict", *words)
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "p" / "thresholds.json").read_text())
    lowest = {entry["category"]: entry["score"] or SCORE for entry in table}
    assert list(lowest)[:2] == ["zero", "one"] and len(lowest) == 10
    found = json.loads((tmp_path / "p" / "detections.json").read_text())
    assert found and all(entry["score"] > lowest[entry["category"]] for entry in found)
    for entry in table:
        figures = f"F1 {entry['f1']:.3f}" if entry["f1"] else "no right detection"
        assert f"  {entry['category']}  {lowest[entry['category']]:.3f}  {figures}" in done.stdout
    trained = detector.load(run, device="cpu")
    ours = trained.predict(digits / "val", score="auto")
    assert sum(map(len, ours)) == len(found)
    known = {name: score for name, score in lowest.items() if score != SCORE}
    by_name = trained.predict(digits / "val", score=known)
    assert [len(one) for one in by_name] == [len(one) for one in ours]
