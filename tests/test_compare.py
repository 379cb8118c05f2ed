"""tools/compare.py as a user runs it: runs and result files, figures and sentences."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Command, Refused

from detector.cli.compare import SPEAKS_OF

Refusal = Callable[..., str]

BOX, AWAY = [10, 10, 50, 40], [200, 200, 50, 40]


def ground_truth(file: Path, *, images: int = 2, crowd: int = 0, name: str = "cat") -> Path:
    """One box in each of so many images."""
    boxes = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": BOX, "area": 2000, "iscrowd": crowd}
        for i in range(1, images + 1)
    ]
    content = {
        "images": [{"id": box["image_id"]} for box in boxes],
        "categories": [{"id": 1, "name": name}],
        "annotations": boxes,
    }
    file.write_text(json.dumps(content))
    return file


def result(file: Path, *boxes: tuple[int, list[int]]) -> Path:
    """A COCO result file of boxes (image id, bbox)."""
    entries = [
        {"image_id": image, "category_id": 1, "bbox": box, "score": 0.9} for image, box in boxes
    ]
    file.write_text(json.dumps(entries))
    return file


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two result files, of nothing and of every box, and their ground truth."""
    return [
        result(tmp_path / "none.json", (1, AWAY)),
        result(tmp_path / "all.json", (1, BOX), (2, BOX)),
        ground_truth(tmp_path / "truth.json"),
    ]


