"""From an ablation's file to its variants, and what is refused."""

from pathlib import Path

import pytest
from conftest import HOME

from detector import build
from detector.errors import InputError
from detector.lab.plan import Plan

ABLATIONS = sorted((HOME / "configs" / "ablations").glob("*.yaml"))
DIGITS = HOME / "configs" / "digits.yaml"
GAMMAS = "{a: {set: [loss.classification.gamma=0]}, b: {set: [loss.classification.gamma=1]}}"


def read(folder: Path, text: str, *more: str) -> Plan:
    file = folder / "ablation.yaml"
    file.write_text(f"config: {DIGITS}\n{text}\n")
    return Plan.read(file, more, load=build.load_config)


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_every_ablation_of_ours_builds(path: Path) -> None:
    plan = Plan.read(path, [], load=build.load_config)
    assert len(plan.seeds) >= 3 and len(plan.variants) >= 2
    assert all(plan.differences(v) for v in plan.variants if v.name != plan.baseline)


def test_variants_differ_from_the_baseline_in_what_they_set(tmp_path: Path) -> None:
    plan = read(tmp_path, f"baseline: a\nset: [train.batch_size=4]\nvariants: {GAMMAS}")
    baseline, other = plan.variants
    assert plan.differences(baseline) == {}
    assert plan.differences(other) == {"loss.classification.gamma": (0.0, 1.0)}
    assert {v.config.train.batch_size for v in plan.variants} == {4}


def test_a_grid_is_every_combination(tmp_path: Path) -> None:
    text = "grid: {loss.classification.gamma: [0, 2], loss.classification.alpha: [null, 0.25]}"
    plan = read(tmp_path, f"baseline: gamma=2,alpha=0.25\n{text}")
    losses = [v.config.loss.classification for v in plan.variants]
    assert [(loss.gamma, loss.alpha) for loss in losses] == [
        (0, None), (0, 0.25), (2, None), (2, 0.25),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("baseline: c\nvariants: " + GAMMAS, "baseline: found 'c', it should be one of .* a, b"),
        ("baseline: a\nvariants: {a: {}, b: {set: [loss.classification.gamma=2]}}",
         "variants 'a' and 'b' have the same config"),
        ("baseline: a\nvariants: {a: {sets: []}}", "variants.a.sets: unknown key .* 'set'"),
        ("baseline: a\nvariants: {a: {set: [loss.classification.gama=2]}}",
         "variant 'a': .*unknown key 'gama'; did you mean 'gamma'"),
        ("baseline: a\nvariants: {a: {}}\nseed: [1]", "seed: unknown key 'seed'.* 'seeds'"),
        ("baseline: a\nvariants: {a: {}}\nseeds: [1, 1]", "each should occur once"),
        ("baseline: a", "there are no variants"),
        ("baseline: a/b\nvariants: {a/b: {}}", "cannot be the name of a folder"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, text)


def test_the_digest_follows_what_is_run(tmp_path: Path) -> None:
    text = f"baseline: a\nvariants: {GAMMAS}"
    digest = read(tmp_path, text).digest()
    assert read(tmp_path, f"{text}\nseeds: [5]").digest() == digest
    assert read(tmp_path, text, "optimizer.lr=1").digest() != digest
