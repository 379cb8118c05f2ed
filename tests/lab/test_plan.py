"""From an ablation's file to its variants, and what is refused."""

import dataclasses
import json
from pathlib import Path

import pytest
from conftest import HOME

from detector import build
from detector.cli.ablation_runs import describe, runs_of, trials_of
from detector.config import Config
from detector.config.schema import TrainSettings
from detector.errors import InputError
from detector.lab.placement import Placement
from detector.lab.plan import Plan

ABLATIONS = sorted((HOME / "configs" / "ablations").glob("*.yaml"))
DIGITS = HOME / "configs" / "digits.yaml"
GAMMAS = "{a: {set: [loss.classification.gamma=0]}, b: {set: [loss.classification.gamma=1]}}"


def read(folder: Path, text: str, *more: str) -> Plan:
    file = folder / "ablation.yaml"
    file.write_text(f"config: {DIGITS}\n{text}\n")
    return Plan.read(file, more, load=build.load_config)


def alone(plan: Plan) -> Placement:
    return Placement.of(plan, (), workers=1)


def identity(plan: Plan) -> str:
    return json.dumps(plan.identity(), sort_keys=True)


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_every_ablation_of_ours_builds(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "data_index", lambda config, part: range(4000))
    plan = Plan.read(path, [], load=build.load_config)
    least = 1 if path.stem.endswith("_tuning") else 3  # what they say is not reported
    assert len(plan.seeds) >= least and len(plan.variants) >= 2
    assert all(plan.differences(v) for v in plan.variants if v.name != plan.baseline)
    assert all(v.question for v in plan.variants)
    lines = path.read_text().splitlines()
    for line, word in zip(lines, ("For", "Expect", "Measured"), strict=False):
        assert line.startswith(f"# {word}: ")
    said = describe(plan, tmp_path, alone(plan))
    assert all(v.question in said for v in plan.variants)
    runs = len(plan.seeds) * len(plan.variants) + sum(len(v.trials) for v in plan.variants)
    assert said.count("-m detector train ") == runs


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


@pytest.mark.parametrize("metric", ["AP75", "loss", "loss/box", "AP/red cell"])
def test_metrics(tmp_path: Path, metric: str) -> None:
    assert read(tmp_path, f"baseline: a\nmetric: {metric}\nvariants: {GAMMAS}").metric == metric


def test_trials_are_every_combination_over_the_variant(tmp_path: Path) -> None:
    text = (
        "baseline: a\nvariants: {a: {set: [optimizer.lr=0.5, loss.classification.gamma=1], "
        "tune: {optimizer.lr: [0.1, 0.5], optimizer.clip_norm: [null, 2]}}}"
    )
    (variant,) = read(tmp_path, text, "optimizer.lr=7").variants
    assert variant.config.optimizer.lr == 7
    assert [trial.name for trial in variant.trials] == [
        "lr=0.1,clip_norm=null",
        "lr=0.1,clip_norm=2",
        "lr=0.5,clip_norm=null",
        "lr=0.5,clip_norm=2",
    ]
    rates = [(t.config.optimizer.lr, t.config.optimizer.clip_norm) for t in variant.trials]
    assert rates == [(0.1, None), (0.1, 2), (0.5, None), (0.5, 2)]
    assert {t.config.loss.classification.gamma for t in variant.trials} == {1}
    tuned = variant.tuned(variant.trials[1])
    assert (tuned.name, tuned.config) == ("a_tuned", variant.trials[1].config)
    assert tuned.changes[-3:] == ("optimizer.lr=7", "optimizer.lr=0.1", "optimizer.clip_norm=2")


@pytest.mark.parametrize(
    "text", ["base: [digits.yaml]\n", "train: {seed: 1}\nloss: {box: {weight: 2}}\n"]
)
def test_a_training_config_is_called_one(tmp_path: Path, text: str) -> None:
    """In one line, rather than in one for each key that an ablation has not."""
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match="^.*mine.yaml: this is a training config; ablate takes"):
        Plan.read(file, [], load=build.load_config)


