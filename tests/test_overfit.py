"""Each preset learns eight images by heart, through the real commands."""

import json
from pathlib import Path

import pytest
from conftest import HOME, Command

PRESETS = ["cross_entropy", "background_cross_entropy", "focal"]


def eight_images(digits: Path, folder: Path) -> Path:
    """An annotation file of the first eight training images."""
    content = json.loads((digits / "annotations" / "train.json").read_text())
    content["images"] = content["images"][:8]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    (folder / "eight.json").write_text(json.dumps(content))
    return folder / "eight.json"


@pytest.mark.parametrize("preset", PRESETS)
def test_eight_images_by_heart(
    tool: Command, tiny: list[str], digits: Path, tmp_path: Path, preset: str
) -> None:
    eight = eight_images(digits, tmp_path)
    config = tmp_path / "eight.yaml"
    configs = HOME / "configs"
    config.write_text(f"base: [{configs}/digits.yaml, {configs}/losses/{preset}.yaml]\n")
    settings = [
        *tiny,
        f"data.train.annotations={eight}",
        f"data.val.images={digits}/train",
        f"data.val.annotations={eight}",
        "model.fpn.channels=32",
        "schedule.steps=60",
        "schedule.warmup_steps=10",
        "optimizer.lr=2e-3",
        "train.log_every=20",
        "evaluation.every=1000",
        "postprocess.score=0.05",
    ]
    output = tmp_path / "run"
    done = tool("train", "--config", config, "--output", output, "--set", *settings)
    assert done.returncode == 0, done.stderr
    last = json.loads((output / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["validation/AP"] > 0.9, done.stdout
