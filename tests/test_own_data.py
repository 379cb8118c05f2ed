"""From outside the package: augmentations and a data format of one's own, in modules by a run."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import HOME, Command, call_script

import detector
from detector import build
from detector.config import load, parse
from detector.data.coco import CocoIndex
from detector.data.loader import Address, DetectionDataset
from detector.engine.restore import data_identity
from detector.errors import InputError

AUGMENT = """
from dataclasses import dataclass, replace

from detector import AugmentationSettings


def dark(sample, generator):
    return replace(sample, image=sample.image // 2)


@dataclass(frozen=True)
class Veil:
    strength: float

    def __call__(self, sample, generator):
        veil = torch.rand(sample.image.shape, generator=generator) < self.strength
        return replace(sample, image=sample.image.masked_fill(veil, 0))


class VeilSettings(AugmentationSettings):
    kind: str = "{module}:VeilSettings"
    strength: float = 0.5

    def augmentation(self):
        return Veil(self.strength)


import torch
"""
READ = """
import csv

import numpy as np


def read(annotations, images):
    with open(annotations) as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["file"] for row in rows})
    classes = sorted({row["name"] for row in rows})
    return {
        "images": [{"id": np.int64(i), "file_name": name} for i, name in enumerate(names)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes)],
        "annotations": [
            {
                "id": i,
                "image_id": names.index(row["file"]),
                "category_id": classes.index(row["name"]),
                "bbox": (float(row["x"]), float(row["y"]), float(row["w"]), np.float64(row["h"])),
            }
            for i, row in enumerate(rows)
        ],
    }


def nothing(annotations, images):
    return [1]


NUMBER = 7
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def tool(here: Path) -> Command:
    """Calls tools/NAME.py in that folder."""
    return lambda name, *words: call_script(HOME / "tools" / f"{name}.py", *words, cwd=here)


def module(here: Path, text: str) -> str:
    """Its name, which no other test has."""
    name = f"own_{abs(hash(here.name + text)) % 10**9}"
    (here / f"{name}.py").write_text(text.replace("{module}", name))
    return name


# --- augmentations


def config_of(here: Path, tiny: list[str], items: str) -> Path:
    file = here / "own.yaml"
    file.write_text(f"base: [digits.yaml]\ndata:\n  augment:\n{items}\n")
    return file