def test_what_leaves_a_loss_as_it_is_may_be_tuned_by_it(tmp_path: Path) -> None:
    text = (
        "baseline: a\nmetric: loss/box\nvariants: {a: {tune: {loss.classification.weight: [1, 2]}}}"
    )
    assert len(read(tmp_path, text).variants[0].trials) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("baseline: c\nvariants: " + GAMMAS,
         "ablation.yaml:2: baseline: found 'c', it should be one of .* a, b"),
        ("baseline: a\nvariants: {a: {}, b: {set: [loss.classification.gamma=2]}}",
         "variants 'a' and 'b' have the same config"),
        ("baseline: a\nvariants: {a: {sets: []}}", "variants.a.sets: unknown key .* 'set'"),
        ("baseline: a\nvariants:\n  a:\n    set:\n    - train.ema=null\n    - loss.box.wait=2",
         r"ablation.yaml: variant 'a': \S*ablation.yaml:7: loss.box.wait: unknown key 'wait'"),
        ("baseline: a\nset: [loss.classification.gama=2]\nvariants: {a: {}}",
         "ablation.yaml: variant 'a': .*ablation.yaml:3: .*'gama'; did you mean 'gamma'"),
        ("baseline: a\nvariants: {a: {set: [train.ema]}}",
         r"ablation.yaml:3: found 'train.ema', it should be key=value"),
        ("baseline: a\nvariants: {a: {}}\nseed: [1]", "seed: unknown key 'seed'.* 'seeds'"),
        ("baseline: a\nvariants: {a: {}}\nseeds: [1, 1]",
         r"ablation.yaml:4: seeds: found \[1, 1\], each should occur once"),
        ("baseline: a\nvariants: {a: {published: {valeu: 0.3, source: x}}}",
         "variants.a.published.valeu: unknown key 'valeu'; did you mean 'value'"),
        ("baseline: a\nvariants: {a: {published: {value: 34.0, source: x}}}",
         r"variants.a.published.value is 34.0, and AP is a fraction from 0 to 1: 0.34\?"),
        ("baseline: a", "there are no variants"),
        ("baseline: a/b\nvariants: {a/b: {}}", "cannot be the name of a folder"),
        ("baseline: a\nvariants: {a: {}}\nmetric: AP_50",
         r"ablation.yaml:4: metric: found 'AP_50', .*AP75.*or AP/CLASS; did you mean 'AP50'\?"),
        ("baseline: a\nvariants: {a: {}}\nmetric: AP/", "metric: found 'AP/'"),
        ("baseline: a\nvariants: {a: {}}\nmetric: AP5O", r"did you mean 'AP50'\?"),
        ("baseline: gamma=1\nvariants: {gamma=1: {}}\ngrid: {loss.classification.gamma: [1, 3]}",
         "2 variants have the name 'gamma=1'"),
        ("baseline: a\nvariants: {a: {tune: {train.ema: [0.9]}}, a_tuned: {set: [train.ema=0.8]}}",
         "2 variants have the name 'a_tuned'"),
        ("baseline: a\nvariants: {a: {tune: {optimizer.rate: [1, 2]}}}",
         "variant 'a': .*ablation.yaml:3: .*unknown key 'rate'"),
        ("baseline: a\nvariants:\n  a: {tune: {optimizer.lr: [1,\n 0]}}",
         r"variant 'a': .*ablation.yaml:5: optimizer.lr: "),
        ("baseline: gamma=1\ngrid:\n  loss.classification.gamma: [1,\n -1]",
         r"variant 'gamma=-1': .*ablation.yaml:5: loss.classification.gamma: "),
        ("baseline: a\nmetric: loss\nvariants: {a: {tune: {loss.classification.weight: [1, 2]}}}",
         "variant 'a': it tunes loss.classification.weight by loss, .* tune by an AP"),
        ("baseline: a\nvariants: {a: {tune: {optimizer.lr: []}}}", "variants.a.tune.optimizer.lr"),
        ("baseline: a\nvariants: {a: {tune: {data.resize: [{width: 9, height: 9}]}}}",
         "cannot be the name of a folder"),
        ("baseline: a\nvariants: {a: {}}\ntuning_share: 1", "tuning_share"),
        ("baseline: a\nseeds: [0, 7]\ntuning_seeds: [7]\n"
         "variants: {a: {tune: {train.ema: [0.9]}}}", "share 7"),
        ("variants: {a: {}}", "baseline and contrasts are both null; name the variant"),
        (f"contrasts: [[a, b], [a, c]]\nvariants: {GAMMAS}",
         "ablation.yaml:2: contrasts: found 'c', it should be one of the variants: a, b"),
        # both differences have it, so that it is in neither
        (f"contrasts:\n- [[a, wrong], [b, wrong]]\nvariants: {GAMMAS}",
         "ablation.yaml:3: contrasts: found 'wrong'"),
        ("contrasts: [[focall, b]]\nvariants: {focal: {}, b: {set: [train.ema=0.9]}}",
         "found 'focall'.*did you mean 'focal'"),
        (f"contrasts: [[a, a_tuned]]\nvariants: {GAMMAS}", "found 'a_tuned'"),
        (f"contrasts: [[a, b, b]]\nvariants: {GAMMAS}", r"contrasts.0: found \[.*\[a, b\], for"),
        (f"contrasts: [[a, [b, a]]]\nvariants: {GAMMAS}", r"contrasts.0: found \[.*\[a, b\], for"),
        (f"contrasts: []\nvariants: {GAMMAS}", r"contrasts: found \[\]"),
        (f"contrasts: [[a, a]]\nvariants: {GAMMAS}", "a - a is 0 whatever is found"),
        (f"contrasts:\n- [a, b]\n- [b, a]\nvariants: {GAMMAS}",
         "ablation.yaml:4: contrasts: b - a tests the same as a - b"),
        ("baseline: a\nvariants: {a: {}}\nmargin: 0", "ablation.yaml:4: margin"),
        ("baseline: a\nvariants: {a: {}}\nmetrics:\n- AP75\n- AP_50",
         "ablation.yaml:6: metrics: found 'AP_50'.*did you mean 'AP50'"),
        ("baseline: a\nvariants: {a: {}}\nexternal: {x: [x.json]}",
         "external.x has 1 files, and there are 3 seeds"),
        ("baseline: a\nvariants: {a: {}}\nexternal: {x: [x.json, y.json, x.json]}",
         "external.x names x.json 2 times; each seed needs detections of a training of its own"),
        ("baseline: a\nvariants: {a: {}}\nexternal: {a: [1.json, 2.json, 3.json]}",
         "2 variants have the name 'a'"),
        ("baseline: a\ntuning_share: null\nvariants: {a: {tune: {train.ema: [0.9]}}}",
         "chosen on the images that are reported"),
        ("baseline: a\nvariants: {a: {set: [loss.classification.activation=softmax]}}",
         "ablation.yaml: variant 'a': .*digits.yaml: loss.classification: a softmax"),
        ("baseline: a\nvariants: {a: {}, b: {set: ['train={seed: 7}']}}",
         "variants 'a' and 'b' have the same config"),
        ("baseline: a\nmetric: loss/box\nvariants: {a: {tune: {matching.foreground: [0.5, 0.6]}}}",
         "it tunes matching.foreground by loss/box"),
        ("baseline: a\nvariants: {a: {set: [loss.classification.gamma=-1]}}\n"
         "grid:\n  loss.classification.gamma: [-1]", "variant 'a': .*ablation.yaml:3: loss"),
        ("baseline: a\nvariants: {a: {}, b: {set: [train.seed=7]}}",
         "ablation.yaml: variant 'b': train.seed cannot be set .* the seeds are those of `seeds`"),
        ("baseline: a\nset: [' train.seed =7']\nvariants: {a: {}}", "train.seed cannot be set"),
        ("baseline: a\nvariants: {a: {tune: {train.seed: [1, 2]}}}", "train.seed cannot be set"),
        ("baseline: seed=1\ngrid: {train.seed: [1, 2]}", "train.seed cannot be set"),
        ("baseline: a\nvariants: {a: {}, b: {set: [data.tuning=0.3]}}",
         "variant 'b': data.tuning cannot be set .* `tuning_share`"),
        ("baseline: a\nvariants: {a: {tune: {data.tuning: [0.1, 0.2]}}}",
         "data.tuning cannot be set or tuned"),
        ("baseline: a\nset: ['data={tuning: 0.3}']\n"
         "variants: {a: {tune: {optimizer.lr: [1, 2]}}}", "data.tuning is 0.3 in .*digits.yaml"),
        ("baseline: a\nvariants: {a: {tune: {optimizer.lr: [0.1, 0.2, 0.1]}}}",
         "trials of 'a': 'lr=0.1' and 'lr=0.1' have the same config"),
        ("baseline: a\nvariants: {a: {tune: {optimizer.lr: [1, 1.0]}}}",
         "'lr=1' and 'lr=1.0' have the same config"),
        ("baseline: a\nvariants: {a: {}}\ngpus_per_run: 0", "ablation.yaml:4: gpus_per_run"),
        ("baseline: a\ngpus_per_run: 2\nset: [optimizer.accumulate=2]\n"
         "variants: {a: {tune: {train.batch_size: [8, 6]}}}",
         "variant 'a': train.batch_size is 6, .*gpus_per_run.* is 4; choose a multiple"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, text)


