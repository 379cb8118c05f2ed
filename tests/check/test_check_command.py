"""The command, from a config to its files; and `anchors: auto`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Command, Refused

from detector.anchors.generator import AnchorsSettings
from detector.config import parse


def test_the_command_leaves_a_page_and_its_figures(
    tool: Command, refused: Refused, tiny: list[str], digits: Path, tmp_path: Path
) -> None:
    words = ["--config", "configs/digits.yaml", "--output", tmp_path / "check", "--set", *tiny]
    done = tool("check", *words)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "check" / "check.json").read_text())
    assert [one["images"] for one in content["counts"]] == [16, 6]
    boxes = json.loads((digits / "annotations" / "train.json").read_text())["annotations"]
    assert content["counts"][0]["boxes"] == content["present"]["total"]["boxes"] == len(boxes)
    assert parse(content["proposed"]["anchors"], "check.json").anchors != AnchorsSettings()
    page = (tmp_path / "check" / "check.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 12 and "http" not in page
    assert "overwritten" in refused("check", *words).err


def test_errors_end_with_1(tool: Command, tiny: list[str], digits: Path, tmp_path: Path) -> None:
    """The training set as the validation set: every image is in both."""
    both = [
        f"data.val.images={digits}/train",
        f"data.val.annotations={digits}/annotations/train.json",
    ]
    words = ["--config", "configs/digits.yaml", "--output", tmp_path / "check", "--set", *tiny]
    done = tool("check", *words, *both)
    assert done.returncode == 1 and "error: image_in_both_splits (16)" in done.stdout


def test_auto_becomes_the_same_numbers_again(
    tool: Command, refused: Refused, tiny: list[str], tmp_path: Path
) -> None:
    words = ["--config", "configs/digits.yaml", "--output", tmp_path / "run", "--set", *tiny]
    words += ["anchors=auto", "schedule.steps=1"]
    done = tool("train", *words)
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "run" / "config.yaml").read_text()
    assert isinstance(parse(written, "run").anchors, AnchorsSettings)
    again = tool("train", *words[:4], "--resume", *words[4:])
    assert again.returncode == 0 and "finished already" in again.stdout, again.stderr


@pytest.mark.parametrize("text", ["fast", "3", "null"])
def test_what_is_neither_settings_nor_auto_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="anchors: found .*, it should be auto, or a mapping"):
        parse(f"anchors: {text}", "x.yaml")


def test_auto_survives_a_round_trip() -> None:
    config = parse("anchors: auto", "x.yaml")
    assert config.anchors == "auto" and parse(config.to_yaml(), "y.yaml") == config
