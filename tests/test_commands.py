"""The tools as a user runs them: processes, exit codes, files and sentences."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import HOME, Command

from detector import build
from detector.cli.train import train
from detector.engine.meter import Meter
from detector.errors import InputError
from detector.structures import Batch
from detector.training import Assembly

KEYS = "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl".split()
SOFTMAX = ["loss.classification.activation=softmax", "loss.classification.background=class"]


@pytest.fixture(scope="module")
def run(finished: Path) -> Path:
    """A tiny finished run."""
    return finished


def test_a_run_directory_holds_what_the_design_says(run: Path) -> None:
    assert {path.name for path in run.iterdir()} >= {
        "config.yaml", "environment.json", "metrics.jsonl", "tensorboard", "checkpoints",
    }  # fmt: skip
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["best.pt", "last.pt"]
    environment = json.loads((run / "environment.json").read_text())
    assert environment["torch"] == torch.__version__
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss/total" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    assert steps[0]["anchors/foreground"] > 0 and steps[0]["learning_rate"] > 0
    shares = steps[0]["loss_share/foreground"] + steps[0]["loss_share/background"]
    assert shares == pytest.approx(1, abs=1e-5)
    validations = [line for line in lines if "validation/AP" in line]
    assert [line["step"] for line in validations] == [2, 4]
    assert {"validation/AP/zero", "validation/loss"} <= validations[0].keys()


def test_the_written_config_repeats_the_run(tool: Command, run: Path, tmp_path: Path) -> None:
    again = tool("train", "--config", run / "config.yaml", "--output", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    first, second = (
        torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["model"]
        for folder in (run, tmp_path / "again")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_evaluate_a_run(tool: Command, run: Path, tmp_path: Path) -> None:
    done = tool("evaluate", "--run", run, "--checkpoint", "last", "--output", tmp_path / "e")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert set(KEYS) <= metrics.keys() and set(metrics["per_class"]) >= {"zero", "nine"}
    assert metrics["images"] == 6
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert metrics["AP"] == pytest.approx(last["validation/AP"], abs=1e-9)
    assert metrics["loss"] == pytest.approx(last["validation/loss"], rel=1e-5)
    detections = json.loads((tmp_path / "e" / "detections.json").read_text())
    assert {"image_id", "category_id", "bbox", "score"} <= detections[0].keys()


def test_the_written_detections_evaluate_alike(
    tool: Command, run: Path, digits: Path, tmp_path: Path
) -> None:
    """Through the file with either engine: the run's own figures, but for rounding in the file."""
    tool("evaluate", "--run", run, "--output", tmp_path / "run")
    expected = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for engine in ("hotcoco", "pycocotools"):
        done = tool(
            "evaluate", "--detections", tmp_path / "run" / "detections.json",
            "--ground-truth", digits / "annotations" / "val.json",
            "--output", tmp_path / engine, "--engine", engine,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads((tmp_path / engine / "metrics.json").read_text())
        assert [found[k] for k in KEYS] == pytest.approx([expected[k] for k in KEYS], abs=1e-6)


def test_evaluate_says_what_it_leaves_out(
    tool: Command, run: Path, digits: Path, tmp_path: Path
) -> None:
    """A box without area is skipped; three detections an image are kept, of four boxes or more."""
    content = json.loads((digits / "annotations" / "val.json").read_text())
    box = content["annotations"][0]
    content["annotations"] += [{**box, "id": 900 + n} for n in range(4)]
    content["annotations"].append({**box, "id": 999, "bbox": [5, 5, 0, 9]})
    (tmp_path / "val.json").write_text(json.dumps(content))
    settings = [f"data.val.annotations={tmp_path / 'val.json'}", "data.invalid=skip"]
    done = tool(
        "evaluate", "--run", run, "--output", tmp_path / "e",
        "--set", *settings, "postprocess.per_image=3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "validation: 6 images" in done.stdout
    assert "skipped: 1 box without area" in done.stdout
    assert f"(image {box['image_id']})" in done.stdout and "per_image is 3" in done.stdout


def test_an_existing_run_is_not_overwritten(tool: Command, tiny: list[str], run: Path) -> None:
    before = (run / "metrics.jsonl").read_bytes()
    done = tool("train", "--config", "configs/digits.yaml", "--output", run, "--set", *tiny)
    assert done.returncode == 2 and str(run) in done.stderr and "--resume" in done.stderr
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_diverging_run_exits_with_one_and_leaves_the_evidence(
    tool: Command, tiny: list[str], tmp_path: Path
) -> None:
    settings = [*tiny, "optimizer.name=sgd", "optimizer.lr=1e30", "optimizer.clip_norm=null"]
    output = tmp_path / "d"
    done = tool("train", "--config", "configs/digits.yaml", "--output", output, "--set", *settings)
    assert done.returncode == 1, done.stderr
    assert "diverged: the loss is nan at step 2" in done.stderr
    assert "Traceback" not in done.stderr
    report = json.loads((output / "failure" / "report.json").read_text())
    assert report["step"] == 2 and report["images"][0]["file_name"].endswith(".jpg")
    saved = torch.load(output / "failure" / "batches.rank0.pt", weights_only=True)["batches"]
    weights = torch.load(output / "failure" / "weights.pt", weights_only=True)
    assert all(p.isfinite().all() for n, p in weights["model"].items() if "running" not in n)
    config = build.load_config(HOME / "configs/digits.yaml", settings)
    step = Assembly(config, output, torch.device("cpu")).step
    step.model.load_state_dict(weights["model"])
    meter = Meter(torch.device("cpu"))
    assert not step([Batch(**each) for each in saved], meter, rate=0, index=0).isfinite()


def spoil(digits: Path, tmp_path: Path, change: Any) -> list[str]:
    """Settings that train on annotations changed by `change(content)`."""
    content = json.loads((digits / "annotations" / "train.json").read_text())
    change(content)
    (tmp_path / "spoilt.json").write_text(json.dumps(content))
    return [f"data.train.annotations={tmp_path / 'spoilt.json'}"]


def _first(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["annotations"][0]
    return found


ANNOTATIONS: dict[str, tuple[Any, str]] = {
    "no images": (lambda c: c.update(images=[]), "images"),
    "no annotations": (lambda c: c.update(annotations=[]), "no boxes"),
    "image missing": (lambda c: c["images"][0].update(file_name="gone.jpg"), "gone.jpg"),
    "unknown category": (lambda c: _first(c).update(category_id=77), "77"),
    "no area": (lambda c: _first(c).update(bbox=[5, 5, 0, 9]), "annotation"),
    "outside": (lambda c: _first(c).update(bbox=[900, 5, 8, 9]), "annotation"),
    "NaN": (lambda c: _first(c).update(bbox=[float("nan"), 5, 8, 9]), "annotation"),
    "no classes": (lambda c: c.update(categories=[]), "categories"),
}


@pytest.mark.parametrize("case", ANNOTATIONS)
def test_bad_annotations(
    tool: Command, tiny: list[str], digits: Path, tmp_path: Path, case: str
) -> None:
    change, word = ANNOTATIONS[case]
    refused(tool, tmp_path, [*tiny, *spoil(digits, tmp_path, change)], "spoilt.json", word)


SETTINGS: dict[str, tuple[list[str], list[str]]] = {
    "misspelt key": (["loss.classification.gama=2"], ["gama", "did you mean 'gamma'"]),
    "wrong type": (["train.batch_size=many"], ["train.batch_size", "many"]),
    "missing file": (["data.train.annotations=none.json"], ["none.json"]),
    "missing folder": (["data.train.images=nowhere"], ["nowhere"]),
    "no data named": (["data.train.annotations=null"], ["data.train"]),
    "softmax negatives": (["loss.classification.activation=softmax"], ["negatives", "softmax"]),
    "ignored prior": (["loss.classification.background=ignored"], ["prior"]),
    "sampled after nms": (
        [
            "loss.classification.sampling={kind: ohem, nms: 0.7}",
            "loss.classification.normalizer=sampled",
        ],
        ["loss.classification.sampling.nms", "normalizer"],
    ),
    "batch too large": (["train.batch_size=500"], ["500", "16"]),
    "levels": (["anchors.sizes=[16, 32]"], ["anchors.sizes", "5"]),
    "frozen random weights": (["model.backbone.frozen_stages=2"], ["frozen_stages", "weights"]),
    "only half of a data set named": (["data.val.annotations=null"], ["data.val"]),
    "milestone after the end": (
        ["schedule.kind=step", "schedule.milestones=[9]"],
        ["schedule.milestones", "step 9", "step 4"],
    ),
    "no GPU": (["train.device=cuda"], ["train.device", "cpu"]),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_bad_settings(tool: Command, tiny: list[str], tmp_path: Path, case: str) -> None:
    settings, words = SETTINGS[case]
    refused(tool, tmp_path, [*tiny, *settings], *words)


def test_several_labels_under_softmax(
    tool: Command, tiny: list[str], digits: Path, tmp_path: Path
) -> None:
    settings = spoil(digits, tmp_path, lambda c: _first(c).update(category_ids=[1, 2]))
    refused(tool, tmp_path, [*tiny, *settings, *SOFTMAX], "annotation 1", "several labels")


def test_training_starts_from_a_checkpoint_of_other_classes(
    tiny: list[str], digits: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ours are its classes 2 to 10 and one more: its channels 1 to 9, and a fresh one of bias -4.6.

    The rate is too low to move a weight.
    """

    def rename(content: dict[str, Any]) -> None:
        content["categories"][0]["name"] = "ten"

    weights = run / "checkpoints" / "best.pt"
    settings = [*tiny, *spoil(digits, tmp_path, rename), f"model.weights={weights}"]
    settings += ["data.val.images=null", "data.val.annotations=null", "schedule.steps=1"]
    config = build.load_config(HOME / "configs/digits.yaml", [*settings, "optimizer.lr=1e-12"])
    assert train(config, tmp_path / "run", resume=False, command=[]) == 0
    assert "new: class channels ten\n" in capsys.readouterr().out
    theirs, ours = (
        torch.load(path, weights_only=True)["model"]["class_head.last.bias"].view(-1, 10)
        for path in (weights, tmp_path / "run" / "checkpoints" / "last.pt")
    )
    assert torch.allclose(ours[:, 1:], theirs[:, 1:], atol=1e-6)
    assert torch.allclose(ours[:, 0], torch.tensor(-4.595120), atol=1e-5)  # log(.01 / .99)
    assert not torch.allclose(theirs[:, 0], torch.tensor(-4.595120), atol=1e-5)


def refused(tool: Command, tmp_path: Path, settings: list[str], *words: str) -> None:
    """Exit code 2, one sentence with these words, nothing half-written."""
    output = tmp_path / "run"
    done = tool("train", "--config", "configs/digits.yaml", "--output", output, "--set", *settings)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert not output.exists()


TOOLS: dict[str, tuple[list[str], str]] = {
    "no such run": (["evaluate", "--run", "nowhere"], "nowhere"),
    "no such config": (["train", "--config", "none.yaml"], "none.yaml"),
    "no ground truth": (["evaluate", "--detections", "d.json"], "--ground-truth"),
    "nothing to predict": (["predict", "--run", "nowhere", "x.jpg", "--output", "o"], "nowhere"),
}


@pytest.mark.parametrize("case", TOOLS)
def test_bad_arguments(tool: Command, case: str) -> None:
    (name, *arguments), word = TOOLS[case]
    done = tool(name, *arguments)
    assert done.returncode == 2 and word in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR is not there"),
        (
            {"RANK": "x", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"},
            "RANK is 'x'",
        ),
    ],
)
def test_half_of_torchruns_environment(
    tool: Command,
    tiny: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    words: str,
) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    refused(tool, tmp_path, tiny, words, "torchrun")


def test_a_run_whose_name_is_not_utf8(tool: Command, tiny: list[str], tmp_path: Path) -> None:
    refused(tool, tmp_path / os.fsdecode(b"caf\xe9"), tiny, "UTF-8", "caf\\udce9")


def test_a_class_that_the_best_figure_names_is_known_before_the_run(
    tiny: list[str], tmp_path: Path
) -> None:
    """At the first validation it would be too late: a resumed run keeps the figure."""
    settings = [*tiny, "evaluation.best=AP/zero"]
    config = build.load_config(HOME / "configs/digits.yaml", settings)
    Assembly(config, tmp_path / "run", torch.device("cpu"))
    settings[-1] = "evaluation.best=AP/ten"
    config = build.load_config(HOME / "configs/digits.yaml", settings)
    with pytest.raises(InputError, match=r"^evaluation\.best: .*'ten'; .* zero, "):
        Assembly(config, tmp_path / "run", torch.device("cpu"))