DRAWN = """baseline: a
seeds: [3, 4]
tuning_seeds: [8, 9]
tuning_share: null
set: ["data.train.annotations=train_{seed}.json", "data.val.annotations=val_{seed}.json"]
variants:
  a: {tune: {optimizer.lr: [1, 2]}}
  b: {set: ["data.train.images=b_{seed}"]}
"""


def test_each_seed_has_its_own_data(tmp_path: Path) -> None:
    plan = read(tmp_path, DRAWN)
    runs = {run.name: run.stages[0].command for run in runs_of(plan, tmp_path, alone(plan))}
    assert "data.train.images=b_4" in runs["b, seed 4"]
    assert "data.val.annotations=val_3.json" in runs["a, seed 3"]
    assert not any("{seed}" in word for command in runs.values() for word in command)
    # what differs between variants is not what differs between seeds
    assert set(plan.differences(plan.variants[1])) == {"data.train.images"}
    assert identity(plan) != identity(read(tmp_path, DRAWN.replace("b_{seed}", "b_3")))


def test_trials_have_seeds_and_data_of_their_own(tmp_path: Path) -> None:
    plan = read(tmp_path, DRAWN)
    trials = trials_of(plan, tmp_path, alone(plan))
    assert [(run.variant, run.seed) for run in trials] == [
        ("tuning/a/lr=1", 8), ("tuning/a/lr=2", 8), ("tuning/a/lr=1", 9), ("tuning/a/lr=2", 9),
    ]  # fmt: skip
    words = trials[2].stages[0].command
    assert {"data.val.annotations=val_9.json", "train.seed=9", "optimizer.lr=1"} <= set(words)
    assert not any(word.startswith("data.tuning") for word in words)  # all images, as in the runs


