"""From a config's words to the loss, and what a checkpoint keeps of it."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import yaml
from conftest import Command
from loss_cases import example, logits_for

from detector import build
from detector.config import parse
from detector.engine import checkpoint
from detector.errors import InputError
from detector.loss.by_class import ClassWeighted, Equalized, effective_number_weights
from detector.loss.detection import DetectionLoss
from detector.loss.elementwise import ElementwiseLoss
from detector.loss.focal import Focal, Poly1, QualityFocal, Smoothed, Varifocal
from detector.loss.ghm import GHMC
from detector.trained import Trained
from detector.training import Assembly

HOME = Path(__file__).parents[2]
LOSS = "validation/loss/classification"


def criterion(keys: str, counts: Sequence[int] | None = None) -> DetectionLoss:
    config = parse(f"loss: {{classification: {{{keys}}}}}", "exp.yaml")
    boxes = None if counts is None else torch.tensor(counts)
    return build.criterion(config, build.class_code(config, 3), boxes)


@pytest.mark.parametrize(
    ("keys", "elementwise"),
    [
        ("", Focal(alpha=0.25, gamma=2)),
        ("kind: focal, alpha: null, gamma: 0", Focal(alpha=None, gamma=0)),
        ("kind: poly, epsilon: -1", Poly1(epsilon=-1, alpha=0.25, gamma=2)),
        ("kind: poly, epsilon: 0, gamma: 0", Poly1(epsilon=0, alpha=0.25, gamma=0)),
        ("smoothing: 0.1", Smoothed(elementwise=Focal(), epsilon=0.1)),
        (
            "smoothing: 0.1, kind: poly, gamma: 0, alpha: null",
            Smoothed(elementwise=Poly1(epsilon=1), epsilon=0.1),
        ),
        ("kind: quality_focal", QualityFocal()),
        ("kind: quality_focal, alpha: 0.25, gamma: 1", QualityFocal(alpha=0.25, gamma=1)),
        ("kind: varifocal, gamma: 1, alpha: null", Varifocal(gamma=1, alpha=None)),
    ],
)
def test_from_its_keys(keys: str, elementwise: ElementwiseLoss) -> None:
    assert criterion(keys).classification.elementwise == elementwise


def test_those_with_buffers() -> None:
    ghm = criterion("kind: ghm, bins: 7").classification.elementwise
    assert isinstance(ghm, GHMC) and (ghm.bins, ghm.momentum) == (7, 0.75)
    both = criterion("kind: varifocal, class_weights: [1, 2, 3], equalization: 0.2", [90, 9, 1])
    gate = both.classification.elementwise
    assert isinstance(gate, Equalized) and gate.rare.tolist() == [0, 1, 1]
    weighted = gate.elementwise
    assert isinstance(weighted, ClassWeighted) and weighted.weights.tolist() == [1, 2, 3]
    assert weighted.elementwise == Varifocal() and gate.reads_quality


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("kind: ghm, gamma: 0", "classification.gamma: unknown key 'gamma'; known: kind"),
        ("kind: ghm, sampling: {kind: ohem}", "set sampling to {kind: all}"),
        ("kind: varifocal, epsilon: 1", "unknown key 'epsilon'"),
        ("kind: quality_focal, activation: softmax, background: class", "activation to sigmoid"),
        ("kind: varifocal, background: class", "set background to negatives or ignored"),
        ("equalization: 0.1, activation: softmax, background: class", "set activation to sigmoid"),
        ("class_weights: [1], effective_number: 0.9", "set one of them to null"),
        ("class_weights: []", "found []"),
        ("class_weights: [1, 0]", "class_weights.1: found 0, it should be greater than 0"),
        ("effective_number: 1", "it should be less than 1"),
        ("smoothing: 1", "it should be less than 1"),
        ("kind: poly, epsilon: -2", "it should be greater than or equal to -1"),
        ("kind: gmh", "classification.kind: found 'gmh', it should be focal, poly, ghm"),
        ("kind: gmh", "did you mean 'ghm'?"),
        (
            "kind: [focal]",
            """kind: found '["focal"]', it should be focal, poly, ghm""",
        ),
        ("kind: null", "classification.kind: found 'null', it should be focal, poly, ghm"),
        ("kind: ':Own'", "cannot be imported: ValueError: Empty module name"),
        ("kind: '.own:Own'", "cannot be imported: TypeError"),
        ("kind: 'no_such_module:Own'", "cannot be imported: ModuleNotFoundError: No module named"),
        ("kind: 'math:Own'", "cannot be imported: AttributeError: module 'math' has no"),
        ("kind: 'math:pi'", "it should be a subclass of ElementwiseSettings"),
        ("kind: 'detector:ElementwiseSettings'", "which lacks elementwise()"),
        ("leaf: ghm", "unknown key 'leaf'; it is named kind now"),
        ("poly: 1", "unknown key 'poly'; it is a kind of its own now"),
        ("class_weights: [1, 2]", "has 2 numbers, and the annotations have 3 classes"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(keys: str, words: str) -> None:
    with pytest.raises(InputError) as refusal:
        criterion(keys)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_class_weights_do_not_need_the_data_to_be_loaded() -> None:
    key = "loss.classification.class_weights=[1, 2]"
    loaded = build.load_config(HOME / "configs/digits.yaml", [key])
    assert loaded.loss.classification.class_weights == (1, 2)


@pytest.mark.parametrize("keys", ["effective_number: 0.9", "equalization: 0.2"])
def test_weights_come_from_training_boxes_or_from_the_checkpoint(keys: str) -> None:
    """Without either they are not a number, and no figure can come of them unnoticed."""
    targets = example()
    trained, other = criterion(keys, [90, 9, 1]).classification, criterion(keys).classification
    logits = logits_for(targets, trained.code)
    losses = trained(logits, targets)
    assert losses.isfinite().all() and other(logits, targets).isnan().any()
    other.load_state_dict(trained.state_dict())
    assert other(logits, targets).equal(losses)


def test_boxes_are_counted_in_the_training_data(tiny: list[str], digits: Path) -> None:
    truth = json.loads((digits / "annotations/train.json").read_text())["annotations"]
    counts = torch.tensor([sum(a["category_id"] == k for a in truth) for k in range(1, 11)])
    changes = [*tiny, "loss.classification.effective_number=0.9"]
    config = build.load_config(HOME / "configs/digits.yaml", changes)
    loss = Assembly(config, Path("unused"), torch.device("cpu")).step.criterion
    expected = effective_number_weights(counts, beta=0.9).float()
    torch.testing.assert_close(loss.classification.elementwise.weights, expected)


def test_a_run_is_evaluated_with_the_weights_that_it_was_trained_with(
    tool: Callable[..., object], tiny: list[str], tmp_path: Path
) -> None:
    """The training data may be gone; another number of bins is refused in one sentence."""
    ghm = "loss.classification={kind: ghm, effective_number: 0.9}"
    words = [word for change in [*tiny, "schedule.steps=2", ghm] for word in ("--set", change)]
    run = tmp_path / "run"
    tool("train", "--config", HOME / "configs/digits.yaml", *words, "--output", run)
    gone = ["data.train.images=null", "data.train.annotations=null"]
    trained = Trained.from_run(run, "last", gone)
    elementwise = trained.criterion.classification.elementwise
    assert elementwise.weights.isfinite().all() and elementwise.weights.std() > 0
    assert elementwise.elementwise.shares.sum().item() == pytest.approx(1, abs=0.2)
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    (noted,) = (x[LOSS] for x in lines if LOSS in x)
    found = trained.evaluator(trained.validation()).run(trained.net).losses["loss/classification"]
    assert found == pytest.approx(noted, rel=1e-5)
    with pytest.raises(InputError, match="evaluate it with the run's own loss"):
        Trained.from_run(run, "last", [*gone, "loss.classification.bins=10"])


OLD = """loss:
  classification: {activation: sigmoid, background: class, alpha: %s, gamma: %s, leaf: %s,
    ghm: {bins: 7, momentum: 0.5}, poly: %s, smoothing: 0.0, class_weights: null,
    effective_number: null, equalization: null, sampling: {kind: all}, normalizer: sampled,
    prior: 0.1, weight: 3.0}
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((0.3, 1.0, "focal", "null"), "kind: focal, alpha: 0.3, gamma: 1"),
        ((0.3, 1.0, "focal", 2.0), "kind: poly, alpha: 0.3, gamma: 1, epsilon: 2"),
        (("null", 0.0, "ghm", "null"), "kind: ghm, bins: 7, momentum: 0.5"),
        (("null", 1.0, "quality_focal", "null"), "kind: quality_focal, gamma: 1"),
    ],
)
def test_the_written_config_of_an_older_run_is_read(old: tuple[object, ...], new: str) -> None:
    """Before 2026-12 each config had the keys of all kinds, and `leaf` said which."""
    same = f"{new}, background: class, normalizer: sampled, prior: 0.1, weight: 3"
    expected = parse(f"loss: {{classification: {{{same}}}}}", "new.yaml")
    assert parse(OLD % old, "runs/old/config.yaml") == expected


