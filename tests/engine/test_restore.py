"""What a resumed run asks of its checkpoint and of its data."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import HOME
from runs_apart import last_state

from detector import build
from detector.commands.train import train
from detector.data.coco import CocoIndex
from detector.engine.restore import Classes, check_resumed, data_identity
from detector.errors import InputError

Edit = Callable[[dict[str, Any]], object]


class Paused:
    """A run that stands at step 2 of 4, and the annotation file that it learns from."""

    def __init__(self, folder: Path, digits: Path, tiny: list[str]) -> None:
        self.annotations = folder / "train.json"
        self.output = folder / "run"
        self.last = self.output / "checkpoints" / "last.pt"
        shutil.copy(digits / "annotations" / "train.json", self.annotations)
        settings = [*tiny, f"data.train.annotations={self.annotations}", "evaluation.images=0"]
        settings += ["data.val.images=null", "data.val.annotations=null"]
        self.config = build.load_config(HOME / "configs/digits.yaml", settings)

    def train(self, *, resume: bool = False) -> int:
        return train(self.config, self.output, resume=resume, command=["test"])

    def edit_annotations(self, edit: Edit) -> None:
        content = json.loads(self.annotations.read_text())
        edit(content)
        self.annotations.write_text(json.dumps(content))

    def edit_state(self, edit: Edit) -> None:
        state = last_state(self.output)
        edit(state)
        torch.save(state, self.last)


@pytest.fixture(scope="module")
def finished_run(digits: Path, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Paused:
    paused = Paused(tmp_path_factory.mktemp("paused"), digits, tiny)
    assert paused.train() == 0
    return paused


@pytest.fixture
def paused(finished_run: Paused, digits: Path, tiny: list[str], tmp_path: Path) -> Paused:
    paused = Paused(tmp_path, digits, tiny)
    shutil.copytree(finished_run.output, paused.output)
    (paused.output / "config.yaml").write_text(paused.config.to_yaml())
    paused.edit_state(lambda state: state.update(step=2, validated=2))
    return paused


def swap_names(content: dict[str, Any]) -> None:
    first, second = content["categories"][:2]
    first["name"], second["name"] = second["name"], first["name"]


def add_category(content: dict[str, Any]) -> None:
    content["categories"].append({"id": 11, "name": "ten"})


def drop_images(content: dict[str, Any]) -> None:
    kept = [image["id"] for image in content["images"][:14]]
    content["images"] = content["images"][:14]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]


def reverse_images(content: dict[str, Any]) -> None:
    content["images"].reverse()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (swap_names, "1 'one' here is 1 'zero' there"),
        (add_category, "11 'ten' here is no more class there"),
        (drop_images, "began with 16 images.*now there are 14 images"),
        (reverse_images, "began with 16 images.*now there are 16 images"),
    ],
)
def test_other_classes_or_images_are_refused(paused: Paused, edit: Edit, words: str) -> None:
    before = paused.last.read_bytes(), (paused.output / "metrics.jsonl").read_bytes()
    paused.edit_annotations(edit)
    with pytest.raises(InputError, match=f"train.json: .*{words}.*--output"):
        paused.train(resume=True)
    assert before == (paused.last.read_bytes(), (paused.output / "metrics.jsonl").read_bytes())


def test_a_moved_box_is_said_once(paused: Paused, capsys: pytest.CaptureFixture[str]) -> None:
    paused.edit_annotations(lambda content: content["annotations"][0].update(bbox=[1, 2, 20, 30]))
    assert paused.train(resume=True) == 0
    said = capsys.readouterr().out
    assert "resumed at step 2 of 4" in said
    assert said.count("changed since the run began") == 1 and "boxes of" in said


def test_the_same_data_in_another_layout_are_the_same(
    paused: Paused, capsys: pytest.CaptureFixture[str]
) -> None:
    paused.annotations.write_text(json.dumps(json.loads(paused.annotations.read_text()), indent=3))
    assert paused.train(resume=True) == 0
    said = capsys.readouterr().out
    assert "resumed at step 2 of 4" in said and "changed" not in said


def test_a_checkpoint_without_a_digest_goes_on_and_says_so(
    paused: Paused, capsys: pytest.CaptureFixture[str]
) -> None:
    paused.edit_state(lambda state: state.pop("data"))
    assert paused.train(resume=True) == 0
    assert "older version, without a digest" in capsys.readouterr().out
    assert last_state(paused.output)["data"]["images"].startswith("16 images")


def test_another_validation_set_is_said(digits: Path) -> None:
    train_set, six = (
        CocoIndex.read(digits / "annotations" / f"{part}.json", digits / part)
        for part in ("train", "val")
    )
    classes = Classes.of(train_set)
    state = {"model": {}, "class_names": classes.names, "category_ids": classes.category_ids}
    state["data"] = data_identity(train_set, six)
    assert check_resumed(state, Path("last.pt"), train_set, six) == []
    four = six.only(np.arange(6) < 4)
    (said,) = check_resumed(state, Path("last.pt"), train_set, four)
    assert "validation set" in said and "from 6 images" in said and "to 4 images" in said
