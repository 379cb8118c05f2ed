"""What a resumed run asks of its checkpoint and of its data."""

import copy
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
from detector.cli.train import train
from detector.data.coco import CocoIndex
from detector.engine import checkpoint
from detector.engine.restore import Classes, check_resumed_data, check_resumed_state, data_identity
from detector.engine.step import TrainingStep
from detector.errors import InputError
from detector.trained import Trained
from detector.training import Assembly

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


def put(*keys: str | int, value: object) -> Edit:
    """Sets the entry under these keys, or takes it away where the value is ..., the ellipsis."""

    def edit(state: dict[str, Any]) -> None:
        part: Any = state
        for key in keys[:-1]:
            part = part[key]
        if value is ...:
            del part[keys[-1]]
        else:
            part[keys[-1]] = value

    return edit


DAMAGED: dict[str, tuple[Edit, str]] = {  # what says that it is no checkpoint, wherever it is read
    "no step": (put("step", value=...), "step: Field required"),
    "a step as text": (put("step", value="2"), "step: "),
    "a step beyond all numbers": (put("step", value=2**70), "step: "),
    "validated later than now": (put("validated", value=3), "step 3, after step 2"),
    "no weights": (put("model", value=None), "model: "),
    "a weight as a list": (put("model", "class_head.last.bias", value=[0.0]), "class_head.last.bi"),
    "an average as one tensor": (put("ema", value=torch.zeros(2)), "ema: "),
    "names as a tensor": (put("class_names", value=torch.zeros(10)), "class_names: "),
    "a name as a number": (put("class_names", 0, value=7), "class_names.0: "),
    "fewer ids than names": (put("category_ids", value=[1, 2]), "10 class_names and 2 category_id"),
    "no class": (put("class_names", value=[]), "0 class_names"),
    "no optimizer": (put("optimizer", value={}), "optimizer.state: Field required"),
    "the loss as a list": (put("criterion", value=[]), "criterion: "),
    "no rank": (put("ranks", value=[]), "ranks: "),
    "a rank without a generator": (put("ranks", 0, "cpu", value=...), "ranks.0.cpu: "),
    "a negative journal": (put("journal", value=-1), "journal: "),
}


@pytest.fixture(scope="module")
def state(finished_run: Paused) -> dict[str, Any]:
    """A checkpoint of step 2; to be left as it is."""
    return {**last_state(finished_run.output), "step": 2, "validated": 2}


@pytest.fixture(scope="module")
def step(finished_run: Paused) -> TrainingStep:
    """Of that run, before its first step."""
    return Assembly(finished_run.config, finished_run.output, torch.device("cpu")).step


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_checkpoint_is_one_sentence(
    state: dict[str, Any], tmp_path: Path, damage: str
) -> None:
    edit, words = DAMAGED[damage]
    small = {**state, "optimizer": {"state": {}, "param_groups": []}}
    small["model"] = {"class_head.last.bias": torch.zeros(90)}
    small = copy.deepcopy(small)
    torch.save(small, tmp_path / "last.pt")
    checkpoint.load_state(tmp_path / "last.pt")
    edit(small)
    torch.save(small, tmp_path / "last.pt")
    with pytest.raises(InputError, match=f"last.pt: .*{words}"):
        checkpoint.load_state(tmp_path / "last.pt")


def test_every_command_reads_it_alike(paused: Paused) -> None:
    paused.edit_state(put("ema", value=[]))
    with pytest.raises(InputError, match="last.pt: .*ema: "):
        Trained.from_run(paused.output, "last", [])  # of evaluate, predict and diagnose
    with pytest.raises(InputError, match="last.pt: .*ema: "):
        paused.train(resume=True)


FOREIGN: dict[str, tuple[Edit, str]] = {  # whole checkpoints, but not of this run
    "a weight of another shape": (
        put("model", "class_head.last.bias", value=torch.zeros(3)),
        r"class_head.last.bias is a torch.float32 of shape \[3\], expected .* \[90\]",
    ),
    "a weight less": (put("model", "class_head.last.bias", value=...), "lacks class_head.last.bia"),
    "an average too many": (put("ema", value={}), "ema is a dict, expected a NoneType"),
    "a moment of another shape": (
        put("optimizer", "state", 0, "exp_avg", value=torch.zeros(1)),
        "optimizer: 0: exp_avg",
    ),
    "no moment": (put("optimizer", "state", 0, "exp_avg", value=...), "lacks exp_avg"),
    "a parameter less": (put("optimizer", "state", 0, value=...), "optimizer lacks 0"),
    "another generator": (put("ranks", 0, "cpu", value=torch.zeros(3)), "cpu: 0 is a torch.float"),
    "a number of the loss": (put("criterion", "a", value=torch.zeros(1)), "criterion has a"),
    "beyond the end": (put("step", value=9), "step 9 of 4"),
}


@pytest.mark.parametrize("damage", FOREIGN)
def test_a_checkpoint_that_does_not_fit(
    state: dict[str, Any], step: TrainingStep, damage: str
) -> None:
    edit, words = FOREIGN[damage]
    check_resumed_state(state, Path("last.pt"), step, total_steps=4)
    changed = copy.deepcopy(state)
    edit(changed)
    with pytest.raises(InputError, match=f"last.pt: .*does not fit this run: .*{words}"):
        check_resumed_state(changed, Path("last.pt"), step, total_steps=4)


def test_nothing_is_cut_off_before_the_checkpoint_is_known_to_fit(paused: Paused) -> None:
    paused.edit_state(put("model", "class_head.last.bias", value=torch.zeros(3)))
    before = (paused.output / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match="last.pt: .*class_head.last.bias"):
        paused.train(resume=True)
    assert (paused.output / "metrics.jsonl").read_bytes() == before


def test_the_settings_of_the_optimizer_are_the_configs(paused: Paused) -> None:
    """Of the checkpoint's group only its moments count; the config decays weights by 0.05."""
    paused.edit_state(put("optimizer", "param_groups", 0, "weight_decay", value=5.0))
    assert paused.train(resume=True) == 0
    first, *_ = last_state(paused.output)["optimizer"]["param_groups"]
    assert first["weight_decay"] == paused.config.optimizer.weight_decay


def test_another_validation_set_is_said(digits: Path) -> None:
    train_set, six = (
        CocoIndex.read(digits / "annotations" / f"{part}.json", digits / part)
        for part in ("train", "val")
    )
    classes = Classes.of(train_set)
    state = {"model": {}, "class_names": classes.names, "category_ids": classes.category_ids}
    state["data"] = data_identity(train_set, six)
    assert check_resumed_data(state, Path("last.pt"), train_set, six) == []
    four = six.only(np.arange(6) < 4)
    (said,) = check_resumed_data(state, Path("last.pt"), train_set, four)
    assert "validation set" in said and "from 6 images" in said and "to 4 images" in said
