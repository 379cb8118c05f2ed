"""Configs: typed, strict, merged, and every file of configs/ loads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from detector.anchors.atss import ATSSSettings
from detector.config import ALTERNATIVES, Config, load, parse
from detector.data.augmentations import AUGMENTATIONS
from detector.data.transforms import FixedSizeSettings, ShorterSideSettings
from detector.errors import InputError
from detector.loss.elementwise import ElementwiseSettings
from detector.loss.ghm import GHMCSettings
from detector.loss.sampling import AllSettings, HardNegativesSettings, OHEMSettings

CONFIGS = Path(__file__).parent.parent / "configs"
FILES = sorted({*CONFIGS.rglob("*.yaml")} - {*CONFIGS.glob("ablations/*.yaml")})
FRAGMENTS = sorted((CONFIGS / "losses").glob("*.yaml"))


def lines_of(error: pytest.ExceptionInfo[InputError]) -> list[str]:
    return str(error.value).splitlines()


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refusal(text: str) -> str:
    with pytest.raises(InputError) as error:
        parse(text, "exp.yaml")
    return str(error.value)


# --- the files of configs/


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_config_loads_and_opens_with_a_note(path: Path) -> None:
    config = load(path)
    assert parse(config.to_yaml(), "resolved") == config
    head = path.read_text().splitlines()[:3]
    starts = ("# For: ", "# Expect: ", "# Measured: ")
    assert all(line.startswith(start) for line, start in zip(head, starts, strict=True))


@pytest.mark.parametrize("below", FRAGMENTS, ids=lambda path: path.stem)
def test_a_loss_fragment_replaces_any_other(below: Path, tmp_path: Path) -> None:
    """With every key that it does not state: `kind` says that this is the whole loss."""
    for above in FRAGMENTS:
        both = write(tmp_path, "both.yaml", f"base: ['{below}', '{above}']\n")
        assert load(both) == load(above)


def test_presets_are_what_their_names_say() -> None:
    def loss(name: str) -> Any:
        return load(CONFIGS / "losses" / f"{name}.yaml").loss.classification

    assert loss("focal") == Config().loss.classification
    assert (loss("cross_entropy").gamma, loss("cross_entropy").alpha) == (0, None)
    assert loss("background_cross_entropy").background == "class"
    assert loss("hard_negatives").sampling == HardNegativesSettings(ratio=3)
    assert loss("ohem").sampling == OHEMSettings(per_image=512, nms=None)
    assert loss("positives_only").prior is None


@pytest.mark.parametrize("name", ["torchvision_v1", "torchvision_v2"])
def test_torchvision_cells_are_torchvisions(name: str) -> None:
    retinanet = pytest.importorskip("torchvision.models.detection.retinanet")
    cells = load(CONFIGS / f"{name}.yaml").anchors.cells
    assert cells is not None
    for ours, theirs in zip(cells, retinanet._default_anchorgen().cell_anchors, strict=True):
        assert [[-w / 2, -h / 2, w / 2, h / 2] for w, h in ours] == theirs.tolist()


# --- the reference card


def keys_with_comments(text: str) -> dict[str, str]:
    """Dotted key -> comment, of a card in block style with two spaces a level."""
    found, stack = {}, []
    for line in text.splitlines():
        match = re.match(r"( *)(\w+):(.*)$", line)
        if match is None:
            continue
        stack = [*stack[: len(match[1]) // 2], match[2]]
        if match[3]:
            found[".".join(stack)] = match[3].partition("  # ")[2]
    return found


def descriptions(section: BaseModel, path: str = "") -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            found |= descriptions(value, f"{path}{name}.")
        else:
            found[path + name] = field.description
    return found


def test_the_reference_card_shows_every_key_default_and_description() -> None:
    text = (CONFIGS / "reference.yaml").read_text()
    assert keys_with_comments(text) == descriptions(Config())
    assert load(CONFIGS / "reference.yaml") == Config()


def test_the_reference_card_shows_every_alternative() -> None:
    text = (CONFIGS / "reference.yaml").read_text()
    shown = [parse_flow(match) for match in re.findall(r"# or: (\{.*\})", text)]
    shared = {*ElementwiseSettings.model_fields} - {"kind"}
    others = [
        settings.model_construct().model_dump(exclude=shared)
        if "width" not in settings.model_fields
        else {"width": 800, "height": 800}
        for path, one_of in ALTERNATIVES.items()
        for settings in list(one_of.kinds.values())[1:]
    ]
    assert sorted(map(str, shown)) == sorted(map(str, others))


def test_the_reference_card_shows_every_augmentation() -> None:
    text = (CONFIGS / "reference.yaml").read_text()
    shown = [parse_flow(match) for match in re.findall(r"# item: (\{.*?\})", text)]
    kinds = list(AUGMENTATIONS.kinds.values())
    assert shown == [kind().model_dump(mode="json") for kind in kinds]


def parse_flow(text: str) -> Any:
    return yaml.safe_load(text)


# --- merging


def test_the_file_wins_over_its_bases_and_later_bases_over_earlier(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "optimizer: {lr: 0.1, momentum: 0.5, clip_norm: 1}\n")
    (tmp_path / "sub").mkdir()
    write(tmp_path, "sub/b.yaml", "base: [../a.yaml]\noptimizer: {lr: 0.2, clip_norm: 2}\n")
    path = write(tmp_path, "c.yaml", "base: [a.yaml, sub/b.yaml]\noptimizer: {lr: 0.3}\n")
    optimizer = load(path, ["optimizer.clip_norm=1e-3"]).optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.clip_norm) == (0.3, 0.5, 0.001)
    assert load(path).optimizer.clip_norm == 2


def test_a_base_may_be_shared_but_not_circular(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "train: {seed: 1}\n")
    write(tmp_path, "b.yaml", "base: [a.yaml]\n")
    assert load(write(tmp_path, "c.yaml", "base: [a.yaml, b.yaml]\n")).train.seed == 1
    write(tmp_path, "a.yaml", "base: [b.yaml]\n")
    with pytest.raises(InputError, match=r"circle: a\.yaml -> b\.yaml -> a\.yaml"):
        load(tmp_path / "a.yaml")


def test_a_kind_replaces_the_whole_in_any_order(tmp_path: Path) -> None:
    text = "loss: {classification: {background: class, alpha: 0.5}}\nmatching: {foreground: 0.6}\n"
    path = write(tmp_path, "a.yaml", text)
    keys = ["loss.classification.bins=10", "loss.classification.kind=ghm", "matching.kind=atss",
            "matching.candidates=5"]  # fmt: skip
    for order in (1, -1):
        config = load(path, keys[::order])
        assert config.loss.classification == GHMCSettings(bins=10)
        assert config.matching == ATSSSettings(candidates=5)


def test_another_alternative_replaces_the_mapping_whole(tmp_path: Path) -> None:
    text = "loss: {classification: {sampling: {kind: ohem, nms: 0.7, per_image: 64}}}\n"
    path = write(tmp_path, "a.yaml", text + "data: {resize: {shorter: [600, 700]}}\n")
    key = "loss.classification.sampling"

    def sampling(*overrides: str) -> Any:
        return load(path, [f"{key}{override}" for override in overrides]).loss.classification

    assert sampling("={kind: all}").sampling == AllSettings()
    assert sampling(".kind=hard_negatives").sampling == HardNegativesSettings(ratio=3)
    assert sampling(".nms=null").sampling == OHEMSettings(per_image=64, nms=None)
    assert sampling("={kind: ohem, nms: 0.5}").sampling == OHEMSettings(nms=0.5)
    for order in (1, -1):
        both = (".ratio=2", ".kind=hard_negatives")[::order]
        assert sampling(*both).sampling == HardNegativesSettings(ratio=2)
    fixed = load(path, ["data.resize.width=64", "data.resize.height=32"])
    assert fixed.data.resize == FixedSizeSettings(width=64, height=32)
    assert load(path, ["data.resize.longer=900"]).data.resize == ShorterSideSettings(
        shorter=(600, 700), longer=900
    )


def test_a_kind_that_is_no_alternative_keeps_its_neighbours(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "schedule: {kind: step, epochs: 7}\n")
    assert load(path, ["schedule.kind=cosine"]).schedule.epochs == 7


# --- values


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001", ".001", "1E-3"])
def test_numbers_are_numbers(text: str) -> None:
    assert parse(f"optimizer: {{lr: {text}}}", "x").optimizer.lr == 0.001


def test_whole_numbers_serve_as_floats_and_one_side_as_a_list() -> None:
    assert parse("loss: {classification: {gamma: 2}}", "x").loss.classification.gamma == 2.0
    one = parse("data: {resize: {shorter: 640}}", "x")
    assert one == parse("data: {resize: {shorter: [640]}}", "x")
    assert one.data.resize == ShorterSideSettings(shorter=(640,))


def test_text_that_looks_like_another_value_survives_a_round_trip() -> None:
    for name in ("1e-3", "true", "null", "07", "no", "a: b", "é", "~"):
        text = f"model: {{weights: '{name}'}}\ndata: {{train: {{images: '{name}'}}}}"
        config = parse(text, "x")
        assert config.model.weights == Path(name)
        assert parse(config.to_yaml(), "x") == config


@pytest.mark.parametrize("text", ["yes", ".inf", "inf", ".nan", '"8"', "1e999", "true", "[1]", ""])
def test_what_is_no_number_is_refused_for_one(text: str) -> None:
    assert refusal(f"loss:\n  classification:\n    gamma: {text}\n").startswith(
        "exp.yaml:3: loss.classification.gamma: found "
    )


@pytest.mark.parametrize("text", ["8.0", "8.5", '"8"', "true", "0", "-1", "1_000", "0x10"])
def test_what_is_no_count_is_refused_for_one(text: str) -> None:
    assert refusal(f"train: {{batch_size: {text}}}").startswith("exp.yaml:1: train.batch_size: ")


def test_a_seed_is_what_a_generator_takes() -> None:
    assert parse(f"train: {{seed: {2**63 - 1}}}", "x").train.seed == 2**63 - 1
    for key in ("train: {seed", "schedule: {warmup_steps", "train: {batch_size"):
        assert str(2**63) in refusal(f"{key}: {2**63}}}")


@pytest.mark.parametrize("name", ["x" * 256, "é" * 128, "a\0b"])
@pytest.mark.parametrize(
    "key", ["data: {train: {images", "model: {weights", "model: {backbone: {weights"]
)
def test_a_path_that_no_file_can_have_is_refused(key: str, name: str) -> None:
    """The longest name has 255 bytes, which é has two of."""
    text = f"{key}: {json.dumps(f'some/{name}/file')}{'}' * key.count('{')}"
    assert refusal(text).startswith(f"exp.yaml:1: {re.sub('[ {]+', '', key).replace(':', '.')}: ")
    parse(text.replace(json.dumps(name)[1:-1], "x" * 255), "x")


@pytest.mark.parametrize("text", ["yes", "on", "no", "1", "0", '"true"'])
def test_only_true_and_false_are_switches(text: str) -> None:
    assert "it should be true or false" in refusal(f"train: {{compile: {text}}}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("matching: {foreground: 0.3}", "background is 0.4, above foreground 0.3"),
        ("schedule: {steps: 10}", "set one, and the other to null"),
        ("schedule: {epochs: null}", "set one, and the other to null"),
        ("schedule: {milestones: [8, 8]}", "milestones is [8, 8], it should increase"),
        ("train: {batch_size: 6}\noptimizer: {accumulate: 4}", "should divide train.batch_size, 6"),
        ("train: {device: cuda:x}", "found 'cuda:x', it should be auto, cpu, cuda or cuda:N"),
        ("data: {resize: {shorter: 800, longer: 600}}", "longer is 600"),
        (
            "data: {augment: [{kind: scale_jitter, range: [1.25, 0.8]}]}",
            "data.augment.0.range: found [1.25, 0.8], it should be [low, high]",
        ),
        ("data: {augment: [{kind: flip}, {kind: flip}]}", "augment: found flip 2 times"),
        ("data: {augment: [{probability: 0.5}]}", "data.augment.0.kind: missing"),
        ("data: {augment: [flip]}", 'data.augment.0: found "flip", it should be a mapping'),
        ("data: {augment: [{kind: iou_crop, scale: [0.5, 1.5]}]}", "should end at 1 or below"),
        ("data: {augment: [{kind: zoom_out, range: [0.5, 2]}]}", "should begin at 1 or above"),
        ("data: {augment: {flip: 0}}", "data.augment: found a mapping, it should be a list"),
        ("anchors: {sizes: []}", "anchors.sizes: found []"),
        ("anchors: {cells: [[[1, 2]], [[1, 2], [3, 4]]]}", "cells has [1, 2] a level"),
        ("loss: {classification: {prior: 0}}", "found 0, it should be greater than 0, or null"),
        ("loss: {classification: {gamma: -1}}", "greater than or equal to 0"),
        (
            "loss: {classification: {kind: cross-entropy}}",
            "or module:Class; cross-entropy is {kind: focal, gamma: 0, alpha: null}",
        ),
        ("loss: {classification: {alpha: 1.5}}", "it should be less than or equal to 1"),
        ("loss: {classification: {sampling: all}}", 'found "all", it should be a mapping'),
        ("loss: {classification: {sampling: {nms: 1}}}", "sampling.kind: missing"),
        ("data: {resize: {width: 8}}", "data.resize.height: missing"),
        ("train: {ema: 1}", "it should be less than 1"),
        ("optimizer: null", "found null, it should be a mapping"),
    ],
)
def test_ranges_and_combinations(text: str, words: str) -> None:
    message = refusal(text)
    assert re.match(r"exp\.yaml:\d: ", message)
    assert words in message
    assert "\n" not in message


def test_what_is_missing_stands_in_the_file_that_lacks_it(tmp_path: Path) -> None:
    """Not in a base, whose list was replaced; a list that is too short is said to be one."""
    text = f"base: [{CONFIGS}/retinanet.yaml]\ndata:\n  augment:\n    - {{probability: 1}}\n"
    path = write(tmp_path, "a.yaml", text)
    with pytest.raises(InputError) as error:
        load(path)
    assert lines_of(error)[0].startswith(f"{path}:4: data.augment.0.kind: missing")
    short = refusal("data: {augment: [{kind: zoom_out, range: []}]}")
    assert "augment.0.range" in short and "found []" in short and "a list of two" in short


def test_configs_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().train.seed = 1


# --- messages


def test_all_errors_of_all_files_at_once(tmp_path: Path) -> None:
    base = write(tmp_path, "base.yaml", "loss:\n  classification:\n    gama: 2\n    alpha: two\n")
    text = "base: [base.yaml]\nloss: {classification: {activation: softmx}}\ntrain:\n  seed: -1\n"
    path = write(tmp_path, "exp.yaml", text)
    with pytest.raises(InputError) as error:
        load(path, ["optimizer.lr=0", "xyz.x=3"])
    known = ", ".join(Config.model_fields)
    assert sorted(lines_of(error)) == sorted(
        [
            f"{base}:3: loss.classification.gama: unknown key 'gama'; did you mean 'gamma'?",
            f'{base}:4: loss.classification.alpha: found "two", it should be a finite number, '
            "or null",
            f'{path}:2: loss.classification.activation: found "softmx", '
            "it should be 'sigmoid' or 'softmax'; did you mean 'softmax'?",
            f"{path}:4: train.seed: found -1, it should be greater than or equal to 0",
            "--set optimizer.lr=0: optimizer.lr: found 0, it should be greater than 0",
            f"--set xyz.x=3: xyz: unknown key 'xyz'; known: {known}",
        ]
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {resize: {width: 3, height: 3, hieght: 4}}", "did you mean 'height'?"),
        ("data: {resize: {shortr: 3}}", "did you mean 'shorter'?"),
        ("loss: cross_entropy", "name configs/losses/cross_entropy.yaml in base: of your config"),
        ("loss: {classification: focal_loss}", "name configs/losses/focal.yaml in base:"),
        ("loss: mine", "name one of configs/losses/ in base: of your config"),
        ("loss: {classification: {sampling: {kind: ohm}}}", "did you mean 'ohem'?"),
        (
            "loss: {classification: {sampling: {kind: random, ratio: 3}}}",
            "sampling.ratio: unknown key 'ratio'; known: kind, per_image, positive_fraction",
        ),
        ("data: {augment: [{kind: mixup}, {kind: mosaik}]}", "did you mean 'mosaic'?"),
        (
            "data:\n  augment:\n  - {kind: flip}\n  - {kind: mixup, strength: 1}",
            "exp.yaml:4: data.augment.1.strength: unknown key 'strength'; "
            "known: kind, probability, beta",
        ),
        ("model: {backbone: {name: resnet5}}", "did you mean 'resnet50'?"),
        ("anchors:\n  sizes: [32,\n    x]", "exp.yaml:3: anchors.sizes.1: found"),
        ("optimizer: {lr: 1}\noptimizer: {lr: 2}", "exp.yaml:2: optimizer: given twice"),
        ("train: {seed: 1,\n  seed: 1}", "exp.yaml:2: train.seed: given twice, first at"),
        ("train: {seed: &a 1, log_every: *a}", "exp.yaml:1: this is not valid YAML: aliases"),
        ("train: {seed: 1", "exp.yaml:1: this is not valid YAML"),
        ("train: {seed: !!python/name:os.system x}", "cannot be read as"),
        ("? [a]\n: 1", "exp.yaml:1: a key must be a word"),
        ("[1, 2]", "exp.yaml:1: found [1, 2], a config is a mapping"),
        ("# nothing", "exp.yaml:1: found nothing, a config is a mapping"),
        ("[" * 5000, "exp.yaml:1: this is not valid YAML"),
        ("base: [a.yaml]", "unknown key 'base'"),
    ],
)
def test_messages_name_place_and_remedy(text: str, words: str) -> None:
    message = refusal(text)
    assert message.startswith("exp.yaml:")
    assert words in message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path, "digits.yaml", "{}")
    cases = {
        "digit.yaml": "digit.yaml: there is no such file; did you mean 'digits.yaml'?",
        ".": "cannot be read",
        write(tmp_path, "a.yaml", "\nbase: [digit.yaml]").name: "a.yaml:2: base: there is no file",
        write(tmp_path, "b.yaml", "base: digits.yaml").name: "b.yaml:1: base: found",
    }
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\xfa")
    for name, words in {**cases, "c.yaml": "not a text file"}.items():
        with pytest.raises(InputError) as error:
            load(tmp_path / name)
        assert words in str(error.value)


@pytest.mark.parametrize("override", ["train.seed", "train.seed={", "=1", "train..seed=1"])
def test_overrides_that_make_no_sense_are_named(override: str) -> None:
    with pytest.raises(InputError) as error:
        load(CONFIGS / "retinanet.yaml", [override])
    assert str(error.value).startswith(f"--set {override}: ")
