"""Metrics of a user's own: by hand, refused, and from outside the package in every command."""

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import HOME, call_script
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detector import build
from detector.errors import InputError
from detector.evaluation.coco import evaluate, metrics, metrics_table
from detector.evaluation.own_metrics import own_figures, own_metrics
from detector.structures import Validation

MODULE = """import numpy as np

def mean_boxes(detections, ground_truth):
    assert detections.dtype == np.float64 and detections.shape[1] == 7
    return len(detections) / len(ground_truth["images"])

def truths(detections, ground_truth):
    crowds = sum(a["iscrowd"] for a in ground_truth["annotations"])
    return {"boxes": -float(len(ground_truth["annotations"])), "crowds": crowds}

def undefined(detections, ground_truth):
    return np.float32("nan")

def deep(detections, ground_truth):
    return np.reshape(detections, (7, 1000003))

def text(detections, ground_truth):
    return "many"

def nested(detections, ground_truth):
    return {"a": {"b": 1}}

def one(detections):
    return 1

PI = 3
"""
TRUTH = {
    "images": [{"id": 4}, {"id": 9}, {"id": 12}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [
        {"id": n, "image_id": i, "category_id": 1, "bbox": [0, 0, 9, 5], "area": 45, "iscrowd": c}
        for n, (i, c) in enumerate([(4, 0), (4, 1), (9, 0), (12, 0)], start=1)
    ],
    "areas_replaced": 0,
}  # fmt: skip
ROWS = np.array([[i, 0, 0, 9, 5, 0.5, 1] for i in (4, 4, 9, 12, 12)], float)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a user's module in the current folder."""
    name = f"metrics_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_figures_of_the_evaluated_images(module: str) -> None:
    """Three detections and three annotations of two images; one of them is a crowd."""
    functions = own_metrics([f"{module}:{name}" for name in ("mean_boxes", "truths", "undefined")])
    result = evaluate(ROWS, TRUTH, image_ids=[9, 4], own=functions)
    assert result.own.pop("undefined") is not None  # NaN
    assert result.own == {"mean_boxes": 1.5, "truths/boxes": -3, "truths/crowds": 1}
    assert {"mean_boxes": 1.5, "truths/boxes": -3.0}.items() <= metrics(result).items()
    assert "\ntruths/boxes  -3\n" in metrics_table(result)


def test_what_is_not_finite_is_null_and_a_dash(module: str) -> None:
    result = evaluate(ROWS, TRUTH, own=own_metrics([f"{module}:undefined"]))
    assert math.isnan(result.own["undefined"])
    assert metrics(result)["undefined"] is None
    assert "\nundefined  -\n" in metrics_table(result)


def test_a_function_may_change_what_it_gets() -> None:
    def greedy(detections: np.ndarray, ground_truth: dict[str, Any]) -> float:
        detections[:] = 0
        for annotation in ground_truth["annotations"]:
            annotation.clear()
        return 0.0

    def next_one(detections: np.ndarray, ground_truth: dict[str, Any]) -> float:
        return detections.sum() + len(ground_truth["annotations"][0])

    before = json.dumps(TRUTH), ROWS.copy()
    found = own_figures({"greedy": greedy, "next": next_one}, ROWS, TRUTH, [4, 9])
    assert found["next"] == ROWS[:3].sum() + 6
    assert json.dumps(TRUTH) == before[0] and np.array_equal(ROWS, before[1])


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("deep", "deep failed with ValueError: cannot reshape"),
        ("text", "text returned str 'many', it should be a number, or a dict of numbers"),
        ("nested", "nested returned dict"),
        ("one", "one failed with TypeError"),
    ],
)
def test_a_function_that_fails_is_one_sentence_with_its_line(
    module: str, function: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refusal:
        own_figures(own_metrics([f"{module}:{function}"]), ROWS, TRUTH, [4])
    said = str(refusal.value)
    heads = [text.partition("(")[0] for text in MODULE.splitlines()]
    line = heads.index(f"def {function}") + 1
    line += function == "deep"  # the line that called numpy, not numpy's own
    assert words in said and f"({tmp_path / module}.py, line {line})" in said and "\n" not in said


WRONG = {
    "a number": (["{module}:PI"], "it should be a function of detections and ground truth"),
    "no such function": (["{module}:nothing"], "cannot be imported: AttributeError"),
}  # fmt: skip
WRONG_NAMES = {
    "no function": ("metrics=[mine]", r"evaluation.metrics: found 'mine', it should be module:f"),
    "a name of ours": ("metrics=['a:AP']", "evaluation.metrics: .*has AP already"),
    "a key of ours": ("metrics=['a:images']", "has images already; give the function another"),
    "a loss": ("metrics=['a:loss']", "has loss already"),
    "one name twice": ("metrics=['a:f', 'b:f']", "found f of several modules"),
    "an unknown best": (
        "best=AP5",
        r"evaluation.best: found 'AP5', .*ARl, or AP/CLASS; did you mean 'AP75'\?",
    ),
    "a lower best": ("best=loss", "better the lower it is"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_function_is_refused(module: str, case: str) -> None:
    names, words = WRONG[case]
    with pytest.raises(ValueError, match=words):
        own_metrics([name.format(module=module) for name in names])


@pytest.mark.parametrize("case", WRONG_NAMES)
def test_a_config_names_what_can_be_a_figure(case: str) -> None:
    key, words = WRONG_NAMES[case]
    with pytest.raises(InputError, match=words):
        build.load_config(HOME / "configs/digits.yaml", [f"evaluation.{key}"])


def test_the_best_figure_may_be_negative_where_it_is_ones_own() -> None:
    """-1 is undefined of an AP alone; NaN of all; a key that a function left out is told."""
    validation = Validation({"AP": -1.0, "AP/cat": -1.0, "f": -1.0, "f/b": math.nan}, [])
    assert [validation.defined(k) for k in ("AP", "AP/cat", "f", "f/b")] == [None, None, -1, None]
    with pytest.raises(InputError, match="evaluation.best is f/c, .*f/b"):
        validation.defined("f/c")


Call = Callable[..., str]


@pytest.fixture
def here(module: str, tmp_path: Path) -> Call:
    """Calls tools/NAME.py in the folder of the user's module; what it said."""

    def call(name: str, *words: object, code: int = 0) -> str:
        done = call_script(HOME / "tools" / f"{name}.py", *words, cwd=tmp_path)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return call


def lines(run: Path) -> list[Mapping[str, Any]]:
    text = (run / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, text) if "validation/AP" in line]


def test_a_run_and_its_evaluation_from_outside(
    here: Call, module: str, tiny: list[str], tmp_path: Path, digits: Path
) -> None:
    """Six validation images; best.pt is of the lowest, for its highest, number of boxes."""
    file, run = tmp_path / "mine.yaml", tmp_path / "run"
    names = f"['{module}:mean_boxes', '{module}:truths', '{module}:undefined']"
    own = f"{{metrics: {names}, best: truths/boxes}}"
    file.write_text(f"base: [{HOME}/configs/digits.yaml]\nevaluation: {own}\n")
    words = ["--config", file, "--output", run, "--set", *tiny]
    said = here("train", *words)
    assert "mean_boxes 100" in said and "undefined -" in said
    truth = json.loads((digits / "annotations/val.json").read_text())
    boxes = -len(truth["annotations"])
    first, last = lines(run)
    assert last["validation/mean_boxes"] == 100 and last["validation/undefined"] is None
    assert last["validation/truths/boxes"] == first["validation/truths/boxes"] == boxes
    board = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [event.value for event in board.Scalars("validation/truths/boxes")] == [boxes] * 2
    assert f"truths/boxes  {boxes}\n" in here("evaluate", "--run", run)
    written = json.loads((run / "evaluation/best/metrics.json").read_text())
    assert (written["mean_boxes"], written["truths/boxes"]) == (100, boxes)
    assert written["undefined"] is None
    # other figures may be asked for on the way; not another best one
    more = [f"evaluation.metrics=['{module}:truths', '{module}:one']"]
    assert "finished already" in here("train", *words, *more, "--resume")
    other = here("train", *words, "evaluation.best=AP", "--resume", code=2)
    assert 'the run to resume has evaluation.best "truths/boxes"' in other


def test_a_failing_function_ends_a_training_that_goes_on_when_it_is_mended(
    here: Call, module: str, tiny: list[str], tmp_path: Path
) -> None:
    run, keys = tmp_path / "run", ["schedule.steps=2"]
    words = ["--config", HOME / "configs/digits.yaml", "--output", run, "--set", *tiny, *keys]
    said = here("train", *words, f"evaluation.metrics=['{module}:one']", code=2)
    assert f"error: evaluation.metrics: {module}:one failed with TypeError" in said
    assert "resumed at step 2" in here(
        "train", *words, f"evaluation.metrics=['{module}:mean_boxes']", "--resume"
    )
    assert lines(run)[-1]["validation/mean_boxes"] == 100


def test_a_result_file(here: Call, module: str, tmp_path: Path) -> None:
    truth = {**TRUTH, "images": [{"id": i, "file_name": f"{i}", "width": 20, "height": 10}
                                 for i in (4, 9, 12)]}  # fmt: skip
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    rows = [{"image_id": int(r[0]), "category_id": 1, "bbox": [0, 0, 9, 5], "score": 0.5}
            for r in ROWS]  # fmt: skip
    (tmp_path / "found.json").write_text(json.dumps(rows))
    words = ["--detections", "found.json", "--ground-truth", "truth.json", "--output", "out"]
    said = here("evaluate", *words, "--metric", f"{module}:mean_boxes", f"{module}:truths")
    assert "\nmean_boxes  1.66667\ntruths/boxes  -4\n" in said
    assert json.loads((tmp_path / "out/metrics.json").read_text())["truths/crowds"] == 1
    said = here("evaluate", *words[:-1], "o", "--metric", "mean_boxes", code=2)
    assert said.startswith("error: --metric: found 'mean_boxes', it should be module:function")
    said = here("evaluate", "--run", "x", "--metric", f"{module}:truths", code=2)
    assert "evaluation.metrics=[NAME]" in said


ABLATION = """config: {home}/configs/digits.yaml
set: {settings}
seeds: [0]
metric: mean_boxes
baseline: many
variants:
  many: {{set: [postprocess.per_image=20]}}
  few: {{set: [postprocess.per_image=5]}}
"""


def test_an_ablation_compares_it(
    here: Call, module: str, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 boxes an image against 5."""
    own = [f"evaluation.metrics=['{module}:mean_boxes']"]
    settings, file = [*tiny, "schedule.steps=2"], tmp_path / "mine.yaml"
    file.write_text(ABLATION.format(home=HOME, settings=json.dumps(settings)))
    words = ["--config", file, "--output", "out"]
    said = here("ablate", *words, code=2)
    assert f"{file}:4: metric: found 'mean_boxes', it should be a figure that valid" in said
    said = here("ablate", *words, "--set", f"evaluation.metrics=['{module}x:mean_boxes']", code=2)
    assert "evaluation.metrics: found" in said and not (tmp_path / "out").exists()
    here("ablate", *words, "--set", *own)
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert {v["name"]: v["values"] for v in found["variants"]} == {
        "many": {"0": 20}, "few": {"0": 5}
    }  # fmt: skip
    assert found["comparisons"][0]["mean"] == -15
    assert "mean_boxes" in (tmp_path / "out/report.html").read_text()