FOUR = """variants:
  a: {tune: {optimizer.lr: [1, 2]}}
  b: {set: [loss.classification.gamma=1]}
  c: {set: [loss.classification.gamma=3]}
  d: {set: [loss.classification.gamma=4], tune: {optimizer.lr: [1, 2]}}
"""


def coefficients(plan: Plan) -> dict[str, dict[str, int]]:
    return {contrast.name: dict(contrast.coefficients) for contrast in plan.contrasts}


def test_contrasts_by_hand(tmp_path: Path) -> None:
    plan = read(tmp_path, f"contrasts: [[b, a], [[a, b], [c, d]], [[a, b], [b, c]]]\n{FOUR}")
    assert coefficients(plan) == {
        "b - a": {"b": 1, "a": -1},
        "(a - b) - (c - d)": {"a": 1, "b": -1, "c": -1, "d": 1},
        "(a - b) - (b - c)": {"a": 1, "b": -2, "c": 1},
    }
    assert plan.baseline == "a"  # the first, for want of another


def test_without_contrasts_each_is_compared_with_the_baseline(tmp_path: Path) -> None:
    external = "external: {theirs: [1.json, 2.json, 3.json]}"
    plan = read(tmp_path, f"baseline: b\n{external}\nvariants: {GAMMAS}")
    assert coefficients(plan) == {"a - b": {"a": 1, "b": -1}, "theirs - b": {"theirs": 1, "b": -1}}
    assert (plan.margin, plan.metrics) == (None, ())
    (theirs,) = plan.external
    assert theirs.files == {0: Path("1.json"), 1: Path("2.json"), 2: Path("3.json")}


