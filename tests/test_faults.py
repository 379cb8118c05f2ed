"""What goes wrong later than in the first batch: exit codes, sentences and what is left behind."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import HOME, Command, Refused

from detector import build
from detector.engine.restore import Classes, check_classes
from detector.errors import InputError
from detector.training import Assembly

SMALL_BATCHES = "train.batch_size=2"  # eight steps an epoch


def images_of_step(settings: list[str], number: int) -> set[int]:
    """The ids of the images of a step of the first epoch."""
    config = build.load_config(HOME / "configs/digits.yaml", settings)
    load = Assembly(config, Path("unused"), torch.device("cpu")).load(0, number, workers=0)
    return {i for batch in next(iter(load)) for i in batch.image_ids.tolist()}


def test_diverged_between_two_log_lines(tool: Command, tiny: list[str], tmp_path: Path) -> None:
    """The first step moves the weights to 1e30; the second fails, and step 7 is the next line."""
    settings = [*tiny, SMALL_BATCHES, "schedule.steps=8", "train.log_every=7"]
    settings += ["optimizer.name=sgd", "optimizer.lr=1e30", "optimizer.clip_norm=null"]
    run = tmp_path / "run"
    done = tool("train", "--config", "configs/digits.yaml", "--output", run, "--set", *settings)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("diverged: the loss") and done.stderr.count("\n") == 1
    assert f"{run / 'failure'} holds" in done.stderr
    report = json.loads((run / "failure" / "report.json").read_text())
    assert {image["id"] for image in report["images"]} == images_of_step(settings, 1)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1]


def test_a_truncated_image_of_a_later_batch(
    tool: Command, tiny: list[str], digits: Path, tmp_path: Path
) -> None:
    """Half of a JPEG, that a run would come to in its eighth step, is found before the first."""
    settings = [*tiny, SMALL_BATCHES]
    number = min(images_of_step(settings, 7) - images_of_step(settings, 0))
    content = json.loads((digits / "annotations" / "train.json").read_text())
    (name,) = (image["file_name"] for image in content["images"] if image["id"] == number)
    shutil.copytree(digits / "train", tmp_path / "images")
    file = tmp_path / "images" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    settings += [f"data.train.images={tmp_path / 'images'}", "schedule.steps=8"]
    run = tmp_path / "run"
    done = tool("train", "--config", "configs/digits.yaml", "--output", run, "--set", *settings)
    assert done.returncode == 2, done.stderr
    assert str(file) in done.stderr or f"images/{name}" in done.stderr
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    assert not run.exists()


def test_evaluate_refuses_a_file_of_other_classes(
    tool: Command, finished: Path, digits: Path, tmp_path: Path
) -> None:
    content = json.loads((digits / "annotations" / "val.json").read_text())
    last = content["categories"].pop()["id"]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] != last]
    other = tmp_path / "nine classes.json"
    other.write_text(json.dumps(content))
    output = tmp_path / "evaluation"
    done = tool(
        "evaluate", "--run", finished, "--output", output, "--set", f"data.val.annotations={other}"
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {other}: it has 9 classes")
    assert "10 classes" in done.stderr and done.stderr.count("\n") == 1
    assert not output.exists()


@pytest.mark.parametrize("name", ["evaluate", "predict", "diagnose"])
def test_weights_that_are_not_finite_are_refused(
    refused: Refused, finished: Path, digits: Path, tmp_path: Path, name: str
) -> None:
    """One value of one weight of the checkpoint is NaN: the figures would be those of nothing."""
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("tensorboard"))
    for file in (run / "checkpoints").iterdir():
        state = torch.load(file, weights_only=True)
        state["model"]["box_head.last.bias"][1] = torch.nan
        torch.save(state, file)
    output = tmp_path / "output"
    images = [digits / "val"] if name == "predict" else []
    said = refused(name, "--run", run, *images, "--output", output)
    assert "box_head.last.bias" in said.err and "earlier checkpoint" in said.err
    assert str(run / "checkpoints") in said.err and not output.exists()


def test_the_sentence_names_the_class_that_differs() -> None:
    names = "zero one two three four five".split()
    index = SimpleNamespace(
        category_names=[*names, "cat"],
        category_ids=torch.arange(1, 8),
        annotations_file="other.json",
    )
    with pytest.raises(InputError, match="7 'cat' here is 7 'six' there"):
        check_classes(Classes([*names, "six"], list(range(1, 8))), index)  # type: ignore[arg-type]
