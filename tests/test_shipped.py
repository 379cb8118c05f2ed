"""Shipped configs by name: in --config, base: and an ablation's config:."""

from pathlib import Path

import pytest
from conftest import HOME

from detector import build, shipped
from detector.config import load
from detector.errors import InputError
from detector.lab.plan import Plan

BATCH = 16  # of configs/digits.yaml


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["digits.yaml", "configs/digits.yaml"])
def test_a_config_by_name(name: str) -> None:
    assert load(Path(name)) == load(HOME / "configs" / "digits.yaml")


def test_a_local_file_wins(tmp_path: Path) -> None:
    Path("digits.yaml").write_text("train: {batch_size: 4}")
    assert load(Path("digits.yaml")).train.batch_size == 4
    assert load(Path("retinanet.yaml")).train.batch_size == BATCH


def test_bases_by_name_beside_local_ones() -> None:
    Path("mine.yaml").write_text("base: [digits.yaml, losses/cross_entropy.yaml, small.yaml]")
    Path("small.yaml").write_text("train: {batch_size: 2}")
    found = load(Path("mine.yaml"))
    assert (found.train.batch_size, found.loss.classification.gamma) == (2, 0)
    assert found.model.backbone.name == "resnet18"


def test_ablations_by_name() -> None:
    plan = Plan.read(Path("ablations/gamma.yaml"), [], load=build.load_config)
    assert plan.config == HOME / "configs" / "digits.yaml"
    Path("mine.yaml").write_text("config: digits.yaml\nbaseline: a\nvariants: {a: {}}")
    assert Plan.read(Path("mine.yaml"), [], load=build.load_config).config == plan.config


@pytest.mark.parametrize("name", ["none.yaml", "../README.md", str(HOME / "none.yaml"), "losses"])
def test_what_is_not_shipped(name: str) -> None:
    """Nothing outside the folder, and no folder."""
    assert shipped.resolve(Path(name)) == Path(name)
    with pytest.raises(InputError, match="no such file.*shipped are digits.yaml"):
        load(Path(name))


def test_a_name_that_is_nearly_shipped() -> None:
    """The one near name, in place of a list; in `base:`, too."""
    with pytest.raises(InputError, match="did you mean 'digits.yaml'.$"):
        load(HOME / "configs" / "digts.yaml")
    Path("mine.yaml").write_text(f"base: ['{HOME}/configs/losses/crossentropy.yaml']")
    with pytest.raises(InputError, match="did you mean 'cross_entropy.yaml'.$"):
        load(Path("mine.yaml"))


def test_missing_data_name_their_key() -> None:
    with pytest.raises(InputError, match=r"train\.json: .*data\.train\.annotations.*digits\.py"):
        build.data_index(load(Path("digits.yaml")), "train")
