"""A training that starts from a detector of other classes, through the real commands."""

import json
from pathlib import Path

import pytest
import torch
from conftest import HOME, Command

from detector import build
from detector.errors import InputError
from detector.training import Assembly

MORE = ["model.fpn.channels=32", "evaluation.every=1000", "evaluation.batch_size=8"]
ZERO_TO_FOUR = ["zero", "one", "two", "three", "four"]
OTHERS = ["ring", "stick", "swan", "wave", "chair"]


def five_classes(digits: Path, folder: Path, names: list[str]) -> list[str]:
    """Settings of the training images that show 0 to 4, under these names, for both parts."""
    content = json.loads((digits / "annotations" / "train.json").read_text())
    content["categories"] = content["categories"][:5]
    ids = {category["id"] for category in content["categories"]}
    for category, name in zip(content["categories"], names, strict=True):
        category["name"] = name
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] in ids]
    shown = {a["image_id"] for a in content["annotations"]}
    content["images"] = [image for image in content["images"] if image["id"] in shown]
    file = folder / f"{names[0]}.json"
    file.write_text(json.dumps(content))
    images = f"{digits}/train"
    return [f"data.{part}.{key}={value}" for part in ("train", "val")
            for key, value in (("images", images), ("annotations", file))]  # fmt: skip


def trained(tool: Command, output: Path, settings: list[str]) -> float:
    """AP at the end."""
    words = ["--config", "configs/digits.yaml", "--output", output, "--set", *settings]
    done = tool("train", *words)
    assert done.returncode == 0, done.stderr
    last = json.loads((output / "metrics.jsonl").read_text().splitlines()[-1])
    return float(last["validation/AP"])


def test_an_epoch_under_other_names_does_what_scratch_cannot(
    tool: Command, tiny: list[str], digits: Path, tmp_path: Path
) -> None:
    """Ten steps, in which five new class channels learn what the tower before them tells apart.

    AP 0.66 and 0.02 were measured; weights that were silently not loaded would give the latter.
    """
    first = [*tiny, *MORE, *five_classes(digits, tmp_path, ZERO_TO_FOUR), "schedule.steps=50"]
    trained(tool, tmp_path / "first", [*first, "optimizer.lr=2e-3"])
    epoch = [*tiny, *MORE, *five_classes(digits, tmp_path, OTHERS), "train.batch_size=1"]
    epoch += ["schedule.steps=null", "schedule.epochs=1", "optimizer.lr=3e-4"]
    file = tmp_path / "first" / "checkpoints" / "last.pt"
    assert trained(tool, tmp_path / "scratch", epoch) < 0.1
    assert trained(tool, tmp_path / "tuned", [*epoch, f"model.weights={file}"]) > 0.3
    kept = json.loads((tmp_path / "tuned" / "environment.json").read_text())["weights"]
    assert kept["new_classes"] == OTHERS and kept["classes"] == kept["new_parts"] == []


def test_a_bare_state_and_other_anchors(tiny: list[str], finished: Path, tmp_path: Path) -> None:
    """Tensors alone name no classes; a checkpoint also says which anchors it had."""
    checkpoint = finished / "checkpoints" / "last.pt"
    torch.save(torch.load(checkpoint, weights_only=True)["model"], tmp_path / "bare.pt")
    said = {}
    for file in (tmp_path / "bare.pt", checkpoint):
        settings = [*tiny, f"model.weights={file}", "anchors.sizes=[8, 16, 32, 64, 128]"]
        config = build.load_config(HOME / "configs/digits.yaml", settings)
        said[file.name] = str(Assembly(config, tmp_path / "run", torch.device("cpu")).transfer)
    assert "new: class channels zero, one, " in said["bare.pt"]
    assert "new: nothing\n  anchors: not those it was trained with" in said["last.pt"]


def test_the_recipe_asks_for_its_detector() -> None:
    with pytest.raises(InputError, match=r"finetune\.yaml: .*name weights.*model\.weights=FILE"):
        build.load_config(HOME / "configs" / "finetune.yaml")
