"""tools/diagnose.py as a user runs it: one small run, its files, and sentences."""

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import HOME, Command, Refused, load_script

from detector.cli import diagnose
from detector.cli.diagnostics_table import diagnostics_table
from detector.report.diagnostics import DIAGNOSTICS_FILE
from detector.trained import Trained

Refusal = Callable[..., str]
PARTS = {"foreground", "background"}


@pytest.fixture(scope="module")
def folder(tool: Command, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command leaves of the tiny run."""
    output = tmp_path_factory.mktemp("diagnosed") / "new"
    done = tool("diagnose", "--run", finished, "--output", output)
    assert done.returncode == 0, done.stderr
    for start in ("AP ", "recall 0.8: ", "optimal LRP error ", "share of the loss", "D-ECE",
                  "localisation", "class", "zero"):  # fmt: skip
        assert f"\n{start}" in done.stdout
    return output


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    """The content of diagnostics.json."""
    content: dict[str, Any] = json.loads((folder / "diagnostics.json").read_text())
    return content


@pytest.fixture
def refusal(refused: Refused) -> Refusal:
    """The one sentence that the command ends with."""
    return lambda *arguments: refused("diagnose", *arguments).err


def numbers(content: Any) -> Iterator[float]:
    """All of a JSON value."""
    if isinstance(content, dict | list):
        for each in content.values() if isinstance(content, dict) else content:
            yield from numbers(each)
    elif isinstance(content, int | float):
        yield content


def test_the_keys_are_the_documented_ones(folder: Path, found: dict[str, Any]) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["detections.json", "diagnostics.json"]
    assert set(found) == {
        "checkpoint", "images", "AP", "AP50", "AP75", "AR100", "lrp", "froc", "anchors",
        "loss_distribution", "score_histogram", "calibration", "errors", "classes",
    }  # fmt: skip
    curves = found["loss_distribution"]
    assert list(curves) == ["own", "gamma=0", "gamma=0.5", "gamma=1", "gamma=2"]
    for parts in curves.values():
        assert set(parts) == PARTS
        for curve in parts.values():
            assert set(curve) == {"anchors", "loss", "total", "hardest"}
            assert list(curve["hardest"]) == ["0.001", "0.01", "0.1"]
    assert set(found["errors"]) == {
        "AP50", "classification", "localisation", "both", "duplicate", "background", "missed",
    }  # fmt: skip
    assert all(math.isfinite(number) for number in numbers(found))


def test_the_detections_are_those_of_the_evaluation(
    tool: Command, finished: Path, folder: Path, found: dict[str, Any], tmp_path: Path
) -> None:
    done = tool("evaluate", "--run", finished, "--output", tmp_path / "e")
    assert done.returncode == 0, done.stderr
    name = "detections.json"
    assert (folder / name).read_bytes() == (tmp_path / "e" / name).read_bytes()
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    keys = ("AP", "AP50", "AP75", "AR100", "images")
    assert [found[key] for key in keys] == [metrics[key] for key in keys]
    assert found["checkpoint"] == metrics["weights"]
    assert {entry["name"]: entry["AP"] for entry in found["classes"]} == metrics["per_class"]
    assert found["errors"]["AP50"] == pytest.approx(found["AP50"], abs=1e-9)


def test_curve_and_lrp_error_are_of_uncut_detections(
    finished: Path, found: dict[str, Any], tmp_path: Path
) -> None:
    """Those of a detector that keeps nothing are those of one that keeps a hundred an image."""
    nothing = Trained.from_run(finished, "best", ["postprocess.score=0.9"])
    of_nothing = diagnose.diagnose(nothing, tmp_path / "nothing")
    whole = DIAGNOSTICS_FILE.validate_python(found)
    assert of_nothing.AP == 0 < whole.AP
    assert of_nothing.froc is not None and of_nothing.froc.per_image == 1000
    assert of_nothing.froc == whole.froc and of_nothing.lrp == whole.lrp
    # a network that was hardly trained fires everywhere, beyond COCO's 100 detections an image
    false_positives = of_nothing.froc.at_recall["0.5"]
    assert false_positives is not None and false_positives > 100


def test_a_result_file_has_the_figures_of_its_run(
    tool: Command, digits: Path, folder: Path, found: dict[str, Any], tmp_path: Path
) -> None:
    """All but what needs the model; its curve ends where its images have 100 detections."""
    done = tool(
        "diagnose", "--detections", folder / "detections.json",
        "--ground-truth", digits / "annotations" / "val.json", "--output", tmp_path / "new",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "share of the loss" not in done.stdout and "training set" not in done.stdout
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["diagnostics.json"]
    content = json.loads((tmp_path / "new" / "diagnostics.json").read_text())
    assert not content["anchors"] and not content["loss_distribution"]
    assert content["score_histogram"] is None
    for key in ("images", "AP", "AP50", "AP75", "AR100", "errors"):
        assert content[key] == pytest.approx(found[key])
    assert content["calibration"]["before"]["d_ece"] == pytest.approx(
        found["calibration"]["before"]["d_ece"]
    )
    assert [entry["AP"] for entry in content["classes"]] == [e["AP"] for e in found["classes"]]
    assert {entry["training_boxes"] for entry in content["classes"]} == {None}
    pairs = zip(content["froc"]["recall"], found["froc"]["recall"], strict=True)
    assert all(recall in (None, of_run) for recall, of_run in pairs)


def test_every_anchor_is_counted_once(found: dict[str, Any]) -> None:
    """64 x 64 pixels have 8^2 + 4^2 + 2^2 + 1 + 1 cells with 9 anchors each; some are ignored."""
    anchors, histogram = found["anchors"], found["score_histogram"]
    assert 0 < anchors["foreground"] < anchors["background"]
    assert sum(anchors.values()) <= 6 * 9 * (64 + 16 + 4 + 1 + 1)
    assert len(histogram["edges"]) == 51
    assert {part: sum(histogram[part]) for part in PARTS} == anchors


def test_the_curves(found: dict[str, Any]) -> None:
    """The run's own loss is gamma 2 with alpha .25; the higher gamma is, the more the hard hold."""
    curves = found["loss_distribution"]
    for part, alpha in (("foreground", 0.25), ("background", 0.75)):
        for parts in curves.values():
            assert (np.diff(parts[part]["loss"]) >= 0).all()
            assert parts[part]["loss"][0] == 0 and parts[part]["loss"][-1] == 1
        own, plain = curves["own"][part], curves["gamma=2"][part]
        assert own["total"] == pytest.approx(alpha * plain["total"], rel=1e-5)
        assert own["loss"] == pytest.approx(plain["loss"], abs=1e-3)
        held = [curves[f"gamma={g}"][part]["hardest"]["0.1"] for g in ("0", "0.5", "1", "2")]
        assert held == sorted(held) and held[0] < held[-1]


def test_the_calibration(folder: Path, found: dict[str, Any]) -> None:
    figures = found["calibration"]
    assert figures["iou"] == 0.5 and len(figures["bins_edges"]) == 21
    before, temperature, platt = (figures[key] for key in ("before", "temperature", "platt"))
    detections = json.loads((folder / "detections.json").read_text())
    assert 0 < before["detections"] < len(detections)
    for each in (before, temperature, platt):
        assert each["detections"] == before["detections"] == sum(b["count"] for b in each["bins"])
        assert len(each["bins"]) == 20
        gaps = [b["count"] * abs(b["score"] - b["precision"]) for b in each["bins"] if b["count"]]
        assert each["d_ece"] == pytest.approx(sum(gaps) / each["detections"])
    assert temperature["temperature"] > 0 and platt["slope"] > 0 and "intercept" in platt


def test_the_training_boxes(digits: Path, found: dict[str, Any]) -> None:
    content = json.loads((digits / "annotations" / "train.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    boxes = Counter(names[annotation["category_id"]] for annotation in content["annotations"])
    counted = {entry["name"]: entry["training_boxes"] for entry in found["classes"]}
    assert counted == {name: boxes[name] for name in names.values()}


def test_without_the_training_set(finished: Path) -> None:
    trained = Trained.from_run(finished, "best", ["data.train.annotations=gone.json"])
    assert diagnose.training_boxes(trained) is None


def test_what_is_undefined_is_shown_as_a_dash(found: dict[str, Any]) -> None:
    gone: dict[str, Any] = json.loads(json.dumps(found))
    gone["calibration"] = None
    gone["loss_distribution"]["own"]["background"] = None
    gone["errors"]["missed"] = None
    gone["classes"] = [{"name": "cat", "training_boxes": None, "AP": -1.0}]
    lines = diagnostics_table(DIAGNOSTICS_FILE.validate_python(gone)).splitlines()
    assert "D-ECE: too few detections" in lines
    assert ["own", "background", "-", "-", "-"] in [line.split() for line in lines]
    assert ["missed", "-"] in [line.split() for line in lines]
    assert ["cat", "-", "-", "-"] in [line.split() for line in lines]


def test_half_a_diagnosis_leaves_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(diagnose, "training_boxes", fail)
    with pytest.raises(KeyboardInterrupt):
        diagnose.diagnose(Trained.from_run(finished, "last", []), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_diagnosed(refusal: Refusal, finished: Path, tmp_path: Path) -> None:
    assert "nowhere: there is no such folder" in refusal("--run", tmp_path / "nowhere")
    assert "it is not a run of detector train" in refusal("--run", tmp_path)
    sentence = refusal("--run", finished, "--checkpoint", "third.pt")
    assert "third.pt: there is no such checkpoint" in sentence and "best, last" in sentence
    (tmp_path / "kept.txt").touch()
    assert "holds something already" in refusal("--run", finished, "--output", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
    assert "add --output DIR" in refusal("--run", finished, "--set", "postprocess.nms=0.6")


def test_what_cannot_be_diagnosed_of_a_file(
    refusal: Refusal, digits: Path, folder: Path, finished: Path, tmp_path: Path
) -> None:
    detections, truth = folder / "detections.json", digits / "annotations" / "val.json"
    assert "--ground-truth goes with --detections" in refusal(
        "--run", finished, "--ground-truth", truth
    )
    of_file = ("--detections", detections, "--ground-truth", truth)
    assert "--output" in refusal(*of_file)
    assert "needs --ground-truth" in refusal(*of_file[:2], "--output", tmp_path / "new")
    assert "go with --run" in refusal(*of_file, "--checkpoint", "best")
    empty = tmp_path / "empty.json"
    empty.write_text('{"images": [], "annotations": [], "categories": []}')
    sentence = refusal(*of_file[:2], "--ground-truth", empty, "--output", tmp_path / "new")
    assert str(empty) in sentence
    assert not (tmp_path / "new").exists()


def test_the_default_output_is_in_the_run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    script = load_script(HOME / "tools" / "diagnose.py")
    monkeypatch.setattr(
        "sys.argv", ["diagnose.py", "--run", str(tmp_path / "run"), "--checkpoint", "last"]
    )
    assert script.main() == 0
    assert (tmp_path / "run" / "diagnosis" / "last" / "diagnostics.json").is_file()