def test_contrasts_of_what_tuning_chose(tmp_path: Path) -> None:
    """The best of a is another value than its own, the best of d its own."""
    plan = read(tmp_path, "contrasts: [[a_tuned, d_tuned], [d_tuned, d], [a, d_tuned], [d, a]]\n"
                "set: [optimizer.lr=2]\n" + FOUR)  # fmt: skip
    a, _, _, d = plan.variants
    chosen = plan.with_best({"a": a.trials[0], "d": d.trials[1]})
    assert [v.name for v in chosen.variants] == ["a", "b", "c", "d", "a_tuned"]
    assert coefficients(chosen) == {
        "a_tuned - d_tuned": {"a_tuned": 1, "d": -1},
        "a - d_tuned": {"a": 1, "d": -1},  # and d - a asks the same
    }


def test_a_later_addition_takes_no_test_away(tmp_path: Path) -> None:
    """a - d was added when a_tuned - d_tuned was declared, and both turn out to be the same."""
    text = "contrasts: [[a, d], [a_tuned, d_tuned]]\nset: [optimizer.lr=2]\n"
    plan = read(tmp_path, text + FOUR)
    added, declared = plan.contrasts
    plan = dataclasses.replace(
        plan, contrasts=(dataclasses.replace(added, planned=False), declared)
    )
    own = {"a": plan.variants[0].trials[1], "d": plan.variants[3].trials[1]}
    (kept,) = plan.with_best(own).contrasts
    assert (kept.name, kept.planned) == ("a_tuned - d_tuned", True)


def test_frozen_epochs_of_trials_would_be_shorter(tmp_path: Path) -> None:
    frozen = "set: [model.backbone.frozen_epochs=1, model.backbone.weights=imagenet]\n"
    tuned = "baseline: a\nvariants: {a: {tune: {optimizer.lr: [1, 2]}}}\n"
    with pytest.raises(InputError, match="frozen_epochs is 1, and an epoch of a trial is shorter"):
        read(tmp_path, frozen + tuned)
    drawn = "set: ['data.val.annotations={seed}.json', model.backbone.frozen_epochs=1, "
    drawn += "model.backbone.weights=imagenet]\ntuning_share: null\n"
    assert read(tmp_path, drawn + tuned).by_seed == ("data.val.annotations={seed}.json",)


def test_a_trial_takes_as_many_steps_as_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """103 images make 6 steps of 16, 12 of 8; of the 82 that a fifth less leaves, 5 and 10."""
    monkeypatch.setattr(build, "data_index", lambda config, part: range(103))
    text = "baseline: a\nset: ['schedule={epochs: 12, kind: step, milestones: [8, 11]}']\n"
    tune = "variants: {a: {tune: {train.batch_size: [16, 8]}}}"
    trials = trials_of(plan := read(tmp_path, text + tune), tmp_path, alone(plan))
    for trial, steps, milestones in zip(trials, (72, 144), ([48, 66], [96, 132]), strict=True):
        words = trial.stages[0].command
        config = build.load_config(DIGITS, words[words.index("--set") + 1 :])
        assert (config.schedule.steps, config.schedule.epochs) == (steps, None)
        assert list(config.schedule.milestones) == milestones and config.data.tuning == 0.2
    stated = read(tmp_path, text.replace("epochs: 12", "epochs: null, steps: 12") + tune)
    words = trials_of(stated, tmp_path, alone(stated))[0].stages[0].command
    assert not any(word.startswith("schedule.steps=") for word in words)