@pytest.fixture(scope="module")
def runs(tool: Command, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One network evaluated twice: as it is, and with nothing but its surest detections."""
    folder = tmp_path_factory.mktemp("compared")
    places = []
    for name, settings in (("whole", []), ("cut", ["--set", "postprocess.per_image=1"])):
        shutil.copytree(finished, folder / name, ignore=shutil.ignore_patterns("evaluation"))
        output = folder / name / "evaluation" / "best"
        done = tool("evaluate", "--run", finished, "--output", output, *settings)
        assert done.returncode == 0, done.stderr
        places.append(folder / name)
    return places


@pytest.fixture
def refusal(refused: Refused) -> Refusal:
    """The one sentence that tools/compare.py ends with."""

    def call(*arguments: object) -> str:
        said = refused("compare", *arguments)
        assert not said.out
        return said.err

    return call


def test_two_result_files(tool: Command, files: list[Path], tmp_path: Path) -> None:
    """Nothing against everything: 0 and 1 in every resample, so p is 2 / (199 + 1)."""
    none, every, truth = files
    output = tmp_path / "new" / "output"
    done = tool(
        "compare", none, every, "--ground-truth", truth, "--output", output, "--resamples", 199
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((output / "comparison.json").read_text()) == {
        "first": {"name": str(none), "detections": str(none), "AP": 0},
        "second": {"name": str(every), "detections": str(every), "AP": 1},
        "ground_truth": str(truth),
        "difference": 1,
        "interval": [1, 1],
        "confidence": 0.95,
        "p": 0.01,
        "below_zero": 0,
        "images": 2,
        "resamples": 199,
        "lacking": 0,
        "seed": 0,
        "speaks_of": SPEAKS_OF,
    }
    assert done.stdout.splitlines() == [
        "AP",
        f"first            0.0000  {none}",
        f"second           1.0000  {every}",
        "difference      +1.0000  second less first",
        "95 % interval   +1.0000 to +1.0000",
        "p                0.0100  two-sided, of no difference",
        "",
        "2 images, 199 paired resamples of them",
        "Interval and p speak of these two trained models on other images, not of the two losses: "
        "another seed of either may differ by more.",
    ]


def test_images_that_neither_has_looked_at(
    tool: Command, files: list[Path], tmp_path: Path
) -> None:
    """As where the boxes are those of other images, whose ids overlap."""
    none, every, _ = files
    truth = ground_truth(tmp_path / "more.json", images=5)
    done = tool("compare", none, every, "--ground-truth", truth)
    said = "3 images without a detection in either; is it their ground truth?"
    assert said in done.stdout.splitlines()


def test_two_runs(tool: Command, runs: list[Path], tmp_path: Path) -> None:
    """The AP of each is that of its metrics.json."""
    done = tool("compare", *runs, "--output", tmp_path / "c")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "c" / "comparison.json").read_text())
    metrics = [json.loads((r / "evaluation/best/metrics.json").read_text()) for r in runs]
    aps = [found[key]["AP"] for key in ("first", "second")]
    assert aps == pytest.approx([m["AP"] for m in metrics], abs=1e-9)
    assert aps[0] != aps[1]
    assert found["difference"] == pytest.approx(aps[1] - aps[0], abs=1e-12)
    assert found["interval"][0] <= found["difference"] <= found["interval"][1]
    assert (found["images"], found["resamples"]) == (6, 1000)
    assert found["ground_truth"] == metrics[0]["ground_truth"]


def test_a_run_against_itself(tool: Command, runs: list[Path]) -> None:
    done = tool("compare", runs[0], runs[0])
    assert done.returncode == 0, done.stderr
    lines = dict(line.split("  ", 1) for line in done.stdout.splitlines() if "  " in line)
    assert lines["difference"].split()[0] == "+0.0000"
    assert lines["95 % interval"].split() == ["+0.0000", "to", "+0.0000"]
    assert lines["p"].split()[0] == "1.0000"


def test_a_run_that_was_not_evaluated(refusal: Refusal, runs: list[Path], tmp_path: Path) -> None:
    sentence = refusal(*runs, "--checkpoint", "last")
    assert f"detector evaluate --run {runs[0]} --checkpoint last" in sentence
    assert str(tmp_path / "nowhere") in refusal(runs[0], tmp_path / "nowhere")
    assert "config.yaml" in refusal(tmp_path, runs[0])


def test_the_folder_of_an_evaluation(tool: Command, refusal: Refusal, runs: list[Path]) -> None:
    """What `tools/evaluate.py --output` names stands for itself; here those within two runs."""
    folders = [run / "evaluation" / "best" for run in runs]
    whole = tool("compare", *runs).stdout.splitlines()[3:]
    assert tool("compare", *folders).stdout.splitlines()[3:] == whole
    assert "name RUN/evaluation/last" in refusal(*folders, "--checkpoint", "last")


def test_runs_of_other_data(
    refusal: Refusal, runs: list[Path], digits: Path, tmp_path: Path
) -> None:
    """The second was evaluated on the training images; then on other boxes, then other classes."""
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    config = other / "evaluation" / "best" / "config.yaml"
    text = config.read_text()
    result(other / "evaluation" / "best" / "detections.json")

    def val(annotations: Path, images: Path) -> str:
        changed = text.replace(str(digits / "annotations/val.json"), str(annotations))
        config.write_text(changed.replace(str(digits / "val"), str(images)))
        return refusal(runs[0], other)

    sentence = val(digits / "annotations" / "train.json", digits / "train")
    assert "have other images (" in sentence and "train.json" in sentence
    content = json.loads((digits / "annotations" / "val.json").read_text())
    fewer = tmp_path / "fewer.json"
    fewer.write_text(json.dumps({**content, "annotations": content["annotations"][1:]}))
    assert "have other boxes" in val(fewer, digits / "val")
    content["categories"][0]["name"] = "nought"
    fewer.write_text(json.dumps(content))
    assert "have other classes (2 are" in val(fewer, digits / "val")


def test_detections_of_another_data_set(tool: Command, files: list[Path], tmp_path: Path) -> None:
    none, _, truth = files
    strange = result(tmp_path / "strange.json", (7, BOX))
    done = tool("compare", none, strange, "--ground-truth", truth)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"error: {strange}: detection 0 has image_id 7, which is not")
    assert done.stderr.count("\n") == 1


def test_what_cannot_be_compared(refusal: Refusal, files: list[Path], tmp_path: Path) -> None:
    none, every, truth = files
    assert "--ground-truth FILE" in refusal(none, every)
    assert "it is a folder" in refusal(tmp_path, every, "--ground-truth", truth)
    missing = tmp_path / "missing.json"
    assert str(missing) in refusal(none, missing, "--ground-truth", truth)
    assert str(missing) in refusal(none, every, "--ground-truth", missing)
    rest = ("--ground-truth", truth)
    assert "--checkpoint goes with" in refusal(none, every, *rest, "--checkpoint", "last")
    assert "--resamples is 99" in refusal(none, every, *rest, "--resamples", 99)
    assert "--seed is -1" in refusal(none, every, *rest, "--seed", -1)
    assert "--output" in refusal(none, every, *rest, "--output", tmp_path)


def test_a_ground_truth_that_says_nothing(refusal: Refusal, tmp_path: Path) -> None:
    found = result(tmp_path / "found.json", (1, BOX))
    crowds = ground_truth(tmp_path / "crowds.json", crowd=1)
    assert "no boxes that count" in refusal(found, found, "--ground-truth", crowds)
    one = ground_truth(tmp_path / "one.json", images=1)
    assert "at least 2" in refusal(found, found, "--ground-truth", one)