def test_a_function_and_a_class_of_ones_own(tool: Command, here: Path, tiny: list[str]) -> None:
    """Trained for two steps, and resumed; the key of the one changes the batch, the other too."""
    own = module(here, AUGMENT)
    items = f'  - {{kind: "{own}:dark"}}\n  - {{kind: "{own}:VeilSettings", strength: 0.25}}'
    file = config_of(here, tiny, items)
    words = ["--config", file, "--output", here / "run", "--set", *tiny, "schedule.steps=2"]
    done = tool("train", *words)
    assert done.returncode == 0 and "step 2/2" in done.stdout, done.stderr
    resolved = (here / "run" / "config.yaml").read_text()
    config = parse(resolved, "run")
    assert config == load(file, [*tiny, "schedule.steps=2"])
    assert config.data.augment[1].strength == 0.25  # type: ignore[attr-defined]
    again = tool("train", *words[:4], "--resume", *words[4:])
    assert again.returncode == 0 and "finished already" in again.stdout, again.stderr
    index = build.data_index(config, "train")
    sample = DetectionDataset(index, build.transform(config))[Address(0, 0)]
    plain = DetectionDataset(index, build.transform(config).for_evaluation())[Address(0, 0)]
    veiled = (sample.image == 0) & (plain.image > 1)
    assert 0.2 < veiled.float().mean() < 0.3
    assert torch.equal(sample.image[~veiled], (plain.image // 2)[~veiled])


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ('  - {kind: flip}\n  - {kind: "OWN:VeilSettings", strngth: 1}',
         r"own.yaml:5: data\.augment\.1\.strngth: unknown key 'strngth'; did you mean 'strength'"),
        ('  - {kind: "OWN:dark", strength: 1}',
         r"own.yaml:4: data\.augment\.0\.strength: unknown key 'strength'; known: kind$"),
        ('  - {kind: "OWN:light"}', r"own.yaml:4: data\.augment\.0\.kind: .*cannot be imported"),
        ('  - {kind: "OWN:Veil"}', "a subclass of AugmentationSettings"),
        ('  - {kind: "OWN"}', "mixup, module:Class, or module:function"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_ones_own_is_named(
    here: Path, tiny: list[str], items: str, words: str
) -> None:
    file = config_of(here, tiny, items.replace("OWN", module(here, AUGMENT)))
    with pytest.raises(InputError, match=words):
        load(file)


# --- configs of older runs


def test_the_mapping_of_an_older_run_is_converted(here: Path) -> None:
    old = "data: {augment: {flip: 0.5, scale_jitter: [0.8, 1.25], photometric: 0.2}}"
    (here / "old.yaml").write_text(old)
    written = parse(old, "run")
    new = """data: {augment: [{kind: scale_jitter, range: [0.8, 1.25]}, {kind: flip},
                              {kind: photometric, strength: 0.2}]}"""
    assert written == parse(new, "run") == load(here / "old.yaml")
    off = "data: {augment: {flip: 0.0, scale_jitter: null, photometric: 0.0}}"
    assert parse(off, "run").data.augment == ()
    # one key of it is one of the whole mapping, for it stands over that alone
    config = load(here / "old.yaml", ["data.augment.flip=0"])
    assert [step.kind for step in config.data.augment] == ["scale_jitter", "photometric"]


@pytest.mark.parametrize("key", ["data.augment.flip=0", "data.augment={flip: 0}",
                                 "data.augment.0.probability=0"])  # fmt: skip
def test_a_part_of_the_mapping_is_refused_with_the_new_form(key: str) -> None:
    with pytest.raises(InputError, match=r"^--set .*: data\.augment: .*\[\{kind: flip, prob") as e:
        load(Path("digits.yaml"), [key])
    assert "\n" not in str(e.value)


def test_an_older_run_is_resumed(tool: Command, here: Path, tiny: list[str]) -> None:
    """Stopped after two steps, by its own file and by the config that it came from."""
    words = ["--output", here / "run", "--set", *tiny]
    begun = tool("train", "--config", "digits.yaml", *words, "schedule.steps=2")
    assert begun.returncode == 0, begun.stderr
    resolved = here / "run" / "config.yaml"
    text = resolved.read_text()
    old = text.replace("augment: []", "augment: {flip: 0.0, scale_jitter: null, photometric: 0.0}")
    assert old != text
    resolved.write_text(old)
    for config in ("digits.yaml", resolved):
        done = tool("train", "--config", config, "--resume", *words, "schedule.steps=2")
        assert done.returncode == 0 and "finished already" in done.stdout, done.stderr


# --- a format of one's own


def csv_of(document: Path, file: Path) -> Path:
    """The boxes of a COCO file as rows of text."""
    content = json.loads(document.read_text())
    images = {entry["id"]: entry["file_name"] for entry in content["images"]}
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["file", "name", "x", "y", "w", "h"])
        for box in content["annotations"]:
            rows.writerow([images[box["image_id"]], names[box["category_id"]], *box["bbox"]])
    return file


@pytest.fixture
def own_format(here: Path, digits: Path, tiny: list[str]) -> list[str]:
    """`--set` values that name both sets as CSV files."""
    name, settings = module(here, READ), [*tiny, "schedule.steps=2"]
    # the same boxes to train and to validate on, since the reader numbers the classes it meets
    file = csv_of(digits / "annotations" / "train.json", here / "boxes.csv")
    for part in ("train", "val"):
        settings += [f"data.{part}.annotations={file}", f"data.{part}.reader={name}:read",
                     f"data.{part}.images={digits}/train"]  # fmt: skip
    return settings


def test_a_format_of_ones_own_is_trained_evaluated_and_loaded(
    tool: Command, here: Path, own_format: list[str], digits: Path
) -> None:
    run = here / "run"
    done = tool("train", "--config", "digits.yaml", "--output", run, "--set", *own_format)
    assert done.returncode == 0 and "step 2/2" in done.stdout, done.stderr
    assert "validation/AP" in (run / "metrics.jsonl").read_text()
    done = tool("evaluate", "--run", run)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((run / "evaluation" / "best" / "metrics.json").read_text())
    coco = json.loads((digits / "annotations" / "train.json").read_text())
    assert sum(metrics["boxes"].values()) == len(coco["annotations"])
    assert metrics["ground_truth"] == str(here / "boxes.csv")
    for source in here.glob("own_*.py"):  # a detector needs no data, and not what reads them
        source.unlink()
        del sys.modules[source.stem]
    trained = detector.load(run, device="cpu")
    (prediction,) = trained.predict(sorted((digits / "train").iterdir())[0], score=0)
    assert len(prediction) == 100
    assert set(prediction.class_names) <= set(trained.class_names) >= {"zero", "one"}


def test_the_index_is_that_of_the_same_boxes_as_json(
    here: Path, own_format: list[str], digits: Path
) -> None:
    ours = build.data_index(load(Path("digits.yaml"), own_format), "train")
    theirs = CocoIndex.read(digits / "annotations" / "train.json", digits / "train")
    assert len(ours) == len(theirs) == 16 and len(ours.boxes) == len(theirs.boxes)
    assert sorted(ours.boxes.tolist()) == sorted(theirs.boxes.tolist())
    dataset = detector.CocoDataset(
        here / "boxes.csv",
        digits / "train",
        reader=ours.reader.args[0],  # type: ignore[attr-defined]
    )
    assert data_identity(dataset.index, None) == data_identity(ours, None)


def test_a_part_for_tuning_is_cut_from_it(own_format: list[str]) -> None:
    config = load(Path("digits.yaml"), [*own_format, "data.tuning=0.4"])
    train, val = (build.data_index(config, part) for part in ("train", "val"))
    assert len(train) + len(val) == 16 and not set(train.image_ids) & set(val.image_ids)


def test_resuming_notices_changed_data(tool: Command, here: Path, own_format: list[str]) -> None:
    words = ["train", "--config", "digits.yaml", "--output", here / "run"]
    assert tool(*words, "--set", *own_format).returncode == 0
    file = here / "boxes.csv"
    lines = file.read_text().splitlines()
    first = lines[1].partition(",")[0]
    file.write_text("\n".join(line for line in lines if not line.startswith(first)) + "\n")
    done = tool(*words, "--resume", "--set", *own_format)
    assert done.returncode == 2 and "boxes.csv: " in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("read", ("float(row", "int(row"),
         r"boxes\.csv: own_\d+:read failed with ValueError: .*own_\d+\.py, line 20"),
        ("read", ('"image_id"', '"image"'), r"boxes\.csv: annotation 0 .*has no 'image_id'"),
        ("read", ("names.index(row", "7 + names.index(row"), r"image_id \d+ is not in 'images'"),
        ("nothing", ("", ""), r"boxes\.csv: the file holds a list; COCO annotations are one"),
        ("gone", ("", ""), r"data\.train\.reader: found .*gone', which cannot be imported"),
        ("NUMBER", ("", ""), r"data\.train\.reader: .*NUMBER', which is a int; .*a function"),
        ("=", ("", ""), r"data\.train\.reader: found 'voc', it should be coco or module:func"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_reader_is_named(
    here: Path, own_format: list[str], name: str, change: tuple[str, str], words: str
) -> None:
    own = module(here, READ.replace(*change, 1) if change[0] else READ)
    with pytest.raises(InputError, match=words) as error:
        value = "voc" if name == "=" else f"{own}:{name}"
        config = load(Path("digits.yaml"), [*own_format, f"data.train.reader={value}"])
        build.data_index(config, "train")
    assert "\n" not in re.sub(r"\(.*\)", "", str(error.value))


def test_annotations_of_another_format_may_be_a_folder(
    here: Path, own_format: list[str], digits: Path
) -> None:
    text = READ.replace("open(annotations)", "open(annotations / 'boxes.csv')")
    own, boxes = module(here, text), here / "boxes"
    boxes.mkdir()
    (here / "boxes.csv").rename(boxes / "boxes.csv")
    settings = [*own_format, f"data.train.reader={own}:read", f"data.train.annotations={boxes}"]
    assert len(build.data_index(load(Path("digits.yaml"), settings), "train")) == 16
    with pytest.raises(
        InputError, match=r"boxes: this is a folder.*data\.train\.annotations.*convert"
    ):
        build.data_index(load(Path("digits.yaml"), [*settings, "data.train.reader=coco"]), "train")