def test_detections_from_elsewhere_need_a_validation_set(tmp_path: Path) -> None:
    text = f"baseline: a\nexternal: {{x: [x.json]}}\nseeds: [0]\nvariants: {GAMMAS}\n"
    with pytest.raises(InputError, match=r"yaml:3: external: .* data\.folds"):
        read(tmp_path, text, "data.folds={count: 2, fold: 0}")
    with pytest.raises(InputError, match="metric is loss, which detections"):
        read(tmp_path, f"{text}metric: loss")


def test_the_base_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "ablation.yaml"
    file.write_text("baseline: a\nconfig: gone.yaml\nvariants: {a: {}}\n")
    said = rf"ablation.yaml:2: config: there is no file {tmp_path}/gone.yaml; "
    with pytest.raises(InputError, match=said):
        Plan.read(file, [], load=build.load_config)


def test_an_override_of_the_command_line_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="variant 'a': --set train.emma=1: "):
        read(tmp_path, f"baseline: a\nvariants: {GAMMAS}", "train.emma=1")


def test_the_seed_is_refused_on_the_command_line_and_comes_last(tmp_path: Path) -> None:
    text = f"baseline: a\nvariants: {GAMMAS}"
    with pytest.raises(InputError, match=r"train\.seed cannot be set"):
        read(tmp_path, text, "train.seed=7")
    plan = read(tmp_path, f"{text}\nseeds: [4]", "train={seed: 7}")
    for run in runs_of(plan, tmp_path, alone(plan)):
        changes = run.stages[0].command
        assert changes[-1] == "train.seed=4" and "train={seed: 7}" in changes


def test_a_new_key_with_a_default_does_not_change_who_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class GrownTrain(TrainSettings):
        new: int = 3

    class GrownConfig(Config):
        train: GrownTrain = GrownTrain()  # type: ignore[assignment]

    plan = read(tmp_path, f"baseline: a\nvariants: {GAMMAS}")
    found = [identity(plan)]
    monkeypatch.setattr("detector.lab.plan.Config", GrownConfig)
    for new in (3, 4):
        trains = [GrownTrain(**dict(v.config.train), new=new) for v in plan.variants]
        grown = tuple(
            dataclasses.replace(v, config=GrownConfig(**dict(v.config) | {"train": train}))
            for v, train in zip(plan.variants, trains, strict=True)
        )
        found.append(identity(dataclasses.replace(plan, variants=grown)))
    assert found[0] == found[1] != found[2]


def test_the_identity_tells_alternatives_with_their_defaults_apart(tmp_path: Path) -> None:
    text = f"baseline: a\nvariants: {GAMMAS}"
    found = {
        identity(read(tmp_path, text, f"loss.classification.sampling={s}"))
        for s in ("{kind: all}", "{kind: ohem}", "{kind: random}", "{kind: ohem, per_image: 9}")
    }
    assert len(found) == 4


def test_the_identity_follows_what_is_run(tmp_path: Path) -> None:
    text = f"baseline: a\nvariants: {GAMMAS}"
    own = identity(read(tmp_path, text))
    assert identity(read(tmp_path, f"{text}\nseeds: [5]")) == own
    assert identity(read(tmp_path, text, "optimizer.lr=1")) != own
    other = f"baseline: b\nmetric: loss\nvariants: {GAMMAS}"
    assert identity(read(tmp_path, other)) == own  # the same runs, read otherwise
    tuned = text.replace("a: {", "a: {tune: {optimizer.lr: [1, 2]}, ")
    assert len({own, identity(read(tmp_path, tuned)),
                identity(read(tmp_path, tuned.replace("[1, 2]", "[1, 3]"))),
                identity(read(tmp_path, f"{tuned}\nmetric: loss")),
                identity(read(tmp_path, f"{tuned}\ntuning_share: 0.3"))}) == 5  # fmt: skip
    assert identity(read(tmp_path, f"{text}\ngpus_per_run: 1")) == own
    assert identity(read(tmp_path, f"{text}\ngpus_per_run: 2")) != own