BROKEN = {
    "its code": ("def", "SyntaxError: "),
    "a name": ("x = 1\ny = z\n", "NameError: name 'z' is not defined"),
    "a value": ("raise ValueError('bad table')", "ValueError: bad table"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_users_module_that_fails_is_one_sentence(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the module, its file and line, and what to do; sys.path stays as it was."""
    text, words = BROKEN[case]
    name = f"broken_{case.replace(' ', '_')}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    with pytest.raises(InputError) as refusal:
        criterion(f"kind: '{name}:Own'")
    said = str(refusal.value)
    expected = (words, f"'{name}:Own'", ", line ", "correct the module")
    assert all(word in said for word in expected), said
    assert sys.path == before


def test_a_run_of_older_code_goes_on(tool: Command, tiny: list[str], tmp_path: Path) -> None:
    """Its config.yaml is read by every command, and --resume takes it as it stands."""
    run = tmp_path / "run"
    words = ["--config", HOME / "configs/digits.yaml", "--output", run]
    assert tool("train", *words, "--set", *tiny, "schedule.steps=2").returncode == 0
    file = run / "config.yaml"
    content = yaml.safe_load(file.read_text())
    loss = content["loss"]["classification"]
    loss |= {"leaf": loss.pop("kind"), "poly": None, "ghm": {"bins": 30, "momentum": 0.75}}
    file.write_text(yaml.safe_dump(content))
    resumed = tool("train", "--config", file, "--output", run, "--resume")
    assert resumed.returncode == 0 and "finished already" in resumed.stdout, resumed.stderr
    assert tool("evaluate", "--run", run).returncode == 0


def test_a_checkpoint_of_an_older_run_is_read(finished: Path, tmp_path: Path) -> None:
    state = torch.load(finished / "checkpoints/last.pt", weights_only=True)
    values = {"leaf.leaf.weights": torch.ones(10), "leaf.rare": torch.zeros(10)}
    state["criterion"] = {f"classification.{key}": value for key, value in values.items()}
    torch.save(state, tmp_path / "old.pt")
    assert list(checkpoint.load_state(tmp_path / "old.pt")["criterion"]) == [
        "classification.elementwise.elementwise.weights", "classification.elementwise.rare",
    ]  # fmt: skip
    state["criterion"] = {"classification.elementwise.leaf": torch.ones(1)}  # of a user's own loss
    torch.save(state, tmp_path / "own.pt")
    assert checkpoint.load_state(tmp_path / "own.pt")["criterion"].keys() == {
        "classification.elementwise.leaf"
    }
